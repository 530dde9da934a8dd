#include "common/spiffe/jwt_svid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/crypto/digest.h"
#include "common/jose/jwk.h"
#include "common/jose/jws.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::spiffe {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::SignerOf;
using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class JwtSvidTest : public ::testing::Test {
 protected:
  JwtSvidTest() {
    bundle_->jwt_authorities = {{.key_id = "k1", .key = key_.public_key()},
                                {.key_id = "rsa", .key = rsa_.public_key()}};
    foreign_->jwt_authorities = {{.key_id = "k1", .key = foreign_key_.public_key()}};
  }

  BundleOf Bundles() {
    return [this](const TrustDomain& td) -> std::shared_ptr<const Bundle> {
      if (td.name() == "td") return bundle_;
      if (td.name() == "foreign") return foreign_;
      return nullptr;
    };
  }

  // Any header over any claims, truly signed.
  std::string Sign(absl::string_view header, absl::string_view payload) {
    return *jose::SignCompact(header, payload, key_.type(), SignerOf(key_));
  }
  std::string SignHeader(absl::string_view header) { return Sign(header, Payload()); }
  std::string SignPayload(absl::string_view payload) {
    return Sign(R"({"alg":"ES256","kid":"k1","typ":"JWT"})", payload);
  }

  static std::string Payload(absl::string_view sub = "spiffe://td/w") {
    return absl::StrCat(R"({"aud":["a","b"],"exp":)", absl::ToUnixSeconds(kNow + absl::Minutes(5)), R"(,"sub":")", sub,
                        "\"}");
  }

  absl::StatusOr<ValidatedJwtSvid> Validate(absl::string_view token, absl::Time now = kNow) {
    return ValidateJwtSvid(token, "a", Bundles(), now);
  }

  JwtSvidClaims Claims() {
    return {.subject = *Id::Parse("spiffe://td/w"),
            .audience = {"a", "b"},
            .issued_at = kNow,
            .expires_at = kNow + absl::Minutes(5),
            .issuer = "",
            .jwt_id = ""};
  }

  crypto::PrivateKey key_ = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  crypto::PrivateKey rsa_ = *crypto::PrivateKey::Generate(crypto::KeyType::kRsa2048);
  crypto::PrivateKey foreign_key_ = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  std::shared_ptr<Bundle> bundle_ = std::make_shared<Bundle>(Bundle{*TrustDomain::Parse("td"), {}, {}});
  std::shared_ptr<Bundle> foreign_ = std::make_shared<Bundle>(Bundle{*TrustDomain::Parse("foreign"), {}, {}});
};

TEST_F(JwtSvidTest, ASignedTokenValidates) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::string token, SignJwtSvid(Claims(), "k1", key_.type(), SignerOf(key_)));
  SIGNET_ASSERT_OK_AND_ASSIGN(const ValidatedJwtSvid svid, Validate(token));
  EXPECT_EQ(svid.id.string(), "spiffe://td/w");
  EXPECT_THAT(svid.audience, ElementsAre("a", "b"));
  EXPECT_EQ(svid.expires_at, kNow + absl::Minutes(5));
  EXPECT_EQ(*svid.claims.issued_at, kNow);
  EXPECT_THAT(ValidateJwtSvid(token, "b", Bundles(), kNow), IsOk());
}

TEST_F(JwtSvidTest, TheHeaderHoldsThreeMembersAndNoOther) {  // JWT-5, JWT-7
  const std::string token = *SignJwtSvid(Claims(), "k1", key_.type(), SignerOf(key_));
  EXPECT_EQ(*jose::Base64UrlDecode(token.substr(0, token.find('.'))), R"({"alg":"ES256","kid":"k1","typ":"JWT"})");
}

TEST_F(JwtSvidTest, TheClaimsAreThoseAskedFor) {  // JWT-8, JWT-9, JWT-12
  JwtSvidClaims claims = Claims();
  EXPECT_EQ(jose::CompactJws::Parse(*SignJwtSvid(claims, "k1", key_.type(), SignerOf(key_)))->payload,
            R"({"aud":["a","b"],"exp":1800000300,"iat":1800000000,"sub":"spiffe://td/w"})");
  claims.issuer = "https://iss";
  claims.jwt_id = "id\"1";
  EXPECT_EQ(
      jose::CompactJws::Parse(*SignJwtSvid(claims, "k1", key_.type(), SignerOf(key_)))->payload,
      R"({"aud":["a","b"],"exp":1800000300,"iat":1800000000,"iss":"https://iss","jti":"id\"1","sub":"spiffe://td/w"})");
}

TEST_F(JwtSvidTest, DoesNotSignWhatWouldBreakTheStandard) {
  const auto sign = [&](const JwtSvidClaims& claims, absl::string_view kid = "k1") {
    return SignJwtSvid(claims, kid, key_.type(), SignerOf(key_));
  };
  JwtSvidClaims no_audience = Claims(), empty_audience = Claims(), expired = Claims(), root = Claims();
  no_audience.audience.clear();
  empty_audience.audience.push_back("");
  expired.expires_at = expired.issued_at;
  root.subject = *Id::Parse("spiffe://td");
  for (const JwtSvidClaims& claims : {no_audience, empty_audience, expired, root}) {
    EXPECT_THAT(sign(claims), StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_THAT(sign(Claims(), ""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(JwtSvidTest, TypIsAbsentJwtOrJose) {  // JWT-6
  for (absl::string_view header : {R"({"alg":"ES256","kid":"k1"})", R"({"alg":"ES256","kid":"k1","typ":"JWT"})",
                                   R"({"alg":"ES256","kid":"k1","typ":"JOSE"})"}) {
    EXPECT_THAT(Validate(SignHeader(header)), IsOk()) << header;
  }
  for (absl::string_view typ : {"jwt", "at+jwt", "wit+jwt", "", "JWT "}) {
    EXPECT_THAT(Validate(SignHeader(absl::StrCat(R"({"alg":"ES256","kid":"k1","typ":")", typ, "\"}"))),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("typ")))
        << typ;
  }
}

TEST_F(JwtSvidTest, RefusesBadHeaders) {  // JWT-3, JWT-4, JWT-5, JWT-7
  for (absl::string_view header : {R"({"alg":"none","kid":"k1"})",
                                   R"({"alg":"HS256","kid":"k1"})",
                                   R"({"alg":"EdDSA","kid":"k1"})",
                                   R"({"alg":"es256","kid":"k1"})",
                                   R"({"alg":"ES384","kid":"k1"})",
                                   R"({"alg":"ES512","kid":"k1"})",
                                   R"({"alg":"RS256","kid":"k1"})",
                                   R"({"alg":"PS256","kid":"k1"})",
                                   R"({"alg":"ES256","kid":"rsa"})",
                                   R"({"alg":"ES256"})",
                                   R"({"alg":"ES256","kid":""})",
                                   R"({"alg":"ES256","kid":"k2"})",
                                   R"({"alg":"ES256","kid":"K1"})",
                                   R"({"alg":"ES256","kid":["k1"]})",
                                   R"({"alg":"ES256","kid":"k1","crit":["exp"]})",
                                   R"({"alg":"ES256","kid":"k1","jku":"https://evil"})",
                                   R"({"alg":"ES256","kid":"k1","jwk":{}})",
                                   R"({"alg":"ES256","kid":"k1","x5c":["AA"]})",
                                   R"({"alg":"ES256","kid":"k1","x5u":"https://evil"})",
                                   R"({"alg":"ES256","kid":"k1","b64":false})",
                                   R"({"alg":"ES256","alg":"none","kid":"k1"})",
                                   R"({"kid":"k1"})"}) {
    EXPECT_THAT(Validate(SignHeader(header)), StatusIs(absl::StatusCode::kInvalidArgument)) << header;
  }
}

TEST_F(JwtSvidTest, RefusesAnHmacWithThePublicKey) {  // JWT-4: the classic confusion, CVE-2015-9235
  // A verifier that lets the header choose would take the public key's bytes for a shared secret.
  const std::string input = absl::StrCat(jose::Base64UrlEncode(R"({"alg":"HS256","kid":"rsa","typ":"JWT"})"), ".",
                                         jose::Base64UrlEncode(Payload()));
  const std::string mac = crypto::Sha256(absl::StrCat(rsa_.public_key().spki_der(), input));
  EXPECT_THAT(Validate(absl::StrCat(input, ".", jose::Base64UrlEncode(mac))),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("alg")));
}

TEST_F(JwtSvidTest, RefusesBadClaims) {  // JWT-8, JWT-9, JWT-10, JWT-12; N12
  const std::string good = Payload();
  ASSERT_THAT(Validate(SignPayload(good)), IsOk());
  const std::string exp = absl::StrCat("\"exp\":", absl::ToUnixSeconds(kNow + absl::Minutes(5)));
  const auto with = [&](absl::string_view from, absl::string_view to) {
    return absl::StrReplaceAll(good, {{from, to}});
  };
  const std::string aud = R"("aud":["a","b"])", sub = R"("sub":"spiffe://td/w")";
  for (const std::string& payload :
       {std::string("{}"), std::string("[]"), std::string("null"), std::string(""), std::string("{"), good + "x",
        good + good,
        // exp
        with(absl::StrCat(exp, ","), ""), with(exp, "\"exp\":null"), with(exp, "\"exp\":\"1800000300\""),
        with(exp, "\"exp\":1800000300.5"), with(exp, "\"exp\":1.8e9"), with(exp, "\"exp\":18446744073709551616"),
        with(exp, "\"exp\":9223372036854775808"), with(exp, "\"exp\":1e400"), with(exp, "\"exp\":-1"),
        with(exp, "\"exp\":0"), with(exp, "\"exp\":-9223372036854775808"), with(exp, "\"exp\":true"),
        with(exp, "\"exp\":[1800000300]"), with(exp, "\"exp\":1800000300,\"exp\":1800000300"),
        with(exp, "\"EXP\":1800000300"), with(exp, absl::StrCat(exp, ",\"nbf\":\"x\"")),
        with(exp, absl::StrCat(exp, ",\"nbf\":1800000100")), with(exp, absl::StrCat(exp, ",\"iat\":1800000100")),
        with(exp, absl::StrCat(exp, ",\"iat\":1.5")),
        // aud
        with(absl::StrCat(aud, ","), ""), with(aud, "\"aud\":[]"), with(aud, "\"aud\":null"), with(aud, "\"aud\":\"\""),
        with(aud, "\"aud\":\"A\""), with(aud, "\"aud\":\"a \""), with(aud, "\"aud\":\"a,b\""),
        with(aud, "\"aud\":[\"\"]"), with(aud, "\"aud\":[\"a\",1]"), with(aud, "\"aud\":[[\"a\"]]"),
        with(aud, "\"aud\":{\"a\":1}"), with(aud, "\"aud\":[\"c\"]"), with(aud, "\"aud\":\"*\""),
        with(aud, "\"aud\":1"),
        // sub
        with(absl::StrCat(",", sub), ""), with(sub, "\"sub\":null"), with(sub, "\"sub\":\"\""),
        with(sub, "\"sub\":\"w\""), with(sub, "\"sub\":[\"spiffe://td/w\"]"), with(sub, "\"sub\":\"https://td/w\""),
        with(sub, "\"sub\":\"spiffe://TD/w\""), with(sub, "\"sub\":\"spiffe://td/w/\""),
        with(sub, "\"sub\":\"spiffe://td/a/../w\""), with(sub, "\"sub\":\"spiffe://td/%77\""),
        with(sub, "\"sub\":\"spiffe://td/w\\u0000\""), with(sub, "\"sub\":\"spiffe://unknown/w\""),
        with(sub, absl::StrCat(sub, ",", sub))}) {
    EXPECT_THAT(Validate(SignPayload(payload)), StatusIs(absl::StatusCode::kInvalidArgument)) << payload;
  }
}

TEST_F(JwtSvidTest, AcceptsOtherClaimsAndAStringAudience) {  // JWT-9, JWT-14
  EXPECT_THAT(Validate(SignPayload(R"({"aud":"a","exp":1800000300,"sub":"spiffe://td/w","x":{"y":[null]},"iss":"i"})")),
              IsOk());
}

TEST_F(JwtSvidTest, AnEmptyAudienceMatchesNothing) {  // N15
  EXPECT_THAT(
      ValidateJwtSvid(SignPayload(R"({"aud":[""],"exp":1800000300,"sub":"spiffe://td/w"})"), "", Bundles(), kNow),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(JwtSvidTest, ExpiryHasALeewayOfAMinute) {  // JWT-13
  const std::string token =
      SignPayload(R"({"aud":"a","exp":1800000000,"nbf":1799999000,"iat":1799999000,"sub":"spiffe://td/w"})");
  EXPECT_THAT(Validate(token, kNow), IsOk());
  EXPECT_THAT(Validate(token, kNow + absl::Seconds(60)), IsOk());
  EXPECT_THAT(Validate(token, kNow + absl::Seconds(61)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expired")));
  const absl::Time start = absl::FromUnixSeconds(1799999000);
  EXPECT_THAT(Validate(token, start - absl::Seconds(60)), IsOk());
  EXPECT_THAT(Validate(token, start - absl::Seconds(61)), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(JwtSvidTest, TheLargestTimeDoesNotOverflow) {
  EXPECT_THAT(Validate(SignPayload(R"({"aud":"a","exp":9223372036854775807,"sub":"spiffe://td/w"})")), IsOk());
  EXPECT_THAT(Validate(SignPayload(R"({"aud":"a","exp":1800000300,"nbf":-9223372036854775808,"sub":"spiffe://td/w"})")),
              IsOk());
  EXPECT_THAT(Validate(SignPayload(R"({"aud":"a","exp":1800000300,"nbf":9223372036854775807,"sub":"spiffe://td/w"})")),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(JwtSvidTest, TheTrustDomainOfTheSubjectChoosesTheBundle) {  // JWT-19: one kid in two trust domains
  const std::string foreign_claims = Payload("spiffe://foreign/w");
  const std::string header = R"({"alg":"ES256","kid":"k1"})";
  EXPECT_THAT(Validate(Sign(header, foreign_claims)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Validate(*jose::SignCompact(header, foreign_claims, foreign_key_.type(), SignerOf(foreign_key_))),
              IsOk());
  EXPECT_THAT(Validate(*jose::SignCompact(header, Payload(), foreign_key_.type(), SignerOf(foreign_key_))),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(JwtSvidTest, OnlyJwtKeysOfABundleVerify) {  // JWT-18, WL-16
  boost::json::object jwk = jose::ToJwk(key_.public_key());
  jwk["kid"] = "k1";
  for (const char* use : {"wit-svid", "sig", "JWT-SVID"}) {
    jwk["use"] = use;
    const std::string document = boost::json::serialize(boost::json::object{{"keys", boost::json::array{jwk}}});
    *bundle_ = *Bundle::ParseJson(bundle_->trust_domain, document);
    EXPECT_THAT(Validate(SignPayload(Payload())), StatusIs(absl::StatusCode::kInvalidArgument)) << use;
  }
  jwk["use"] = "jwt-svid";
  *bundle_ = *Bundle::ParseJson(bundle_->trust_domain,
                                boost::json::serialize(boost::json::object{{"keys", boost::json::array{jwk}}}));
  EXPECT_THAT(Validate(SignPayload(Payload())), IsOk());
}

TEST_F(JwtSvidTest, AnEmptyBundleTrustsNothing) {  // BND-7
  bundle_->jwt_authorities.clear();
  EXPECT_THAT(Validate(SignPayload(Payload())), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(JwtSvidTest, EveryChangedByteIsRefused) {  // ID-16
  const std::string token = SignPayload(Payload());
  for (size_t i = 0; i < token.size(); ++i) {
    std::string changed = token;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(Validate(changed).ok()) << i;
  }
}

TEST_F(JwtSvidTest, CapsTheToken) {
  const std::string filler(16 * 1024, 'x');
  EXPECT_THAT(
      Validate(SignPayload(absl::StrCat(R"({"aud":"a","exp":1800000300,"sub":"spiffe://td/w","x":")", filler, "\"}"))),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
}

TEST_F(JwtSvidTest, ErrorsHoldNothingOfTheToken) {  // N13
  const std::string token = SignPayload(R"({"aud":"a","exp":1800000300,"sub":"secret-subject","jti":"secret-jti"})");
  EXPECT_THAT(Validate(token), StatusIs(absl::StatusCode::kInvalidArgument,
                                        AllOf(Not(HasSubstr("secret")), Not(HasSubstr(token.substr(0, 10))))));
  EXPECT_THAT(Validate("secret.secret.secret"), StatusIs(absl::StatusCode::kInvalidArgument, Not(HasSubstr("secret"))));
}

TEST_F(JwtSvidTest, AnUnverifiedReadKeepsTheRulesOfForm) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const ValidatedJwtSvid svid,
                              ParseUnverifiedJwtSvid(SignPayload(Payload("spiffe://other/w"))));
  EXPECT_EQ(svid.id.string(), "spiffe://other/w");
  EXPECT_THAT(ParseUnverifiedJwtSvid(SignPayload("{}")), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace signet::spiffe
