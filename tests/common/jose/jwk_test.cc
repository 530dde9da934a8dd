#include "common/jose/jwk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace signet::jose {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;

boost::json::object Object(absl::string_view text) {
  return boost::json::parse(boost::json::string_view(text.data(), text.size())).as_object();
}

// RFC 7638 3.1
constexpr absl::string_view kRsa =
    R"({"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPeb)"
    R"(WKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c)"
    R"(7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-)"
    R"(kEgU8awapJzKnqDKgw","e":"AQAB"})";
// RFC 7515 A.3.1
constexpr absl::string_view kEc =
    R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})";

TEST(JwkTest, ThumbprintMatchesTheRfcExample) {
  EXPECT_EQ(Thumbprint(*ParseJwk(Object(kRsa))), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

TEST(JwkTest, ReadsWhatItWrites) {
  for (absl::string_view text : {kRsa, kEc}) EXPECT_EQ(ToJwk(*ParseJwk(Object(text))), Object(text));
  for (auto type : {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384, crypto::KeyType::kEcP521,
                    crypto::KeyType::kRsa2048, crypto::KeyType::kEd25519}) {
    SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::PrivateKey key, crypto::PrivateKey::Generate(type));
    const auto again = ParseJwk(ToJwk(key.public_key()));
    ASSERT_THAT(again, IsOk()) << crypto::KeyTypeName(type);
    EXPECT_EQ(*again, key.public_key());
  }
}

TEST(JwkTest, CoordinatesKeepTheirLeadingZeros) {  // RFC 7518 6.2.1.2: the full width of the curve
  for (int i = 0; i < 600; ++i) {                  // one key in 128 has such a coordinate
    const crypto::PublicKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256)->public_key();
    const boost::json::object jwk = ToJwk(key);
    ASSERT_EQ(jwk.at("x").as_string().size(), 43u);
    ASSERT_EQ(jwk.at("y").as_string().size(), 43u);
  }
}

TEST(JwkTest, NamesKeysItDoesNotKnow) {  // BND-6: a set's reader skips them
  for (absl::string_view text :
       {R"({"kty":"oct","k":"AAAA"})", R"({"kty":"OKP","crv":"X25519","x":"AAAA"})", R"({"kty":"ec"})", R"({"kty":""})",
        R"({"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"})", R"({"kty":"EC","crv":"p-256","x":"AA","y":"AA"})"}) {
    EXPECT_THAT(ParseJwk(Object(text)), StatusIs(absl::StatusCode::kUnimplemented)) << text;
  }
}

TEST(JwkTest, RefusesMalformedKeys) {
  boost::json::object off_curve = Object(kEc);
  off_curve["y"] = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a1";
  boost::json::object padded = Object(kEc);
  padded["x"] = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU=";
  boost::json::object shorter = Object(kEc);
  shorter["x"] = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVA";
  boost::json::object number = Object(kEc);
  number["x"] = 1;
  boost::json::object curve_of_another = Object(kEc);
  curve_of_another["crv"] = "P-384";
  boost::json::object no_y = Object(kEc);
  no_y.erase("y");
  boost::json::object small_rsa = Object(kRsa);
  small_rsa["n"] = std::string(171, 'v');  // 1024 bits
  boost::json::object large_rsa = Object(kRsa);
  large_rsa["n"] = std::string(1400, 'v');
  boost::json::object exponent_one = Object(kRsa);
  exponent_one["e"] = "AQ";
  for (const boost::json::object& jwk :
       {off_curve, padded, shorter, number, curve_of_another, no_y, small_rsa, large_rsa, exponent_one, Object("{}"),
        Object(R"({"kty":7})"), Object(R"({"kty":"EC"})")}) {
    EXPECT_THAT(ParseJwk(jwk), StatusIs(absl::StatusCode::kInvalidArgument)) << boost::json::serialize(jwk);
  }
}

TEST(JwkTest, RefusesPrivateMembers) {
  for (const char* member : {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}) {
    boost::json::object jwk = Object(kRsa);
    jwk[member] = "AQAB";
    EXPECT_THAT(ParseJwk(jwk), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("private"))) << member;
  }
}

}  // namespace
}  // namespace signet::jose
