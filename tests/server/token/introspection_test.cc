// The introspection and revocation endpoints, and the dry run.
#include <gtest/gtest.h>

#include "tests/server/token/service_kit.h"

namespace signet::server {
namespace {

constexpr char kInactive[] = R"({"active":false})";

class IntrospectionTest : public ::testing::Test {
 protected:
  // A token of the worker for the orders server, with one tool.
  std::string OrdersToken(const std::string& extra = "") {
    FormFields fields{{"resource", World::kOrdersUri}};
    fields["authorization_details"] = absl::StrCat(
        R"([{"type":"mcp_tool_call","locations":["https://orders.example/mcp"],"tools":["query"])", extra, "}]");
    return kit.Exchange(kit.worker, kit.FirstToken(), fields).token();
  }
  FormFields Seen(const std::string& token) {
    FormFields fields = kit.Presented(kit.worker, token, World::kOrdersUri);
    fields["tool"] = "query";
    fields["task"] = "task-1";
    fields["session"] = "s-1";
    return fields;
  }
  Read Introspect(const std::string& token, const FormFields& fields) {
    return kit.Introspect(kit.orders, token, fields);
  }

  ServiceKit kit;
};

TEST_F(IntrospectionTest, D2_4SaysWhatTheTokenSays) {
  const std::string token = OrdersToken();
  const Read read = Introspect(token, Seen(token));
  ASSERT_TRUE(read.body.at("active").as_bool()) << read.text;
  const boost::json::object claims = boost::json::parse(oauth::ClaimsJson(kit.Parse(token))).as_object();
  for (const char* name : {"act", "cnf", "authorization_details", "agent_ctx", "sub", "aud", "client_id", "exp"}) {
    ASSERT_TRUE(read.body.contains(name)) << name;
    EXPECT_EQ(read.body.at(name), claims.at(name)) << name;
  }
}

TEST_F(IntrospectionTest, D2_4ARevokedTokenIsInactiveAndNothingElse) {
  const std::string token = OrdersToken();
  ASSERT_TRUE(kit.Revoke(oauth::EntityKind::kChain, kit.Parse(token).context.root).ok());
  EXPECT_EQ(Introspect(token, Seen(token)).text, kInactive);
}

TEST_F(IntrospectionTest, T4OnlyWhoServesTheAudienceIsAnswered) {
  const std::string token = OrdersToken();
  EXPECT_EQ(kit.Introspect(kit.worker, token, Seen(token)).text, kInactive);
  EXPECT_EQ(kit.Introspect(kit.planner, token, Seen(token)).text, kInactive);
}

TEST_F(IntrospectionTest, T4MissingOrUnequalIsInactive) {
  const std::string token = OrdersToken();
  for (const char* name : {"dpop", "htm", "htu", "tool", "task", "session"}) {
    FormFields without = Seen(token);
    without.erase(name);
    EXPECT_EQ(Introspect(token, without).text, kInactive) << name;
    FormFields other = Seen(token);
    other[name] = "another";
    EXPECT_EQ(Introspect(token, other).text, kInactive) << name;
  }
}

TEST_F(IntrospectionTest, T4AStolenTokenIsInactiveAndAnAlert) {
  const std::string token = OrdersToken();
  FormFields fields = Seen(token);
  fields["dpop"] = kit.Presented(kit.planner, token, World::kOrdersUri)["dpop"];  // another key
  EXPECT_EQ(Introspect(token, fields).text, kInactive);
  const std::vector<Alert> alerts = kit.alerts->List("", 1);
  ASSERT_EQ(alerts.size(), 1u);
  EXPECT_EQ(alerts[0].kind, "two-peers");
  EXPECT_EQ(alerts[0].identity, World::kWorker);
}

TEST_F(IntrospectionTest, T3AProofIsSeenOnce) {
  const std::string token = OrdersToken();
  const FormFields fields = Seen(token);
  EXPECT_TRUE(Introspect(token, fields).body.at("active").as_bool());
  EXPECT_EQ(Introspect(token, fields).text, kInactive);
}

TEST_F(IntrospectionTest, D2_8ATokenOfTheOldCertificateIsRefusedWithTheNewOne) {
  FormFields ask{{"resource", World::kOrdersUri}, {"scope", "orders:read"}, {"token_binding", "x5t"}};
  const std::string token = kit.Exchange(kit.worker, kit.FirstToken(), ask).token();
  FormFields fields{{"peer_x5t#S256", kit.clients.Get(kit.worker).x5t_s256},
                    {"tool", "query"},
                    {"task", "task-1"},
                    {"session", "s-1"}};
  EXPECT_TRUE(Introspect(token, fields).body.at("active").as_bool());
  fields["peer_x5t#S256"] = "the next certificate";
  EXPECT_EQ(Introspect(token, fields).text, kInactive);
  fields.erase("peer_x5t#S256");
  EXPECT_EQ(Introspect(token, fields).text, kInactive);
}

TEST_F(IntrospectionTest, T8CallsAreCountedAgainstTheQuota) {
  const std::string token = OrdersToken(R"(,"max_calls":2)");
  EXPECT_TRUE(Introspect(token, Seen(token)).body.at("active").as_bool());
  EXPECT_TRUE(Introspect(token, Seen(token)).body.at("active").as_bool());
  EXPECT_EQ(Introspect(token, Seen(token)).text, kInactive);
}

TEST_F(IntrospectionTest, ASuspendedIdentityIsInactive) {
  const std::string token = OrdersToken();
  ASSERT_TRUE(kit.Revoke(oauth::EntityKind::kIdentity, World::kWorker, IdentityState::kSuspended).ok());
  EXPECT_EQ(Introspect(token, Seen(token)).text, kInactive);
}

TEST_F(IntrospectionTest, ForgedAndForeignTokensAreInactive) {
  EXPECT_EQ(Introspect("x", {}).text, kInactive);
  EXPECT_EQ(Introspect(kit.UserToken(), {}).text, kInactive);
  EXPECT_EQ(kit.Introspect(kit.orders, "", {}).error(), "invalid_request");
}

// --- RFC 7009 --------------------------------------------------------------------------------------------------------

TEST_F(IntrospectionTest, AClientRevokesItsOwnTokenAndWhatDescendsFromIt) {
  const std::string first = kit.FirstToken();
  const std::string hop =
      kit.Exchange(kit.worker, first, {{"resource", World::kOrdersUri}, {"scope", "orders:read"}}).token();
  EXPECT_EQ(kit.RevokeToken(kit.planner, first).status, 200);
  EXPECT_EQ(Introspect(hop, Seen(hop)).text, kInactive);
  EXPECT_EQ(kit.Exchange(kit.worker, first, {{"resource", World::kOrdersUri}}).reason(), "revoked");
}

TEST_F(IntrospectionTest, AReplayedAssertionIsRefusedAndRevokesNothing) {
  const Read first = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());
  const Client client = kit.clients.Get(kit.planner);
  Client replayed = client;
  replayed.once = {{"jti of the assertion", kit.clock.Now() + absl::Minutes(5)}};
  kit.clients.Add(replayed);
  EXPECT_EQ(kit.RevokeToken(kit.planner, "unknown").status, 200);  // uses it up
  EXPECT_EQ(kit.RevokeToken(kit.planner, first.token()).error(), "invalid_client");
  EXPECT_EQ(kit.RevokeToken(kit.planner, first.Get("refresh_token")).error(), "invalid_client");
  kit.clients.Add(client);
  EXPECT_EQ(kit.Exchange(kit.worker, first.token(), {{"resource", World::kOrdersUri}}).status, 200);
  const Read refresh =
      kit.Token(kit.planner, {{"grant_type", "refresh_token"}, {"refresh_token", first.Get("refresh_token")}});
  EXPECT_EQ(refresh.status, 200) << refresh.text;
}

TEST_F(IntrospectionTest, AnEarlierActorMayRevokeAStrangerMayNot) {
  const std::string first = kit.FirstToken();
  const std::string hop =
      kit.Exchange(kit.worker, first, {{"resource", World::kOrdersUri}, {"scope", "orders:read"}}).token();
  EXPECT_EQ(kit.RevokeToken(kit.orders, hop).error(), "unauthorized_client");
  EXPECT_EQ(kit.RevokeToken(kit.planner, hop).status, 200);
  EXPECT_EQ(Introspect(hop, Seen(hop)).text, kInactive);
}

TEST_F(IntrospectionTest, UnknownTokensAreAnswered200) {  // RFC 7009 2.2
  EXPECT_EQ(kit.RevokeToken(kit.planner, "unknown").status, 200);
  EXPECT_EQ(kit.RevokeToken(kit.planner, "rt-unknown").status, 200);
  EXPECT_EQ(kit.RevokeToken(kit.planner, "").error(), "invalid_request");
}

TEST_F(IntrospectionTest, ARefreshTokenTakesItsFamilyAndTheChain) {
  const Read first = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());
  EXPECT_EQ(kit.RevokeToken(kit.worker, first.Get("refresh_token")).error(), "unauthorized_client");
  EXPECT_EQ(kit.RevokeToken(kit.planner, first.Get("refresh_token")).status, 200);
  const Read refresh =
      kit.Token(kit.planner, {{"grant_type", "refresh_token"}, {"refresh_token", first.Get("refresh_token")}});
  EXPECT_EQ(refresh.reason(), "revoked");
  EXPECT_EQ(kit.Exchange(kit.worker, first.token(), {{"resource", World::kOrdersUri}}).reason(), "revoked");
}

// --- dry run ---------------------------------------------------------------------------------------------------------

class ExplainTest : public IntrospectionTest {
 protected:
  absl::StatusOr<token::v1::ExplainResponse> Explain(const token::v1::ExplainRequest& request) {
    return testing::Await<token::v1::ExplainResponse>(
        [&](auto done) { kit.service->Explain(request, std::move(done)); });
  }
  token::v1::ExplainRequest OfUser() {
    token::v1::ExplainRequest request;
    request.set_client_id(kit.planner);
    request.mutable_user()->set_issuer(World::kUserIssuer);
    request.mutable_user()->set_subject("u-1");
    request.set_resource(World::kWorkerUri);
    request.add_scopes("work:run");
    return request;
  }
};

TEST_F(ExplainTest, TellsWhatWouldBeGrantedAndIssuesNothing) {
  const size_t records = kit.Audit().size();
  const auto response = Explain(OfUser());
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->outcome(), "granted") << response->detail();
  EXPECT_EQ(response->scope(), "work:run");
  EXPECT_EQ(response->depth(), 1);
  EXPECT_GT(response->steps_size(), 3);
  EXPECT_EQ(kit.Audit().size(), records);
}

TEST_F(ExplainTest, NamesTheOperandThatTookAnAtomAway) {
  kit.Put(UserRightsRecord{.issuer = World::kUserIssuer, .subject = "u-1", .atoms = {}, .at = kit.clock.Now()});
  const auto response = Explain(OfUser());
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->outcome(), "refused");
  EXPECT_EQ(response->error(), "invalid_scope");
  bool by_user = false;
  for (const auto& step : response->steps())
    by_user = by_user || (step.operand() == "user" && step.removed_size() == 1);
  EXPECT_TRUE(by_user);
}

TEST_F(ExplainTest, TakesTokensAsTheEndpointWould) {
  token::v1::ExplainRequest request;
  request.set_client_id(kit.worker);
  request.set_subject_token(kit.FirstToken());
  request.set_resource(World::kOrdersUri);
  auto response = Explain(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->outcome(), "granted") << response->detail();
  EXPECT_EQ(response->depth(), 2);
  request.set_client_id(kit.planner);
  request.set_subject_token(kit.UserToken());
  request.set_resource(World::kOtherUri);
  response = Explain(request);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->reason(), "consent_boundary");
}

}  // namespace
}  // namespace signet::server
