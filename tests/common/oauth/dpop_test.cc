#include "common/oauth/dpop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/jose/jwk.h"
#include "common/jose/jws.h"
#include "tests/common/oauth/sample.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::oauth {
namespace {

using sample::kNow;
using ::signet::testing::IsOk;
using ::signet::testing::SignerOf;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kUri[] = "https://id.example.org/oauth2/token";

class DpopTest : public ::testing::Test {
 protected:
  crypto::PrivateKey key = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);

  boost::json::object Header() const {
    boost::json::object header;
    header["alg"] = "ES256";
    header["typ"] = "dpop+jwt";
    header["jwk"] = jose::ToJwk(key.public_key());
    return header;
  }
  boost::json::object Claims() const {
    boost::json::object claims;
    claims["jti"] = "j-1";
    claims["htm"] = "POST";
    claims["htu"] = kUri;
    claims["iat"] = absl::ToUnixSeconds(kNow);
    return claims;
  }
  std::string Proof(const boost::json::object& header, const boost::json::object& claims) const {
    return *jose::SignCompact(boost::json::serialize(header), boost::json::serialize(claims), key.type(),
                              SignerOf(key));
  }
  absl::StatusOr<DpopProof> Judge(const boost::json::object& header, const boost::json::object& claims) const {
    return VerifyDpop(Proof(header, claims), "POST", kUri, "", kNow);
  }
};

TEST_F(DpopTest, WhatIsMadeIsGood) {
  for (crypto::KeyType type : {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384, crypto::KeyType::kRsa2048}) {
    const crypto::PrivateKey k = *crypto::PrivateKey::Generate(type);
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::string proof,
                                MakeDpop(k, "POST", absl::StrCat(kUri, "?q=1#f"), "token", "n-1", kNow));
    SIGNET_ASSERT_OK_AND_ASSIGN(const DpopProof read, VerifyDpop(proof, "POST", kUri, "token", kNow));
    EXPECT_EQ(read.jkt, jose::Thumbprint(k.public_key()));
    EXPECT_EQ(read.nonce, "n-1");
    EXPECT_EQ(read.issued_at, kNow);
    EXPECT_FALSE(read.jwt_id.empty());
  }
}

TEST_F(DpopTest, TheRfcsOwnProofIsGood) {  // RFC 9449 4.1, figure 2
  constexpr char kProof[] =
      "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
      "RjQyVVFVZldWQVdC"
      "RnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19."
      "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIi"
      "wiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-"
      "GxA6T8lP4vfrg8v-FdWP0A0zdrj8"
      "igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
  const auto read =
      VerifyDpop(kProof, "POST", "https://server.example.com/token", "", absl::FromUnixSeconds(1562262616));
  ASSERT_THAT(read, IsOk());
  EXPECT_EQ(read->jwt_id, "-BwC3ESc6acc2lTc");
  EXPECT_EQ(read->jkt, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");  // RFC 9449 6.1
}

TEST_F(DpopTest, EachRuleOfSection43) {
  ASSERT_THAT(Judge(Header(), Claims()), IsOk());
  const auto header = [&](const char* name, boost::json::value value) {
    boost::json::object changed = Header();
    changed[name] = std::move(value);
    return Judge(changed, Claims());
  };
  const auto claim = [&](const char* name, boost::json::value value) {
    boost::json::object changed = Claims();
    if (value.is_null()) {
      changed.erase(name);
    } else {
      changed[name] = std::move(value);
    }
    return Judge(Header(), changed);
  };
  EXPECT_THAT(header("typ", "JWT"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("typ")));  // item 4, T5
  EXPECT_THAT(header("typ", "at+jwt"), Not(IsOk()));
  for (const char* alg : {"none", "HS256", "ES512", "EdDSA", "ES384", "RS256"}) {  // item 5; the last two do not fit
    EXPECT_THAT(header("alg", alg), Not(IsOk())) << alg;
  }
  EXPECT_THAT(header("crit", boost::json::array{"x"}), Not(IsOk()));
  EXPECT_THAT(header("jku", "https://x"), Not(IsOk()));
  boost::json::object jwk = jose::ToJwk(key.public_key());
  jwk["d"] = "AA";
  EXPECT_THAT(header("jwk", jwk), Not(IsOk()));  // item 7
  EXPECT_THAT(header("jwk", jose::ToJwk(crypto::PrivateKey::Generate(crypto::KeyType::kEcP256)->public_key())),
              Not(IsOk()));
  EXPECT_THAT(claim("htm", "GET"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("htm")));  // item 8
  EXPECT_THAT(claim("htm", "post"), Not(IsOk()));
  EXPECT_THAT(claim("htu", "https://id.example.org/oauth2/introspect"), Not(IsOk()));  // item 9
  EXPECT_THAT(claim("htu", "http://id.example.org/oauth2/token"), Not(IsOk()));
  EXPECT_THAT(claim("htu", "HTTPS://ID.example.org:443/oauth2/token?a=b"), IsOk());
  EXPECT_THAT(claim("iat", absl::ToUnixSeconds(kNow) - 60), IsOk());  // item 11
  EXPECT_THAT(claim("iat", absl::ToUnixSeconds(kNow) - 61), Not(IsOk()));
  EXPECT_THAT(claim("iat", absl::ToUnixSeconds(kNow) + 61), Not(IsOk()));
  EXPECT_THAT(claim("iat", 1.8e9), Not(IsOk()));
  for (const char* name : {"jti", "htm", "htu", "iat"})
    EXPECT_THAT(claim(name, nullptr), Not(IsOk())) << name;  // item 3
  EXPECT_THAT(claim("jti", boost::json::string(257, 'x')), Not(IsOk()));
  EXPECT_THAT(claim("x", boost::json::string(8192, 'x')), Not(IsOk()));
}

TEST_F(DpopTest, AProofIsOfOneToken) {  // item 12a
  const std::string proof = *MakeDpop(key, "GET", kUri, "token", "", kNow);
  EXPECT_THAT(VerifyDpop(proof, "GET", kUri, "token", kNow), IsOk());
  EXPECT_THAT(VerifyDpop(proof, "GET", kUri, "another", kNow), Not(IsOk()));
  EXPECT_THAT(VerifyDpop(*MakeDpop(key, "GET", kUri, "", "", kNow), "GET", kUri, "token", kNow), Not(IsOk()));
}

TEST_F(DpopTest, NoChangedByteIsGood) {
  const std::string proof = Proof(Header(), Claims());
  for (size_t i = 0; i < proof.size(); ++i) {
    std::string changed = proof;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_THAT(VerifyDpop(changed, "POST", kUri, "", kNow), StatusIs(absl::StatusCode::kInvalidArgument)) << i;
  }
}

}  // namespace
}  // namespace signet::oauth
