#include "common/oauth/introspection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <functional>
#include <string>

#include "common/jose/jwk.h"
#include "common/oauth/dpop.h"
#include "tests/common/oauth/sample.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::oauth {
namespace {

using sample::kIssuer;
using sample::kNow;
using sample::kOrders;
using ::signet::testing::SignerOf;
using ::testing::HasSubstr;

constexpr char kUri[] = "https://mcp.example.org/orders/call";

class IntrospectionTest : public ::testing::Test {
 protected:
  crypto::PrivateKey signing = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  crypto::PrivateKey instance = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  AccessToken token = sample::Token();
  TokenState state;

  IntrospectionTest() {
    token.binding = {.jkt = jose::Thumbprint(instance.public_key()), .x5t_s256 = {}};
    state.seq = 20;
    state.issuer = kIssuer;
    state.token_keys = {{"k1", signing.public_key()}};
    ResourceState orders;
    orders.servers = {"spiffe://example.org/agent/orders"};
    orders.tools = {{"query_orders", {.hash = sample::kToolHash}},
                    {"list_orders", {.hash = sample::kToolHash}},
                    {"cancel_order", {.hash = sample::kToolHash}}};
    state.resources = {{kOrders, orders}};
  }
  std::string Signed() const { return *Sign(token, "k1", signing.type(), SignerOf(signing)); }
  // Everything as it should be.
  Presentation Seen() const {
    Presentation p;
    p.caller = "spiffe://example.org/agent/orders/3d2e";
    p.token = Signed();
    p.dpop_proof = *MakeDpop(instance, "POST", kUri, p.token, "", kNow);
    p.dpop_method = "POST";
    p.dpop_uri = kUri;
    p.tool = "query_orders";
    p.task = "task-1";
    p.session = "s-9";
    return p;
  }
  std::string WhyNot(const Presentation& p) const {
    const Judgement j = Judge(p, state, kNow);
    EXPECT_EQ(j.active, j.why_not.empty());
    if (!j.active) {  // D2_4: and nothing else
      EXPECT_EQ(IntrospectionJson(j), R"({"active":false})");
    }
    return j.why_not;
  }
  std::string WhyNot(const std::function<void(Presentation&)>& change) const {
    Presentation p = Seen();
    change(p);
    return WhyNot(p);
  }
};

TEST_F(IntrospectionTest, D2_4_TheAnswerHoldsAllThatTheTokenHolds) {
  const Presentation seen = Seen();
  const Judgement j = Judge(seen, state, kNow);
  ASSERT_TRUE(j.active) << j.why_not;
  EXPECT_FALSE(j.dpop_jti.empty());
  const boost::json::object answer = boost::json::parse(IntrospectionJson(j)).as_object();
  EXPECT_EQ(answer.at("active"), true);
  EXPECT_EQ(answer.at("token_type"), "DPoP");
  const boost::json::object claims = boost::json::parse(ClaimsJson(token)).as_object();
  for (const auto& claim : claims) {
    EXPECT_EQ(answer.at(claim.key()), claim.value()) << claim.key();
  }
}

TEST_F(IntrospectionTest, T4OnlyWhoServesTheAudienceIsAnswered) {
  EXPECT_EQ(WhyNot([](Presentation&) {}), "");
  for (const char* caller : {"", "spiffe://example.org/agent/worker/7c1f",
                             "spiffe://example.org/agent/orders-evil/3d2e", "spiffe://other.org/agent/orders/3d2e"}) {
    EXPECT_THAT(WhyNot([&](Presentation& p) { p.caller = caller; }), HasSubstr("does not serve")) << caller;
  }
  state.resources.clear();
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("not registered"));
}

TEST_F(IntrospectionTest, T4AStolenTokenIsWorthNothing) {
  const crypto::PrivateKey thief = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  EXPECT_THAT(WhyNot([](Presentation& p) { p.dpop_proof.clear(); }), HasSubstr("without a DPoP proof"));
  EXPECT_THAT(WhyNot([&](Presentation& p) { p.dpop_proof = *MakeDpop(thief, "POST", kUri, p.token, "", kNow); }),
              HasSubstr("another key"));
  EXPECT_THAT(WhyNot([&](Presentation& p) { p.dpop_proof = *MakeDpop(instance, "POST", kUri, "other", "", kNow); }),
              HasSubstr("ath"));
  EXPECT_THAT(WhyNot([&](Presentation& p) { p.dpop_proof = *MakeDpop(instance, "POST", kUri, "", "", kNow); }),
              HasSubstr("ath"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.dpop_method = "GET"; }), HasSubstr("htm"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.dpop_uri = "https://other.example/"; }), HasSubstr("htu"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.dpop_uri.clear(); }), HasSubstr("htu"));
  EXPECT_THAT(WhyNot([&](Presentation& p) {
                p.dpop_proof = *MakeDpop(instance, "POST", kUri, p.token, "", kNow - absl::Seconds(61));
              }),
              HasSubstr("iat"));
}

TEST_F(IntrospectionTest, T4ACertificateIsComparedAndMustBeShown) {
  token.binding = {.jkt = {}, .x5t_s256 = "the-certificate"};
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("certificate"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.peer_x5t_s256 = "another"; }), HasSubstr("certificate"));
  EXPECT_EQ(WhyNot([](Presentation& p) { p.peer_x5t_s256 = "the-certificate"; }), "");
  token.binding.jkt = jose::Thumbprint(instance.public_key());  // both: both are proven
  EXPECT_EQ(WhyNot([](Presentation& p) { p.peer_x5t_s256 = "the-certificate"; }), "");
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("certificate"));
}

TEST_F(IntrospectionTest, T4TheBindingIsWhatTheResourceDemandsNow) {
  token.binding = {};
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("bearer"));
  state.resources[kOrders].minimum_binding = MinimumBinding::kBearer;
  EXPECT_EQ(WhyNot(Seen()), "");
  state.resources[kOrders].minimum_binding = MinimumBinding::kMtls;
  token.binding.jkt = jose::Thumbprint(instance.public_key());
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("certificate"));
}

TEST_F(IntrospectionTest, D2_10_T4TheToolMustBeSaidGrantedAndUnchanged) {
  EXPECT_THAT(WhyNot([](Presentation& p) { p.tool.clear(); }), HasSubstr("not said"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.tool = "cancel_order"; }), HasSubstr("not granted"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.tool = "orders:read"; }), HasSubstr("not granted"));  // an action, no tool
  state.resources[kOrders].tools["query_orders"].hash = std::string(64, 'b');
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("changed"));
  state.resources[kOrders].tools.erase("query_orders");
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("not declared"));
  // A tool of another resource, carried along, is not this audience's.
  token.atoms = *Normalize({sample::Action(kOrders, "orders:read"), sample::Tool(sample::kWorker, "query_orders")});
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("not granted"));
  EXPECT_EQ(WhyNot([](Presentation& p) { p.tool.clear(); }), "");
}

TEST_F(IntrospectionTest, D2_7_T4TaskAndSessionMustBeThoseOfTheToken) {
  EXPECT_THAT(WhyNot([](Presentation& p) { p.task = "task-4522"; }), HasSubstr("task"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.task.clear(); }), HasSubstr("task"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.session = "s-1"; }), HasSubstr("session"));
  EXPECT_THAT(WhyNot([](Presentation& p) { p.session.clear(); }), HasSubstr("session"));
  token.context.task.clear();
  EXPECT_THAT(WhyNot(Seen()), HasSubstr("task"));
  EXPECT_EQ(WhyNot([](Presentation& p) { p.task.clear(); }), "");
}

TEST_F(IntrospectionTest, T3WhatIsRevokedExpiredOrNewerIsInactive) {
  const Presentation seen = Seen();
  state.revocations = RevocationSet({{.kind = EntityKind::kTask, .entity = "task-1", .seq = 20, .not_before = kNow}});
  EXPECT_THAT(WhyNot(seen), HasSubstr("revoked: task task-1"));
  state.revocations = {};
  state.seq = token.context.rev - 1;  // T4: what is known here is older than the token
  EXPECT_THAT(WhyNot(seen), HasSubstr("newer"));
  state.seq = token.context.rev;
  EXPECT_EQ(WhyNot(seen), "");
  EXPECT_FALSE(Judge(seen, state, token.expires_at).active);
  state.issuer = "https://other.example";
  EXPECT_FALSE(Judge(seen, state, kNow).active);
}

TEST_F(IntrospectionTest, ACachedTokenIsJudgedAnew) {
  const Presentation seen = Seen();
  const Judgement first = Judge(seen, state, kNow);
  ASSERT_TRUE(first.active);
  EXPECT_TRUE(Judge(seen, state, kNow, &first.token).active);
  EXPECT_THAT(Judge(seen, state, token.expires_at, &first.token).why_not, HasSubstr("expired"));
  state.revocations = RevocationSet({{.kind = EntityKind::kSigningKey, .entity = "k1", .seq = 30, .not_before = kNow}});
  EXPECT_FALSE(Judge(seen, state, kNow, &first.token).active);
}

TEST_F(IntrospectionTest, T5OtherKindsOfJwtAreInactive) {
  EXPECT_FALSE(WhyNot([&](Presentation& p) { p.token = p.dpop_proof; }).empty());
  EXPECT_FALSE(WhyNot([](Presentation& p) { p.token.clear(); }).empty());
  state.token_keys.clear();
  EXPECT_FALSE(WhyNot(Seen()).empty());
}

}  // namespace
}  // namespace signet::oauth
