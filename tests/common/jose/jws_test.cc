#include "common/jose/jws.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/jose/jwk.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::jose {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;

// RFC 7515 A.3
constexpr absl::string_view kRfcToken =
    "eyJhbGciOiJFUzI1NiJ9."
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
constexpr absl::string_view kRfcKey =
    R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})";

TEST(Base64UrlTest, HasOneSpellingForEachValue) {
  EXPECT_EQ(Base64UrlEncode("\xff\xfe\xfd"), "__79");
  EXPECT_EQ(Base64UrlEncode("a"), "YQ");
  EXPECT_THAT(Base64UrlDecode("YQ"), IsOkAndHolds(std::string("a")));
  EXPECT_THAT(Base64UrlDecode(""), IsOkAndHolds(std::string()));
  for (absl::string_view text : {"YQ==", "YR", "Y", "YQ\n", " YQ", "Y Q", "a+b/", "YQ=", "YWJ", "YWJjZ"}) {
    EXPECT_THAT(Base64UrlDecode(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

TEST(CompactJwsTest, VerifiesTheRfcExample) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const CompactJws jws, CompactJws::Parse(kRfcToken));
  EXPECT_EQ(jws.header.algorithm, "ES256");
  EXPECT_FALSE(jws.header.key_id.has_value());
  const boost::json::value jwk = boost::json::parse(boost::json::string_view(kRfcKey.data(), kRfcKey.size()));
  SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PublicKey key, ParseJwk(jwk.as_object()));
  EXPECT_THAT(jws.Verify(key), IsOk());
}

TEST(CompactJwsTest, NoChangedByteVerifies) {  // ID-16
  const boost::json::value jwk = boost::json::parse(boost::json::string_view(kRfcKey.data(), kRfcKey.size()));
  const crypto::PublicKey key = *ParseJwk(jwk.as_object());
  for (size_t i = 0; i < kRfcToken.size(); ++i) {
    std::string token(kRfcToken);
    token[i] = token[i] == 'A' ? 'B' : 'A';
    const auto jws = CompactJws::Parse(token);
    EXPECT_FALSE(jws.ok() && jws->Verify(key).ok()) << i;
  }
}

std::string Token(absl::string_view header) {
  return absl::StrCat(Base64UrlEncode(header), ".", Base64UrlEncode("{}"), ".", Base64UrlEncode(std::string(64, 's')));
}

TEST(CompactJwsTest, TakesTheNineAlgorithmsAndNoOther) {  // JWT-3, JWT-4
  for (absl::string_view name : {"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}) {
    EXPECT_THAT(CompactJws::Parse(Token(absl::StrCat("{\"alg\":\"", name, "\"}"))), IsOk()) << name;
  }
  for (absl::string_view name : {"none", "None", "NONE", "", "HS256", "HS384", "HS512", "EdDSA", "es256", "ES256K",
                                 "RS1", "RSA-OAEP", "dir", "ES256 ", "ES256\\u0000"}) {
    EXPECT_THAT(CompactJws::Parse(Token(absl::StrCat("{\"alg\":\"", name, "\"}"))),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("alg")))
        << name;
  }
}

TEST(CompactJwsTest, RefusesHeadersThatAreNotOurs) {  // JWT-7
  for (absl::string_view header :
       {R"({})", R"([])", R"("ES256")", R"({"alg":null})", R"({"alg":["ES256"]})", R"({"alg":"ES256","alg":"ES256"})",
        R"({"alg":"ES256","crit":[]})", R"({"alg":"ES256","crit":["exp"]})", R"({"alg":"ES256","jwk":{}})",
        R"({"alg":"ES256","jku":"https://evil"})", R"({"alg":"ES256","x5u":"https://evil"})",
        R"({"alg":"ES256","x5c":[]})", R"({"alg":"ES256","b64":false})", R"({"alg":"ES256","kid":7})",
        R"({"alg":"ES256","typ":null})",
        R"({"alg":"ES256"} )"
        "x",
        "", "{", "{\"alg\":\"ES256\"}{}"}) {
    EXPECT_THAT(CompactJws::Parse(Token(header)), StatusIs(absl::StatusCode::kInvalidArgument)) << header;
  }
  // Unknown ones change nothing (go-spiffe's reading).
  EXPECT_THAT(CompactJws::Parse(Token(R"({"alg":"ES256","x5t":"AA","cty":"x","zzz":{"a":[1]}})")), IsOk());
}

TEST(CompactJwsTest, RefusesOtherShapes) {  // JWT-1, JWT-2
  const std::string good = Token(R"({"alg":"ES256"})");
  ASSERT_THAT(CompactJws::Parse(good), IsOk());
  const std::string header = Base64UrlEncode(R"({"alg":"ES256"})");
  for (const std::string& token :
       {std::string(), std::string("."), std::string(".."), std::string("..."), header, absl::StrCat(header, ".e30"),
        absl::StrCat(header, ".e30."), absl::StrCat(good, "."), absl::StrCat(good, ".a.b"), absl::StrCat(" ", good),
        absl::StrCat(good, "\n"), absl::StrCat(good, "="), absl::StrCat("Bearer ", good),
        absl::StrCat(R"({"payload":"e30","signatures":[{"protected":")", header, R"(","signature":"AA"}]})"),
        absl::StrCat(R"({"payload":"e30","protected":")", header, R"(","signature":"AA"})")}) {
    EXPECT_THAT(CompactJws::Parse(token), StatusIs(absl::StatusCode::kInvalidArgument)) << token;
  }
}

TEST(CompactJwsTest, CapsTheSizeBeforeDecoding) {
  const std::string good = Token(R"({"alg":"ES256"})");
  EXPECT_THAT(CompactJws::Parse(good, good.size()), IsOk());
  EXPECT_THAT(CompactJws::Parse(good, good.size() - 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
  EXPECT_THAT(CompactJws::Parse(std::string(16 * 1024 + 1, 'a')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
}

TEST(SignCompactTest, SignsWithEachKeyTypeOfOurs) {
  for (auto [type, name] : {std::pair{crypto::KeyType::kEcP256, "ES256"},
                            {crypto::KeyType::kEcP384, "ES384"},
                            {crypto::KeyType::kRsa2048, "RS256"}}) {
    SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PrivateKey key, crypto::PrivateKey::Generate(type));
    EXPECT_THAT(AlgorithmFor(type), IsOkAndHolds(absl::string_view(name)));
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::string token, SignCompact(absl::StrCat("{\"alg\":\"", name, "\"}"),
                                                                     R"({"a":1})", type, testing::SignerOf(key)));
    SIGNET_ASSERT_OK_AND_ASSIGN(const CompactJws jws, CompactJws::Parse(token));
    EXPECT_EQ(jws.payload, R"({"a":1})");
    EXPECT_THAT(jws.Verify(key.public_key()), IsOk()) << name;
    EXPECT_THAT(jws.Verify(crypto::PrivateKey::Generate(type)->public_key()),
                StatusIs(absl::StatusCode::kPermissionDenied));
  }
  EXPECT_THAT(AlgorithmFor(crypto::KeyType::kEd25519), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(CompactJwsTest, TheKeyDecidesWhichAlgorithmsFit) {  // N12: alg confusion
  const std::vector<crypto::KeyType> types = {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384,
                                              crypto::KeyType::kEcP521, crypto::KeyType::kRsa2048,
                                              crypto::KeyType::kEd25519};
  std::vector<crypto::PrivateKey> keys;
  for (auto type : types) keys.push_back(*crypto::PrivateKey::Generate(type));
  for (absl::string_view name : {"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}) {
    const auto hash = name.substr(2) == "256"   ? crypto::HashAlgorithm::kSha256
                      : name.substr(2) == "384" ? crypto::HashAlgorithm::kSha384
                                                : crypto::HashAlgorithm::kSha512;
    const auto padding = name[0] == 'P' ? crypto::RsaPadding::kPss : crypto::RsaPadding::kPkcs1;
    const auto fits = [&](crypto::KeyType type) {
      if (name == "ES256") return type == crypto::KeyType::kEcP256;
      if (name == "ES384") return type == crypto::KeyType::kEcP384;
      if (name == "ES512") return type == crypto::KeyType::kEcP521;
      return type == crypto::KeyType::kRsa2048;
    };
    for (const crypto::PrivateKey& key : keys) {
      const std::string input = absl::StrCat(Base64UrlEncode(absl::StrCat("{\"alg\":\"", name, "\"}")), ".e30");
      auto signature = key.Sign(hash, input, padding);
      if (!signature.ok()) continue;  // a pair that cannot even be made
      const size_t width = name == "ES512" ? 66 : name == "ES384" ? 48 : 32;
      if (name[0] == 'E') {  // a genuine signature in the shape the header announces, whatever made it
        std::string shaped(2 * width, '\x01');
        if (fits(key.type())) {
          const auto token =
              SignCompact(absl::StrCat("{\"alg\":\"", name, "\"}"), "{}", key.type(), testing::SignerOf(key));
          if (token.ok()) shaped = CompactJws::Parse(*token)->signature;
        }
        signature = shaped;
      }
      SIGNET_ASSERT_OK_AND_ASSIGN(const CompactJws jws,
                                  CompactJws::Parse(absl::StrCat(input, ".", Base64UrlEncode(*signature))));
      const bool expected = fits(key.type()) && name != "ES512";  // nothing of ours signs ES512; see the next test
      EXPECT_EQ(jws.Verify(key.public_key()).ok(), expected) << name << " " << crypto::KeyTypeName(key.type());
    }
  }
}

TEST(CompactJwsTest, RefusesEcdsaSignaturesInOtherShapes) {
  const crypto::PrivateKey key = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  const std::string input = absl::StrCat(Base64UrlEncode(R"({"alg":"ES256"})"), ".e30");
  const std::string der = *key.Sign(crypto::HashAlgorithm::kSha256, input);
  const std::string good =
      CompactJws::Parse(*SignCompact(R"({"alg":"ES256"})", "{}", key.type(), testing::SignerOf(key)))->signature;
  for (const std::string& signature : {der, good.substr(0, 63), absl::StrCat(good, "x"), std::string(64, '\0'),
                                       absl::StrCat(std::string(32, '\0'), good.substr(32)), std::string(64, '\xff')}) {
    const CompactJws jws = *CompactJws::Parse(absl::StrCat(input, ".", Base64UrlEncode(signature)));
    EXPECT_THAT(jws.Verify(key.public_key()), StatusIs(absl::StatusCode::kPermissionDenied));
  }
}

}  // namespace
}  // namespace signet::jose
