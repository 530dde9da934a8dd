#include "common/spiffe/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/jose/jwk.h"
#include "common/jose/jws.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::spiffe {
namespace {

using ::signet::testing::CaTemplate;
using ::signet::testing::IsOk;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::SelfSigned;
using ::signet::testing::StatusIs;
using ::signet::testing::TestCert;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class BundleTest : public ::testing::Test {
 protected:
  absl::StatusOr<Bundle> Parse(absl::string_view json) { return Bundle::ParseJson(td_, json); }
  absl::StatusOr<Bundle> ParseKeys(std::vector<boost::json::object> keys) {
    boost::json::array list;
    for (auto& key : keys) list.push_back(std::move(key));
    return Parse(boost::json::serialize(boost::json::object{{"keys", std::move(list)}}));
  }
  boost::json::object X509Key(const TestCert& cert) {
    boost::json::object jwk = jose::ToJwk(cert.certificate.public_key());
    jwk["use"] = "x509-svid";
    jwk["x5c"] = boost::json::array{boost::json::value(absl::Base64Escape(cert.certificate.der()))};
    return jwk;
  }
  boost::json::object JwtKey(absl::string_view kid, const crypto::PublicKey& key) {
    boost::json::object jwk = jose::ToJwk(key);
    jwk["use"] = "jwt-svid";
    jwk["kid"] = std::string(kid);
    return jwk;
  }
  Bundle Full() {
    return {.trust_domain = td_,
            .x509_authorities = {{.certificate = root_.certificate}, {.certificate = root2_.certificate}},
            .jwt_authorities = {{.key_id = "k1", .key = key_.public_key()}, {.key_id = "k2", .key = rsa_.public_key()}},
            .refresh_hint = absl::Seconds(300),
            .sequence_number = uint64_t{1} << 40};
  }

  TrustDomain td_ = *TrustDomain::Parse("td");
  TestCert root_ = SelfSigned(CaTemplate("one", kNow));
  TestCert root2_ = SelfSigned(CaTemplate("two", kNow), crypto::KeyType::kRsa2048);
  crypto::PrivateKey key_ = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  crypto::PrivateKey rsa_ = *crypto::PrivateKey::Generate(crypto::KeyType::kRsa2048);
};

TEST_F(BundleTest, ReadsWhatItWrites) { EXPECT_THAT(Parse(Full().ToSpiffeJson()), IsOkAndHolds(Full())); }

TEST_F(BundleTest, TheDocumentIsThePublishedOne) {  // BND-8, BND-10, BND-11, JWT-16: the golden document
  Bundle bundle = Full();
  bundle.x509_authorities.pop_back();
  bundle.jwt_authorities.pop_back();
  const auto member = [](const crypto::PublicKey& key, const char* name) {
    return std::string(jose::ToJwk(key).at(name).as_string());
  };
  EXPECT_EQ(
      bundle.ToSpiffeJson(),
      absl::StrReplaceAll(R"({"keys":[{"kty":"EC","crv":"P-256","x":"X1","y":"Y1","use":"x509-svid","x5c":["DER"]},)"
                          R"({"kty":"EC","crv":"P-256","x":"X2","y":"Y2","use":"jwt-svid","kid":"k1"}],)"
                          R"("spiffe_sequence":1099511627776,"spiffe_refresh_hint":300})",
                          {{"X1", member(root_.certificate.public_key(), "x")},
                           {"Y1", member(root_.certificate.public_key(), "y")},
                           {"DER", absl::Base64Escape(root_.certificate.der())},
                           {"X2", member(key_.public_key(), "x")},
                           {"Y2", member(key_.public_key(), "y")}}));
}

TEST_F(BundleTest, AnEmptyBundleIsAnEmptyArray) {  // BND-1
  EXPECT_EQ((Bundle{td_, {}, {}}.ToSpiffeJson()), R"({"keys":[]})");
  EXPECT_EQ((Bundle{td_, {}, {}}.ToJwtJwks()), R"({"keys":[]})");
  SIGNET_ASSERT_OK_AND_ASSIGN(const Bundle bundle, Parse(R"({"keys":[]})"));
  EXPECT_TRUE(bundle.x509_authorities.empty());
  EXPECT_EQ(bundle.refresh_hint, absl::ZeroDuration());  // BND-4: the consumer's default holds
}

TEST_F(BundleTest, RefusesDocumentsThatAreNoBundle) {  // BND-1
  for (absl::string_view json :
       {"", "[]", "null", "{}", R"({"keys":null})", R"({"keys":{}})", R"({"keys":[1]})", R"({"keys":[]}x)",
        R"({"keys":[],"keys":[]})", R"({"keys":[],"spiffe_sequence":-1})", R"({"keys":[],"spiffe_sequence":1.5})",
        R"({"keys":[],"spiffe_sequence":"1"})", R"({"keys":[],"spiffe_sequence":18446744073709551616})",
        R"({"keys":[],"spiffe_refresh_hint":-1})", R"({"keys":[],"spiffe_refresh_hint":"5m"})",
        R"({"keys":[{"kty":1}]})", R"({"keys":[{"kty":"EC","use":1}]})", R"({"keys":[{"kty":"EC","kid":1}]})"}) {
    EXPECT_THAT(Parse(json), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"td\""))) << json;
  }
}

TEST_F(BundleTest, TheSequenceIsOf64Bits) {  // BND-3
  EXPECT_EQ(Parse(R"({"keys":[],"spiffe_sequence":1099511627776})")->sequence_number, uint64_t{1} << 40);
  EXPECT_EQ(Parse(R"({"keys":[],"spiffe_sequence":18446744073709551615})")->sequence_number, UINT64_MAX);
}

TEST_F(BundleTest, AHugeHintIsTakenAsAYear) {
  EXPECT_EQ(Parse(R"({"keys":[],"spiffe_refresh_hint":18446744073709551615})")->refresh_hint, absl::Hours(365 * 24));
}

TEST_F(BundleTest, TheHintIsRoundedUpToSeconds) {  // BND-4
  Bundle bundle{td_, {}, {}};
  bundle.refresh_hint = absl::Milliseconds(1500);
  EXPECT_THAT(bundle.ToSpiffeJson(), HasSubstr("\"spiffe_refresh_hint\":2"));
}

TEST_F(BundleTest, IgnoresKeysOfUnknownTypeOrUse) {  // BND-6
  boost::json::object sig = JwtKey("a", key_.public_key()), no_use = sig, upper = X509Key(root_), no_kty = sig;
  sig["use"] = "sig";
  no_use.erase("use");
  upper["use"] = "X509-SVID";
  no_kty.erase("kty");
  const boost::json::object okp = {{"kty", "OKP"}, {"crv", "X25519"}, {"x", "AAAA"}, {"use", "jwt-svid"}, {"kid", "o"}};
  const boost::json::object future = {{"kty", "ML-DSA"}, {"use", "x509-svid"}, {"x5c", boost::json::array{"AAAA"}}};
  const boost::json::object oct = {{"kty", "oct"}, {"k", "AAAA"}, {"use", "jwt-svid"}, {"kid", "s"}};
  const boost::json::object curve = {{"kty", "EC"}, {"crv", "secp256k1"}, {"use", "jwt-svid"}, {"kid", "c"}};
  SIGNET_ASSERT_OK_AND_ASSIGN(const Bundle bundle, ParseKeys({sig, no_use, upper, no_kty, okp, future, oct, curve,
                                                              X509Key(root_), JwtKey("k1", key_.public_key())}));
  ASSERT_EQ(bundle.x509_authorities.size(), 1u);
  EXPECT_EQ(bundle.x509_authorities[0].certificate, root_.certificate);
  ASSERT_EQ(bundle.jwt_authorities.size(), 1u);
  EXPECT_EQ(bundle.jwt_authorities[0].key_id, "k1");
}

TEST_F(BundleTest, OfX5cTheFirstCertificateCounts) {  // BND-9
  boost::json::object absent = X509Key(root_), empty = X509Key(root_), two = X509Key(root_);
  absent.erase("x5c");
  empty["x5c"] = boost::json::array();
  two["x5c"].as_array().push_back(boost::json::value(absl::Base64Escape(root2_.certificate.der())));
  EXPECT_TRUE(ParseKeys({absent})->x509_authorities.empty());
  EXPECT_TRUE(ParseKeys({empty})->x509_authorities.empty());
  SIGNET_ASSERT_OK_AND_ASSIGN(const Bundle bundle, ParseKeys({two}));
  ASSERT_EQ(bundle.x509_authorities.size(), 1u);
  EXPECT_EQ(bundle.x509_authorities[0].certificate, root_.certificate);
}

TEST_F(BundleTest, RefusesMalformedX509Keys) {
  const std::string der = absl::Base64Escape(root_.certificate.der());
  const auto with_x5c = [&](boost::json::value x5c) {
    boost::json::object jwk = X509Key(root_);
    jwk["x5c"] = std::move(x5c);
    return jwk;
  };
  boost::json::object other_key = X509Key(root_);
  for (const auto& member : jose::ToJwk(key_.public_key())) other_key[member.key()] = member.value();  // RFC 7517 4.7
  boost::json::object private_key = X509Key(root_);
  private_key["d"] = "AAAA";
  for (const boost::json::object& jwk :
       {with_x5c("AAAA"), with_x5c({1}), with_x5c({"!!"}), with_x5c({"AAAA"}), with_x5c({der + "="}),
        with_x5c({absl::StrCat(der.substr(0, 64), "\n", der.substr(64))}), with_x5c({absl::StrCat(der, "AAAA")}),
        with_x5c({root_.certificate.Pem()}), other_key, private_key}) {
    EXPECT_THAT(ParseKeys({jwk}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("keys[0]")));
  }
}

TEST_F(BundleTest, JwtAndWitKeysNeedAKid) {  // BND-10: go-spiffe fails the whole document on it
  for (const char* use : {"jwt-svid", "wit-svid"}) {
    boost::json::object jwk = JwtKey("k", key_.public_key());
    jwk["use"] = use;
    EXPECT_THAT(ParseKeys({jwk}), IsOk());
    jwk["kid"] = "";
    EXPECT_THAT(ParseKeys({jwk}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("kid")));
    jwk.erase("kid");
    EXPECT_THAT(ParseKeys({X509Key(root_), jwk}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("keys[1]")));
  }
}

TEST_F(BundleTest, WitKeysAreNotJwtKeys) {  // WIT-17
  boost::json::object jwk = JwtKey("k", key_.public_key());
  jwk["use"] = "wit-svid";
  EXPECT_TRUE(ParseKeys({jwk})->jwt_authorities.empty());
}

TEST_F(BundleTest, OneKidIsOneKey) {  // JWT-17
  EXPECT_EQ(ParseKeys({JwtKey("k", key_.public_key()), JwtKey("k", key_.public_key())})->jwt_authorities.size(), 1u);
  EXPECT_THAT(ParseKeys({JwtKey("k", key_.public_key()), JwtKey("k", rsa_.public_key())}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("two keys share")));
  EXPECT_EQ(ParseKeys({X509Key(root_), X509Key(root_)})->x509_authorities.size(), 1u);
}

TEST_F(BundleTest, CapsTheDocument) {
  EXPECT_THAT(Parse(std::string((4 << 20) + 1, ' ')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
  std::string many = R"({"keys":[)";
  for (int i = 0; i < 1001; ++i) absl::StrAppend(&many, i == 0 ? "" : ",", "{}");
  EXPECT_THAT(Parse(many + "]}"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 1000 keys")));
}

TEST_F(BundleTest, ExtraMembersChangeNothing) {  // BND-5
  EXPECT_THAT(Parse(R"({"keys":[],"x":{"y":[1]},"spiffe_sequence":7})"), IsOk());
}

TEST_F(BundleTest, TheJwksHoldsJwtKeysAlone) {  // WL-21
  const boost::json::value jwks = boost::json::parse(Full().ToJwtJwks());
  ASSERT_EQ(jwks.as_object().size(), 1u);
  const boost::json::array& keys = jwks.at("keys").as_array();
  ASSERT_EQ(keys.size(), 2u);
  for (const boost::json::value& key : keys) {
    EXPECT_EQ(key.at("use").as_string(), "jwt-svid");
    EXPECT_FALSE(key.at("kid").as_string().empty());
  }
}

TEST_F(BundleTest, ReadsPemOrJson) {
  Bundle x509_only = Full();
  x509_only.jwt_authorities.clear();
  x509_only.sequence_number = 0;
  x509_only.refresh_hint = absl::ZeroDuration();
  EXPECT_THAT(Bundle::ParsePemOrJson(td_, x509_only.ToPem()), IsOkAndHolds(x509_only));
  EXPECT_THAT(Bundle::ParsePemOrJson(td_, absl::StrCat("\n # roots\n", x509_only.ToPem())), IsOkAndHolds(x509_only));
  EXPECT_THAT(Bundle::ParsePemOrJson(td_, absl::StrCat(" \n", Full().ToSpiffeJson())), IsOkAndHolds(Full()));
  EXPECT_THAT(Bundle::ParsePem(td_, x509_only.ToPem() + x509_only.ToPem()), IsOkAndHolds(x509_only));
  EXPECT_THAT(Bundle::ParsePemOrJson(td_, ""), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Bundle::ParsePemOrJson(td_, "x"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(Full().X509Der(), root_.certificate.der() + root2_.certificate.der());
}

TEST_F(BundleTest, TheRevisionFollowsTheContent) {
  const std::string revision = Full().Revision();
  EXPECT_EQ(revision.size(), 64u);
  EXPECT_EQ(Full().Revision(), revision);
  Bundle reordered = Full();
  std::swap(reordered.x509_authorities[0], reordered.x509_authorities[1]);
  EXPECT_EQ(reordered.Revision(), revision);
  std::vector<Bundle> changed(10, Full());
  changed[0].x509_authorities.pop_back();
  changed[1].x509_authorities[0].tainted = true;
  changed[2].jwt_authorities.pop_back();
  changed[3].jwt_authorities[0].tainted = true;
  changed[4].jwt_authorities[0].key_id = "k3";
  changed[5].jwt_authorities[0].key = rsa_.public_key();
  changed[6].jwt_authorities[0].expires_at = kNow;
  changed[7].refresh_hint = absl::Seconds(60);
  changed[8].sequence_number += 1;
  changed[9].trust_domain = *TrustDomain::Parse("other");
  for (size_t i = 0; i < changed.size(); ++i) EXPECT_NE(changed[i].Revision(), revision) << i;
}

TEST_F(BundleTest, AnchorsAreTheX509Authorities) {
  const TestCert leaf = testing::IssuedBy(root2_, testing::LeafTemplate("spiffe://td/w", kNow));
  SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::TrustAnchors anchors, Full().Anchors());
  EXPECT_THAT(anchors.Verify({&leaf.certificate, 1}, kNow), IsOk());
  EXPECT_FALSE((Bundle{td_, {}, {}}.Anchors()->Verify({&leaf.certificate, 1}, kNow).ok()));  // BND-7
}

}  // namespace
}  // namespace signet::spiffe
