#include "common/oauth/access_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/jose/jws.h"
#include "tests/common/oauth/sample.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::oauth {
namespace {

using sample::kIssuer;
using sample::kNow;
using ::signet::testing::IsOk;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::SignerOf;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

struct Signing {
  crypto::PrivateKey key = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  Keys keys = {{"k1", key.public_key()}};
  std::string SignedWith(const std::string& header, const std::string& payload) const {
    return *jose::SignCompact(header, payload, key.type(), SignerOf(key));
  }
  std::string Of(const AccessToken& token) const { return *Sign(token, "k1", key.type(), SignerOf(key)); }
};

boost::json::object Claims(const AccessToken& token) { return boost::json::parse(ClaimsJson(token)).as_object(); }
absl::StatusOr<AccessToken> Reread(const boost::json::object& claims) {
  return ParseClaims(boost::json::serialize(claims));
}

TEST(AccessTokenTest, SignedAndReadItIsTheSame) {
  const Signing s;
  AccessToken token = sample::Token();
  SIGNET_ASSERT_OK_AND_ASSIGN(const AccessToken read, Verify(s.Of(token), s.keys, kIssuer, kNow));
  token.key_id = "k1";
  EXPECT_EQ(read, token);
}

TEST(AccessTokenTest, RsaKeysSignToo) {
  const crypto::PrivateKey key = *crypto::PrivateKey::Generate(crypto::KeyType::kRsa2048);
  const std::string token = *Sign(sample::Token(), "r", key.type(), SignerOf(key));
  EXPECT_THAT(Verify(token, {{"r", key.public_key()}}, kIssuer, kNow), IsOk());
}

TEST(AccessTokenTest, ClaimsAreThoseOfTheRfcs) {
  const boost::json::object claims = Claims(sample::Token());
  EXPECT_EQ(claims.at("client_id"), sample::kWorkerId);      // RFC 9068 2.2
  EXPECT_EQ(claims.at("act").at("sub"), sample::kWorkerId);  // RFC 8693 4.1, outermost: who presents now
  EXPECT_EQ(claims.at("act").at("act").at("sub"), sample::kPlannerId);
  EXPECT_EQ(claims.at("act").at("sub_profile"), "ai_agent");
  EXPECT_EQ(claims.at("cnf").at("jkt"), sample::Token().binding.jkt.c_str());  // RFC 9449 6.1
  EXPECT_EQ(claims.at("authorization_details").at(0).at("type"), "mcp_tool_call");
  EXPECT_EQ(claims.at("authorization_details").at(0).at("max_calls"), 50);
  EXPECT_EQ(claims.at("permissions").at(0).at("actions").at(0), "orders:read");
  EXPECT_EQ(claims.at("agent_ctx").at("rev"), 17);
}

TEST(AccessTokenTest, OwnAuthorityHasNoActAndNoUser) {
  AccessToken token = sample::Token();
  token.subject = token.client_id;
  token.subject_profile = "ai_agent";
  token.actors.clear();
  token.context = {.depth = 1, .max_depth = 1, .root = token.jwt_id};
  EXPECT_THAT(ParseClaims(ClaimsJson(token)), IsOkAndHolds(token));
  EXPECT_TRUE(IsOwnAuthority(token));
  EXPECT_FALSE(IsOwnAuthority(sample::Token()));
}

TEST(AccessTokenTest, T5OnlyTheExactTypeIsTaken) {
  const Signing s;
  const std::string payload = ClaimsJson(sample::Token());
  EXPECT_THAT(Verify(s.SignedWith(R"({"alg":"ES256","kid":"k1","typ":"at+jwt"})", payload), s.keys, kIssuer, kNow),
              IsOk());
  for (const char* type : {R"("typ":"JWT")", R"("typ":"signet-receipt+jwt")", R"("typ":"dpop+jwt")",
                           R"("typ":"AT+JWT")", R"("typ":"application/at+jwt")", R"("x":"y")"}) {
    EXPECT_THAT(
        Verify(s.SignedWith(absl::StrCat(R"({"alg":"ES256","kid":"k1",)", type, "}"), payload), s.keys, kIssuer, kNow),
        StatusIs(absl::StatusCode::kPermissionDenied))
        << type;
  }
}

TEST(AccessTokenTest, T5OnlyKeysOfItsOwnKindVerify) {
  const Signing tokens;
  const Signing receipts;  // the same kid on purpose
  EXPECT_THAT(Verify(tokens.Of(sample::Token()), receipts.keys, kIssuer, kNow), Not(IsOk()));
  EXPECT_THAT(Verify(tokens.Of(sample::Token()), {{"k2", tokens.key.public_key()}}, kIssuer, kNow), Not(IsOk()));
  const std::string without_kid = tokens.SignedWith(R"({"alg":"ES256","typ":"at+jwt"})", ClaimsJson(sample::Token()));
  EXPECT_THAT(Verify(without_kid, tokens.keys, kIssuer, kNow), Not(IsOk()));
}

TEST(AccessTokenTest, RefusesUnknownCriticalHeadersAndForeignKeys) {
  const Signing s;
  const std::string payload = ClaimsJson(sample::Token());
  for (const char* more :
       {R"("crit":["exp"])", R"("crit":[])", R"("jwk":{})", R"("jku":"https://x")", R"("b64":false)"}) {
    EXPECT_THAT(Verify(s.SignedWith(absl::StrCat(R"({"alg":"ES256","kid":"k1","typ":"at+jwt",)", more, "}"), payload),
                       s.keys, kIssuer, kNow),
                Not(IsOk()))
        << more;
  }
}

TEST(AccessTokenTest, RefusesOtherIssuerAndTimes) {
  const Signing s;
  AccessToken token = sample::Token();
  EXPECT_THAT(Verify(s.Of(token), s.keys, "https://id.example.org/", kNow), Not(IsOk()));
  EXPECT_THAT(Verify(s.Of(token), s.keys, kIssuer, token.expires_at - absl::Seconds(1)), IsOk());
  EXPECT_THAT(Verify(s.Of(token), s.keys, kIssuer, token.expires_at), Not(IsOk()));  // no leeway
  EXPECT_THAT(VerifyAnyTime(s.Of(token), s.keys, kIssuer), IsOk());
  EXPECT_THAT(Verify(s.Of(token), s.keys, kIssuer, kNow - absl::Seconds(60)), IsOk());
  EXPECT_THAT(Verify(s.Of(token), s.keys, kIssuer, kNow - absl::Seconds(61)), Not(IsOk()));
}

TEST(AccessTokenTest, RefusesMoreThan16KiB) {
  const Signing s;
  AccessToken token = sample::Token();
  token.receipts = {std::string(13 * 1024, 'r')};
  EXPECT_THAT(Verify(s.Of(token), s.keys, kIssuer, kNow),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bytes")));
}

TEST(AccessTokenTest, D2_5_SixNestedActsAreRefused) {
  AccessToken token = sample::Token();
  token.context.max_depth = 5;
  while (token.actors.size() < kMaxDepth) {
    token.actors.push_back({.subject = sample::kPlannerId, .issuer = "spiffe://example.org"});
  }
  token.context.depth = 5;
  EXPECT_THAT(ParseClaims(ClaimsJson(token)), IsOk());
  token.actors.push_back({.subject = sample::kPlannerId, .issuer = "spiffe://example.org"});
  EXPECT_THAT(ParseClaims(ClaimsJson(token)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("deeper than 5")));
}

TEST(AccessTokenTest, NoErrorHoldsAPartOfTheToken) {
  const Signing s;
  const std::string token = s.Of(sample::Token());
  for (size_t i = 0; i < token.size(); i += 7) {
    std::string changed = token;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    const auto read = Verify(changed, s.keys, kIssuer, kNow);
    ASSERT_FALSE(read.ok()) << i;
    EXPECT_THAT(std::string(read.status().message()), Not(HasSubstr(token.substr(0, 20))));
  }
}

TEST(AccessTokenTest, ClaimsMustTellOneStory) {
  const boost::json::object good = Claims(sample::Token());
  ASSERT_THAT(Reread(good), IsOk());
  const auto without = [&](const char* claim) {
    boost::json::object claims = good;
    claims.erase(claim);
    return claims;
  };
  for (const char* claim :
       {"iss", "sub", "sub_profile", "aud", "client_id", "iat", "exp", "jti", "txn", "act", "agent_ctx"}) {
    EXPECT_THAT(Reread(without(claim)), Not(IsOk())) << claim;
  }
  const auto with = [&](auto change) {
    boost::json::object claims = good;
    change(claims);
    return claims;
  };
  EXPECT_THAT(Reread(with([](auto& c) { c["client_id"] = sample::kPlannerId; })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["sub_profile"] = "ai_agent"; })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["aud"] = boost::json::array{"https://a", "https://b"}; })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["agent_ctx"].as_object()["depth"] = 1; })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["agent_ctx"].as_object()["max_depth"] = 1; })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["agent_ctx"].as_object()["calls"] = 51; })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["agent_ctx"].as_object()["only_on"] = "monday"; })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["agent_ctx"].as_object().erase("user_sub"); })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["agent_ctx"].as_object().erase("ancestors"); })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["cnf"] = boost::json::object(); })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["exp"] = 1800000240.5; })), Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["authorization_details"].as_array()[0].as_object().erase("tool_hashes"); })),
              Not(IsOk()));
  EXPECT_THAT(Reread(with([](auto& c) { c["status"] = 1; })), IsOk());  // RFC 7519 4: claims not understood are ignored
}

TEST(AccessTokenTest, AncestorsGrowByTheParent) {
  AccessToken parent = sample::Token();
  parent.key_id = "k9";
  const std::vector<Ancestor> ancestors = AncestorsFor(parent);
  ASSERT_EQ(ancestors.size(), 2u);
  EXPECT_EQ(ancestors[0],
            (Ancestor{.jwt_id = "jti-2", .instance = "instance-worker", .node = "node-worker", .key_id = "k9"}));
  EXPECT_EQ(ancestors[1].jwt_id, "jti-1");
}

TEST(KeysTest, RoundTripAndRefuseRepeats) {
  const Signing s;
  EXPECT_EQ(ParseKeys(KeysJson(s.keys))->at("k1"), s.key.public_key());
  const std::string text = KeysJson(s.keys);
  const std::string one = text.substr(9, text.size() - 11);
  EXPECT_THAT(ParseKeys(absl::StrCat(R"({"keys":[)", one, ",", one, "]}")), Not(IsOk()));
  EXPECT_THAT(ParseKeys(R"({"keys":[{"kty":"XYZ","kid":"a"},{"kty":"EC"}]})"), IsOkAndHolds(Keys()));
  EXPECT_THAT(ParseKeys("[]"), Not(IsOk()));
}

TEST(UserSubjectTest, T7DependsOnBothHalves) {
  EXPECT_NE(UserSubject("https://a", "u"), UserSubject("https://b", "u"));
  EXPECT_NE(UserSubject("https://a", "u"), UserSubject("https://a", "v"));
  EXPECT_EQ(UserSubject("https://a", "u"), UserSubject("https://a", "u"));
}

TEST(DefinitionOfTest, D2_6_CutsAtSegmentsOnly) {
  EXPECT_EQ(DefinitionOf("spiffe://td/agent/orders/7c1f"), "spiffe://td/agent/orders");
  EXPECT_EQ(DefinitionOf("spiffe://td/agent/orders-evil/7c1f"), "spiffe://td/agent/orders-evil");
  for (const char* id : {"spiffe://td/agent/orders", "spiffe://td/agentx/orders/7", "spiffe://td/workload/a/b",
                         "spiffe://td", "spiffe://td/agent", "https://td/agent/orders/7", "spiffe://td/agent/orders/",
                         "", "spiffe://TD/agent/a/b", "spiffe://td/agent/%6frders/7"}) {
    EXPECT_EQ(DefinitionOf(id), id);
  }
}

TEST(CanonicalResourceTest, OneSpellingForEachResource) {
  const std::pair<const char*, const char*> kCases[] = {
      {"https://a.example/x", "https://a.example/x"},
      {"HTTPS://A.Example:443/X", "https://a.example/X"},
      {"https://a.example/", "https://a.example"},
      {"https://a.example", "https://a.example"},
      {"https://a.example/x/", "https://a.example/x/"},
      {"http://a.example:80/x", "http://a.example/x"},
      {"https://a.example:8443/x?q=1", "https://a.example:8443/x?q=1"},
      {"https://[2001:DB8::1]:443/x", "https://[2001:db8::1]/x"},
      {"https://a.example/%c3%a9", "https://a.example/%C3%A9"},
      {"https://a.example:/x", "https://a.example/x"},
  };
  for (const auto& [in, out] : kCases) {
    EXPECT_THAT(CanonicalResource(in), IsOkAndHolds(std::string(out)));
    EXPECT_THAT(CanonicalResource(out), IsOkAndHolds(std::string(out)));
  }
}

TEST(CanonicalResourceTest, RefusesWhatIsNoResource) {
  for (const char* uri : {"",
                          "a.example/x",
                          "ftp://a.example",
                          "spiffe://td/x",
                          "https://",
                          "https:///x",
                          "https://u@a.example",
                          "https://a.example#f",
                          "https://a.example/x#",
                          "https://a.example/a/../b",
                          "https://a.example/%2e%2E/b",
                          "https://a.example/./b",
                          "https://a.example/a b",
                          "https://a.example/\xc3\xa9",
                          "https://a.example/%4",
                          "https://a.example:0/x",
                          "https://a.example:65536/x",
                          "https://a.example:8x/x",
                          "https://a_b\\c/x",
                          "https://[::1/x",
                          "https://a.example\\@b.example/"}) {
    EXPECT_THAT(CanonicalResource(uri), StatusIs(absl::StatusCode::kInvalidArgument)) << uri;
  }
  EXPECT_THAT(CanonicalResource("https://a.example/" + std::string(2048, 'x')), Not(IsOk()));
}

}  // namespace
}  // namespace signet::oauth
