// Attacks on the token service, played against the real store, registry and feed. Names carry the rule (T1..T11) or the
// item of the list of tests that must exist (D2_n) whose check they go red without.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "tests/fakes/fake_token_use_store.h"
#include "tests/server/token/service_kit.h"

namespace signet::server {
namespace {

using oauth::EntityKind;

class AttacksTest : public ::testing::Test {
 protected:
  Read WorkerHop(const std::string& token) {
    return kit.Exchange(kit.worker, token, {{"resource", World::kOrdersUri}, {"scope", "orders:read"}});
  }
  Read PlannerWith(const boost::json::object& claims, const std::string& type = "at+jwt") {
    return kit.Exchange(kit.planner, kit.Sign(claims, type), kit.FirstHop());
  }

  ServiceKit kit;
};

// --- a user's token (T2, T7) -----------------------------------------------------------------------------------------

TEST_F(AttacksTest, T2AUsersTokenForAnotherAudienceIsNoSubjectToken) {
  boost::json::object claims = kit.UserClaims();
  claims["aud"] = "https://shop.example";
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
  claims["aud"] = boost::json::array{"https://shop.example", ServiceKit::kIssuer};
  EXPECT_EQ(PlannerWith(claims).status, 200);
}

TEST_F(AttacksTest, T2AnIdTokenIsNoAccessToken) {
  boost::json::object claims = kit.UserClaims();
  claims["nonce"] = "n";
  EXPECT_EQ(PlannerWith(claims, "JWT").error(), "invalid_request");
  claims.erase("nonce");
  EXPECT_EQ(PlannerWith(claims, "JWT").status, 200);
  claims["typ"] = "ID";
  EXPECT_EQ(PlannerWith(claims, "JWT").error(), "invalid_request");
  claims["typ"] = "Bearer";
  EXPECT_EQ(PlannerWith(claims, "JWT").status, 200);
  claims.erase("typ");
  claims.erase("scope");
  claims["scopes"] = "everything";
  EXPECT_EQ(PlannerWith(claims, "JWT").error(), "invalid_request");  // nothing says what it is
  EXPECT_EQ(PlannerWith(kit.UserClaims(), "logout+jwt").error(), "invalid_request");
}

TEST_F(AttacksTest, T2MayActMustNameTheClient) {
  boost::json::object claims = kit.UserClaims();
  claims["may_act"] = {{"sub", World::kWorker}};
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
  claims["may_act"] = {{"sub", World::kPlanner}, {"iss", "spiffe://td"}};
  EXPECT_EQ(PlannerWith(claims).status, 200);
  claims["may_act"] = {{"sub", World::kPlanner}, {"iss", "spiffe://other"}};
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
  claims["may_act"] = {{"sub", "spiffe://td/agent/plan"}};
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
}

TEST_F(AttacksTest, T2ABoundUsersTokenNeedsItsKey) {
  boost::json::object claims = kit.UserClaims();
  claims["cnf"] = {{"jkt", "somebody-elses"}};
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
  claims["cnf"] = {{"jkt", jose::Thumbprint(kit.dpop_keys.at(kit.planner).public_key())}};
  EXPECT_EQ(PlannerWith(claims).status, 200);
  claims["cnf"] = {{"kid", "cannot be checked here"}};
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
}

TEST_F(AttacksTest, T7AWorkloadIsNoUser) {
  boost::json::object claims = kit.UserClaims();
  claims["sub"] = kit.worker;
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
}

TEST_F(AttacksTest, T7TheSameSubjectOfAnotherIssuerIsAnotherUser) {
  IssuerRecord other;
  other.url = "https://other-idp.example.org";
  other.jwks_json = oauth::KeysJson({{"idp", kit.idp_key.public_key()}});
  other.audiences = {ServiceKit::kIssuer};
  other.rights = {{"everything", kit.world.everything}};
  kit.Put(other);
  boost::json::object claims = kit.UserClaims();
  claims["iss"] = other.url;
  const Read read = PlannerWith(claims);
  EXPECT_EQ(read.status, 400);
  EXPECT_NE(read.token(), "x");
  EXPECT_EQ(read.error(), "access_denied");  // the task and its grant are another user's
}

TEST_F(AttacksTest, T7StoredRightsReplaceWhatTheTokenSays) {
  UserRightsRecord rights{.issuer = World::kUserIssuer, .subject = "u-1", .atoms = {}, .at = kit.clock.Now()};
  rights.atoms = ExpandScopes(kit.world.worker_resource, {"work:run"}, nullptr);
  const std::string before = kit.FirstToken();
  kit.Put(rights);
  EXPECT_EQ(WorkerHop(before).error(), "invalid_scope");  // at a later hop too
  const Read read = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());
  ASSERT_EQ(read.status, 200) << read.text;
  for (const oauth::Atom& atom : kit.Parse(read.token()).atoms) EXPECT_EQ(atom.resource, World::kWorkerUri);
}

TEST_F(AttacksTest, T7RightsThatAreTooOldAreNone) {
  boost::json::object claims = kit.UserClaims();
  claims["iat"] = absl::ToUnixSeconds(kit.clock.Now() - absl::Minutes(61));
  EXPECT_EQ(PlannerWith(claims).reason(), "rights_stale");
}

TEST_F(AttacksTest, AStrangersKeyDoesNotSignForTheIssuer) {
  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const std::string forged =
      jose::SignCompact(R"({"alg":"ES256","kid":"idp","typ":"at+jwt"})", boost::json::serialize(kit.UserClaims()),
                        key.type(), testing::SignerOf(key))
          .value();
  EXPECT_EQ(kit.Exchange(kit.planner, forged, kit.FirstHop()).error(), "invalid_request");
  const std::string other_kid =
      jose::SignCompact(R"({"alg":"ES256","kid":"new","typ":"at+jwt"})", boost::json::serialize(kit.UserClaims()),
                        key.type(), testing::SignerOf(key))
          .value();
  EXPECT_EQ(kit.Exchange(kit.planner, other_kid, kit.FirstHop()).error(), "invalid_request");
}

TEST_F(AttacksTest, AnExpiredUsersTokenIsRefusedAndBoundsTheFirstToken) {
  boost::json::object claims = kit.UserClaims();
  claims["exp"] = absl::ToUnixSeconds(kit.clock.Now()) + 42;
  const Read read = PlannerWith(claims);
  ASSERT_EQ(read.status, 200) << read.text;
  EXPECT_EQ(read.body.at("expires_in").as_int64(), 42);
  claims["exp"] = absl::ToUnixSeconds(kit.clock.Now());
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
}

// --- chains (D.2 3, 5, 6) --------------------------------------------------------------------------------------------

TEST_F(AttacksTest, D2_3ADelegatedTokenNeverLosesItsActors) {
  const std::string first = kit.FirstToken();
  const Read hop = WorkerHop(first);  // no actor_token
  ASSERT_EQ(hop.status, 200) << hop.text;
  EXPECT_EQ(kit.Parse(hop.token()).actors.size(), 2u);
  FormFields fields{{"resource", World::kOrdersUri}, {"actor_token", first}};
  fields["actor_token_type"] = ServiceKit::kAccessToken;
  EXPECT_EQ(kit.Exchange(kit.worker, first, fields).error(), "invalid_request");  // the actor token is the planner's
  // Another client, which serves nothing of it.
  EXPECT_EQ(kit.Exchange(kit.orders, first, {{"resource", World::kOrdersUri}}).reason(), "actor_not_permitted");
}

TEST_F(AttacksTest, D2_3AForeignDelegatedTokenIsRefused) {
  boost::json::object claims = kit.UserClaims();
  claims["act"] = {{"sub", "https://client.example"}};
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
  claims.erase("act");
  claims["agent_ctx"] = boost::json::object();
  EXPECT_EQ(PlannerWith(claims).error(), "invalid_request");
}

TEST_F(AttacksTest, D2_3RefreshKeepsTheActor) {
  const Read first = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());
  const Read next =
      kit.Token(kit.planner, {{"grant_type", "refresh_token"}, {"refresh_token", first.Get("refresh_token")}});
  ASSERT_EQ(next.status, 200) << next.text;
  const oauth::AccessToken before = kit.Parse(first.token()), after = kit.Parse(next.token());
  EXPECT_EQ(after.actors, before.actors);
  EXPECT_EQ(after.subject, before.subject);
  EXPECT_EQ(after.context.root, before.context.root);
  EXPECT_EQ(after.context.task, before.context.task);
  EXPECT_EQ(after.atoms, before.atoms);
  const oauth::ChainFinding finding = oauth::VerifyChain(kit.Receipts(after), next.token(), *kit.signer.receipt_keys(),
                                                         *kit.signer.token_keys(), ServiceKit::kIssuer);
  EXPECT_TRUE(finding.proven) << finding.problem;
}

TEST_F(AttacksTest, D2_6AnotherAgentsActorTokenIsRefused) {
  const std::string first = kit.FirstToken();
  const std::string workers = WorkerHop(first).token();
  FormFields fields = kit.FirstHop();
  fields["actor_token"] = workers;
  fields["actor_token_type"] = ServiceKit::kAccessToken;
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), fields).error(), "invalid_request");
  fields["actor_token"] = first;  // its own
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), fields).status, 200);
}

TEST_F(AttacksTest, T2HoldingATokenDoesNotMakeAnActor) {
  const std::string first = kit.FirstToken();
  kit.Create(kit.world.Identity("spiffe://td/agent/thief"));
  kit.AddInstance("spiffe://td/agent/thief/1");
  const Read read = kit.Exchange("spiffe://td/agent/thief/1", first, {{"resource", World::kOrdersUri}});
  EXPECT_EQ(read.error(), "unauthorized_client");
  EXPECT_EQ(read.reason(), "actor_not_permitted");
}

TEST_F(AttacksTest, D2_6APrefixOfANameIsAnotherAgent) {
  kit.Create(kit.world.Identity("spiffe://td/agent/worker-evil"));
  kit.AddInstance("spiffe://td/agent/worker-evil/1");
  kit.AddInstance("spiffe://td/agent/Worker/1");
  kit.AddInstance("spiffe://td/agent/work%65r/1");
  const std::string first = kit.FirstToken();
  for (const char* evil :
       {"spiffe://td/agent/worker-evil/1", "spiffe://td/agent/Worker/1", "spiffe://td/agent/work%65r/1"}) {
    EXPECT_EQ(kit.Exchange(evil, first, {{"resource", World::kOrdersUri}}).error(), "unauthorized_client") << evil;
  }
}

TEST_F(AttacksTest, NarrowingNeedsTheKeyOfTheToken) {
  const std::string first = kit.FirstToken();
  TokenRequest request = kit.RequestOf(kit.planner, {{"grant_type", ServiceKit::kExchange},
                                                     {"subject_token", first},
                                                     {"subject_token_type", ServiceKit::kAccessToken},
                                                     {"scope", "work:run"}});
  request.dpop = kit.Dpop(kit.worker);  // a stolen SVID without the key of the instance
  EXPECT_EQ(kit.Send(request).error(), "invalid_dpop_proof");
}

// Six agents in a row, each serving the resource that the one before calls.
class ChainTest : public ::testing::Test {
 protected:
  static std::string Definition(int i) { return absl::StrCat("spiffe://td/agent/hop", i); }
  static std::string Uri(int i) { return absl::StrCat("https://hop", i, ".example"); }
  static World Row() {
    World world;
    world.grant.identity = Definition(1);
    world.grant.actors.clear();
    world.grant.audiences.clear();
    oauth::Atoms all;
    for (int i = 1; i <= 7; ++i) {
      oauth::Atom atom;
      atom.resource = Uri(i);
      atom.action = "go";
      all.push_back(atom);
      world.grant.actors.push_back(Definition(i));
      world.grant.audiences.push_back(Uri(i));
    }
    world.everything = oauth::Normalize(all).value();
    world.grant.atoms = world.everything;
    world.task.identity = Definition(1);
    world.task.atoms = world.everything;
    return world;
  }
  ChainTest() : kit(Row()) {
    for (int i = 1; i <= 7; ++i) {
      ResourceRecord resource = World::Resource(Uri(i), Definition(i));
      resource.scopes = {{"go", {"go"}}};
      resource.default_scopes = {"go"};
      kit.Put(resource);
      kit.Create(kit.world.Identity(Definition(i)));
      kit.AddInstance(World::Instance(Definition(i)));
    }
  }
  // All that the rest of the row will need, for `target` first.
  static void AskAll(TokenRequest& request, int target) {
    request.resources = {Uri(target)};
    for (int i = 1; i <= 7; ++i) {
      if (i != target) request.resources.push_back(Uri(i));
    }
    request.form["scope"] = "go";
  }
  Read Hop(int actor, int target, const std::string& subject_token) {
    TokenRequest request =
        kit.RequestOf(World::Instance(Definition(actor)), {{"grant_type", ServiceKit::kExchange},
                                                           {"subject_token", subject_token},
                                                           {"subject_token_type", ServiceKit::kAccessToken}});
    AskAll(request, target);
    return kit.Send(std::move(request));
  }

  ServiceKit kit;
};

TEST_F(ChainTest, D2_5DepthOneToTheLimitPassesAndOneMoreDoesNot) {
  std::string token = kit.UserToken();
  for (int i = 1; i <= oauth::kMaxDepth; ++i) {
    const Read read = Hop(i, i + 1, token);
    ASSERT_EQ(read.status, 200) << i << " " << read.text;
    token = read.token();
    EXPECT_LE(token.size(), oauth::kMaxTokenBytes);
    EXPECT_EQ(kit.Parse(token).context.depth, i);
    const auto finding = oauth::VerifyChain(kit.Receipts(kit.Parse(token)), token, *kit.signer.receipt_keys(),
                                            *kit.signer.token_keys(), ServiceKit::kIssuer);
    EXPECT_TRUE(finding.proven) << i << " " << finding.problem;
  }
  const Read read = Hop(6, 7, token);
  EXPECT_EQ(read.error(), "access_denied");
  EXPECT_EQ(read.reason(), "depth_exceeded");
  const std::vector<Alert> alerts = kit.alerts->List("", 100);
  EXPECT_TRUE(std::any_of(alerts.begin(), alerts.end(),
                          [](const Alert& a) { return a.kind == "depth-near-limit" && a.identity == Definition(4); }));
  EXPECT_FALSE(std::any_of(alerts.begin(), alerts.end(),
                           [](const Alert& a) { return a.kind == "depth-near-limit" && a.identity == Definition(2); }));
}

TEST_F(ChainTest, D2_6ACycleIsRefused) {
  const std::string first = Hop(1, 2, kit.UserToken()).token();
  const std::string back = Hop(2, 1, first).token();
  ASSERT_FALSE(back.empty());
  const Read read = Hop(1, 3, back);  // A -> B -> A
  EXPECT_EQ(read.error(), "access_denied");
  EXPECT_EQ(read.reason(), "cycle");
}

TEST_F(ChainTest, T3ARevokedTokenInTheMiddleKillsWhatDescendsFromIt) {
  const std::string first = Hop(1, 2, kit.UserToken()).token();
  const std::string second = Hop(2, 3, first).token();
  const std::string third = Hop(3, 4, second).token();
  EXPECT_TRUE((kit.Revoke(EntityKind::kToken, kit.Parse(second).jwt_id)).ok());
  EXPECT_EQ(Hop(4, 5, third).reason(), "revoked");
  EXPECT_EQ(Hop(3, 4, second).reason(), "revoked");
  EXPECT_EQ(Hop(2, 3, first).status, 200);
}

TEST_F(ChainTest, T3SuspendingAnEarlierActorStopsTheChain) {
  const std::string first = Hop(1, 2, kit.UserToken()).token();
  const std::string second = Hop(2, 3, first).token();
  EXPECT_TRUE((kit.Revoke(EntityKind::kIdentity, Definition(1), IdentityState::kSuspended)).ok());
  EXPECT_EQ(Hop(3, 4, second).reason(), "revoked");
  EXPECT_EQ(Hop(1, 2, kit.UserToken()).reason(), "identity_inactive");
}

// --- context (D.2 7, T1, T8) -----------------------------------------------------------------------------------------

TEST_F(AttacksTest, D2_7ATokenOfOneTaskIsOfNoUseInAnother) {
  TaskRecord other = kit.world.task;
  other.id = "task-4522";
  other.hash = "sha-256:other";
  kit.Create(other);
  const std::string first = kit.FirstToken();
  EXPECT_EQ(kit.Exchange(kit.worker, first, {{"resource", World::kOrdersUri}, {"task", "task-4522"}}).reason(),
            "task_mismatch");
  EXPECT_EQ(kit.Exchange(kit.worker, first, {{"resource", World::kOrdersUri}, {"task", "task-1"}}).status, 200);
  EXPECT_EQ(kit.Exchange(kit.worker, first, {{"resource", World::kOrdersUri}, {"session", "s-2"}}).reason(),
            "session_mismatch");
  EXPECT_EQ(kit.Exchange(kit.worker, first, {{"resource", World::kOrdersUri}, {"grant", "g-2"}}).reason(),
            "consent_boundary");
}

TEST_F(AttacksTest, T1TaskAndSessionAreInheritedWhenLeftOut) {
  const oauth::AccessToken token = kit.Parse(WorkerHop(kit.FirstToken()).token());
  EXPECT_EQ(token.context.task, "task-1");
  EXPECT_EQ(token.context.session, "s-1");
  EXPECT_EQ(token.context.grant, "g-1");
}

TEST_F(AttacksTest, D2_7AnotherInstanceCannotNarrowOrUseTheTask) {
  const std::string first = kit.FirstToken();
  Client twin = kit.clients.Get(kit.planner);  // the same SPIFFE ID on another node
  twin.instance = "another-instance";
  kit.clients.Add(twin);
  EXPECT_EQ(kit.Exchange(kit.planner, first, {{"scope", "work:run"}}).reason(), "instance_mismatch");
  kit.CatchUp();
  const Read read = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());
  EXPECT_EQ(read.error(), "access_denied");
}

TEST_F(AttacksTest, D2_7AClosedTaskEndsEverythingUnderIt) {
  const Read first = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());
  EXPECT_TRUE((kit.Revoke(EntityKind::kTask, "task-1")).ok());
  EXPECT_EQ(WorkerHop(first.token()).status, 400);
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).reason(), "task_closed");
  const Read refresh =
      kit.Token(kit.planner, {{"grant_type", "refresh_token"}, {"refresh_token", first.Get("refresh_token")}});
  EXPECT_EQ(refresh.error(), "invalid_grant");
  const Read seen =
      kit.Introspect(kit.worker, first.token(), kit.Presented(kit.planner, first.token(), World::kWorkerUri));
  EXPECT_EQ(seen.text, R"({"active":false})");
}

TEST_F(AttacksTest, T8ABudgetIsReservedOnceAndForGood) {
  TaskRecord small = kit.world.task;
  small.id = "task-small";
  small.budget = 10;
  kit.Create(small);
  FormFields fields{{"resource", World::kOrdersUri}, {"task", "task-small"}};
  fields["authorization_details"] =
      R"([{"type":"mcp_tool_call","locations":["https://orders.example/mcp"],"tools":["query"],"max_calls":6}])";
  const Read first = kit.Exchange(kit.planner, kit.UserToken(), fields);
  ASSERT_EQ(first.status, 200) << first.text;
  EXPECT_EQ(kit.Parse(first.token()).context.calls, 6);
  kit.CatchUp();
  EXPECT_EQ(kit.store->GetTask("task-small").value().reserved, 6);
  // Presenting the user's token again opens no new envelope.
  const Read second = kit.Exchange(kit.planner, kit.UserToken(), fields);
  if (second.status == 200) {
    EXPECT_EQ(kit.Parse(second.token()).context.calls, 4);
  }
  const Read third = kit.Exchange(kit.planner, kit.UserToken(), fields);
  EXPECT_EQ(third.error(), "access_denied");
  EXPECT_EQ(third.reason(), "budget_exhausted");
  EXPECT_LE(kit.store->GetTask("task-small").value().reserved, 10);
}

TEST_F(AttacksTest, T8RacingMintsNeverReserveMoreThanTheBudget) {
  TaskRecord small = kit.world.task;
  small.id = "task-small";
  small.budget = 20;
  kit.Create(small);
  FormFields fields{{"resource", World::kOrdersUri}, {"task", "task-small"}};
  fields["authorization_details"] =
      R"([{"type":"mcp_tool_call","locations":["https://orders.example/mcp"],"tools":["query"],"max_calls":3}])";
  std::atomic<int64_t> handed_out = 0;
  std::vector<std::thread> threads;
  std::vector<std::string> tokens;
  for (int i = 0; i < 24; ++i) tokens.push_back(kit.UserToken());
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; i < 24; i += 4) {
        const Read read = kit.Exchange(kit.planner, tokens[static_cast<size_t>(i)], fields);
        if (read.status == 200) handed_out += *kit.Parse(read.token()).context.calls;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(handed_out, 20);
  EXPECT_EQ(kit.store->GetTask("task-small").value().reserved, handed_out);
}

TEST_F(AttacksTest, T8WhatAnActorHandsOnIsTakenFromItsOwnQuota) {
  TaskRecord wide = kit.world.task;
  wide.id = "task-wide";
  wide.budget = 40;
  kit.Create(wide);
  FormFields first_hop = kit.FirstHop();
  first_hop["task"] = "task-wide";
  const std::string parent = kit.Exchange(kit.planner, kit.UserToken(), first_hop).token();
  ASSERT_EQ(kit.Parse(parent).context.calls, 5);

  // The same token again and again, by hand and by many at once: never more than the five it has.
  const FormFields next{{"resource", World::kOrdersUri}};
  std::atomic<int64_t> handed_out = 0;
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 3; ++i) {
        const Read read = kit.Exchange(kit.worker, parent, next);
        if (read.status == 200) handed_out += *kit.Parse(read.token()).context.calls;
        if (read.reason() == "budget_exhausted") ++refused;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(handed_out, 5);
  EXPECT_EQ(refused, 7);
  kit.CatchUp();
  EXPECT_EQ(kit.store->GetTask("task-wide").value().reserved, 10);  // of 40: it is not the task that has none left

  // Narrowing in place hands on as well, and another token of the same task is not touched by it.
  const FormFields narrower{{"resource", World::kWorkerUri}, {"scope", "work:run"}};
  EXPECT_EQ(kit.Exchange(kit.planner, parent, narrower).reason(), "budget_exhausted");
  const std::string another = kit.Exchange(kit.planner, kit.UserToken(), first_hop).token();
  EXPECT_EQ(kit.Exchange(kit.planner, another, narrower).status, 200);
}

TEST_F(AttacksTest, T8WhoAsksForMoreThanIsLeftIsTold) {
  TaskRecord wide = kit.world.task;
  wide.id = "task-wide";
  wide.budget = 40;
  kit.Create(wide);
  FormFields first_hop = kit.FirstHop();
  first_hop["task"] = "task-wide";
  const std::string parent = kit.Exchange(kit.planner, kit.UserToken(), first_hop).token();
  FormFields next{{"resource", World::kOrdersUri}};
  next["authorization_details"] =
      R"([{"type":"mcp_tool_call","locations":["https://orders.example/mcp"],"tools":["query"],"max_calls":3}])";
  const Read most = kit.Exchange(kit.worker, parent, next);
  ASSERT_EQ(most.status, 200) << most.text;
  const Read more = kit.Exchange(kit.worker, parent, next);
  EXPECT_EQ(more.error(), "access_denied");
  EXPECT_EQ(more.reason(), "budget_exhausted");
  EXPECT_EQ(kit.Exchange(kit.worker, parent, {{"resource", World::kOrdersUri}}).status, 200);  // one of the two left
}

TEST_F(AttacksTest, T8TheSameUsersTokenGivesNoLaterCheckpoint) {
  const Read first = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());
  const absl::Time reauth_at = kit.Parse(first.token()).context.reauth_at;
  kit.CatchUp();
  kit.clock.Advance(absl::Minutes(30));
  const Read later = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());  // fresh from the IdP
  ASSERT_EQ(later.status, 200) << later.text;
  EXPECT_EQ(kit.Parse(later.token()).context.reauth_at, reauth_at);
  kit.clock.Advance(absl::Minutes(31));
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).reason(), "reauthorization_required");
}

// --- tools (D.2 10) --------------------------------------------------------------------------------------------------

TEST_F(AttacksTest, D2_10UndeclaredAndChangedToolsAreClosed) {
  const auto ask = [&](const std::string& tool) {
    FormFields fields{{"resource", World::kOrdersUri}};
    fields["authorization_details"] = absl::StrCat(
        R"([{"type":"mcp_tool_call","locations":["https://orders.example/mcp"],"tools":[")", tool, R"("]}])");
    return kit.Exchange(kit.planner, kit.UserToken(), fields);
  };
  EXPECT_EQ(ask("drop_table").error(), "invalid_authorization_details");
  const Read query = ask("query");
  ASSERT_EQ(query.status, 200) << query.text;
  ResourceRecord changed = kit.world.orders_resource;
  changed.tools[0].hash = World::Hash('f');
  kit.Put(changed);
  EXPECT_EQ(ask("query").reason(), "tool_changed");
  EXPECT_EQ(ask(R"(list","query)").reason(), "tool_changed");  // beside one that is as it was
  EXPECT_EQ(ask("list").status, 200);
  FormFields seen = kit.Presented(kit.planner, query.token(), World::kOrdersUri);
  seen["tool"] = "query";
  EXPECT_EQ(kit.Introspect(kit.orders, query.token(), seen).text, R"({"active":false})");
}

// --- revocation (T3, D.2 9) ------------------------------------------------------------------------------------------

TEST_F(AttacksTest, T3ARevokedUserStaysOutUntilReinstatedAndWithOldTokensForEver) {
  const std::string user = kit.UserToken();
  const std::string first = kit.FirstToken();
  EXPECT_TRUE((kit.Revoke(EntityKind::kUser, oauth::UserKey(World::kUserIssuer, "u-1"))).ok());
  EXPECT_EQ(WorkerHop(first).reason(), "revoked");
  EXPECT_EQ(kit.Exchange(kit.planner, user, kit.FirstHop()).status, 400);
  kit.clock.Advance(absl::Minutes(2));
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).status, 400);  // new, but not reinstated
  ASSERT_TRUE(testing::Await<uint64_t>([&](auto done) {
                kit.store->Reinstate(EntityKind::kUser, oauth::UserKey(World::kUserIssuer, "u-1"), kit.clock.Now(),
                                     std::move(done));
              }).ok());
  kit.CatchUp();
  EXPECT_EQ(WorkerHop(first).reason(), "revoked");
  FormFields without_task{{"resource", World::kWorkerUri}, {"scope", "work:run"}};
  EXPECT_EQ(kit.Exchange(kit.planner, user, without_task).error(), "invalid_request");  // the old token never again
  // What was granted before is dead too: the user consents anew.
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), without_task).error(), "invalid_target");
  FormFields by_name = without_task;
  by_name["grant"] = kit.world.grant.id;
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), by_name).reason(), "revoked");
  GrantRecord anew = kit.world.grant;
  anew.id = "grant-anew";
  kit.Create(anew);
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), without_task).status, 200);
}

TEST_F(AttacksTest, T3ATaskOlderThanTheSuspensionOfItsIdentityStaysDead) {
  ASSERT_TRUE(kit.Revoke(EntityKind::kIdentity, World::kPlanner, IdentityState::kSuspended).ok());
  ASSERT_TRUE(testing::Await<uint64_t>([&](auto done) {
                kit.store->Reinstate(EntityKind::kIdentity, World::kPlanner, kit.clock.Now(), std::move(done));
              }).ok());
  kit.CatchUp();
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).reason(), "revoked");
  TaskRecord task = kit.world.task;
  task.id = "task-8";
  kit.Create(task);
  FormFields of_old_grant = kit.FirstHop();
  of_old_grant["task"] = "task-8";
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), of_old_grant).reason(), "revoked");
  GrantRecord anew = kit.world.grant;
  anew.id = "grant-anew";
  kit.Create(anew);
  task.id = "task-9";
  task.grant = anew.id;
  kit.Create(task);
  FormFields fields = kit.FirstHop();
  fields["task"] = "task-9";
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), fields).status, 200);
}

TEST_F(AttacksTest, T3ANodeThatIsReinstatedNeedsNoNewConsent) {
  ASSERT_TRUE(kit.Revoke(EntityKind::kNode, "node-1").ok());
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).reason(), "revoked");
  ASSERT_TRUE(testing::Await<uint64_t>([&](auto done) {
                kit.store->Reinstate(EntityKind::kNode, "node-1", kit.clock.Now(), std::move(done));
              }).ok());
  kit.CatchUp();
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).status, 200);
}

// A JWT-SVID that was taken before its node was cut off is still within its life when the node comes back.
TEST_F(AttacksTest, T3AnAssertionFromBeforeTheRevocationAuthenticatesNobody) {
  Client client = kit.clients.Get(kit.planner);
  client.method = ClientAuthMethod::kJwtSvid;
  kit.clients.Add(client);
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).status, 200);
  ASSERT_TRUE(kit.Revoke(EntityKind::kNode, "node-1").ok());
  ASSERT_TRUE(testing::Await<uint64_t>([&](auto done) {
                kit.store->Reinstate(EntityKind::kNode, "node-1", kit.clock.Now(), std::move(done));
              }).ok());
  kit.CatchUp();
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).error(), "invalid_client");
  kit.clock.Advance(absl::Minutes(2));
  client.issued_at = kit.clock.Now();
  kit.clients.Add(client);
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).status, 200);
}

TEST_F(AttacksTest, D2_9NothingIsIssuedAfterARevocationReturned) {
  constexpr int kMints = 10'000, kThreads = 8;
  GrantRecord other = kit.world.grant;
  other.id = "g-2";
  kit.Create(other);
  const FormFields fields{
      {"resource", World::kWorkerUri}, {"scope", "work:run"}, {"grant", "g-2"}, {"token_binding", "x5t"}};
  const std::string user = kit.UserToken();
  std::atomic<bool> revoked = false;
  std::atomic<int> issued = 0, refused = 0, late = 0, next = 0;
  const auto mint = [&] {
    while (next.fetch_add(1) < kMints) {
      std::promise<void> answered;
      TokenRequest request = kit.RequestOf(kit.planner, fields);
      request.form["grant_type"] = ServiceKit::kExchange;
      request.form["subject_token"] = user;
      request.form["subject_token_type"] = ServiceKit::kAccessToken;
      kit.service->Token(std::move(request), [&](const TokenAnswer& answer) {
        // The moment at which it leaves.
        if (answer.status == 200) {
          ++issued;
          if (revoked) ++late;
        } else {
          ++refused;
        }
        answered.set_value();
      });
      answered.get_future().wait();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(mint);
  while (issued < kMints / 10) std::this_thread::yield();
  EXPECT_TRUE((kit.Revoke(EntityKind::kGrant, "g-2")).ok());
  revoked = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(late, 0);
  EXPECT_GT(issued, 0);
  EXPECT_GT(refused, 0);
  EXPECT_EQ(issued + refused, kMints);
}

// What the gate before the reply is for: the revocation comes while the record is written.
class SlowUses final : public TokenUseStore {
 public:
  explicit SlowUses(TokenUseStore& store) : store_(store) {}
  void Commit(Consume consume, absl::Time now, StatusCompletion done) override {
    store_.Commit(std::move(consume), now, [this, done = std::move(done)](const absl::Status& status) mutable {
      if (before_reply) before_reply();
      done(status);
    });
  }
  absl::StatusOr<RefreshRecord> GetRefresh(const std::string& hash) override { return store_.GetRefresh(hash); }
  void PruneUses(absl::Time now, Completion<size_t> done) override { store_.PruneUses(now, std::move(done)); }
  absl::StatusOr<std::vector<AuditRecord>> ReadAudit(const std::string& server_id, uint64_t epoch, uint64_t after_seq,
                                                     size_t limit) override {
    return store_.ReadAudit(server_id, epoch, after_seq, limit);
  }
  absl::StatusOr<std::vector<AuditRecord>> ReadAuditOfChain(const std::string& txn, size_t limit) override {
    return store_.ReadAuditOfChain(txn, limit);
  }
  absl::StatusOr<AuditRecord> LastAudit(const std::string& server_id) override { return store_.LastAudit(server_id); }
  absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> AuditChains() override { return store_.AuditChains(); }
  std::function<void()> before_reply;

 private:
  TokenUseStore& store_;
};

TEST_F(AttacksTest, T3ATokenThatWasSignedBeforeARevocationIsWithheldAfterIt) {
  fakes::FakeTokenUseStore uses;
  uses.AddTask("task-1", 0);
  SlowUses slow(uses);
  auto audit = AuditLog::Create({.server_id = "s2"}, slow, kit.signer, kit.clock).value();
  TokenServiceDeps base = kit.Deps();
  TokenServiceDeps deps{base.issuer,   base.token_endpoint, base.clients, base.registry,
                        base.gate,     base.signer,         *audit,       slow,
                        base.revoker,  base.issuer_keys,    base.alerts,  {},
                        base.executor, base.clock,          base.metrics};
  auto service = MakeTokenService(deps);
  slow.before_reply = [&] {
    slow.before_reply = nullptr;
    EXPECT_TRUE((kit.Revoke(EntityKind::kTask, "task-1")).ok());
  };
  std::promise<TokenAnswer> answer;
  TokenRequest request = kit.RequestOf(kit.planner, kit.FirstHop());
  request.form["grant_type"] = ServiceKit::kExchange;
  request.form["subject_token"] = kit.UserToken();
  request.form["subject_token_type"] = ServiceKit::kAccessToken;
  service->Token(std::move(request), [&](TokenAnswer a) { answer.set_value(std::move(a)); });
  const Read read = ServiceKit::ReadAnswer(answer.get_future().get());
  EXPECT_EQ(read.reason(), "revoked");
  EXPECT_EQ(read.token(), "");
}

TEST_F(AttacksTest, T3ARevocationWaitsForTheAnswerThatIsOnItsWay) {
  fakes::FakeTokenUseStore uses;  // its completions run here, so that the real store can write meanwhile
  uses.AddTask("task-1", 0);
  auto audit = AuditLog::Create({.server_id = "s2"}, uses, kit.signer, kit.clock).value();
  TokenServiceDeps base = kit.Deps();
  TokenServiceDeps deps{base.issuer,   base.token_endpoint, base.clients, base.registry,
                        base.gate,     base.signer,         *audit,       uses,
                        base.revoker,  base.issuer_keys,    base.alerts,  {},
                        base.executor, base.clock,          base.metrics};
  auto service = MakeTokenService(deps);
  TokenRequest request = kit.RequestOf(kit.planner, kit.FirstHop());
  request.form["grant_type"] = ServiceKit::kExchange;
  request.form["subject_token"] = kit.UserToken();
  request.form["subject_token_type"] = ServiceKit::kAccessToken;
  std::atomic<bool> left = false;
  std::promise<absl::Status> revoked;
  std::future<absl::Status> returned = revoked.get_future();
  service->Token(std::move(request), [&](const TokenAnswer& answer) {
    EXPECT_EQ(answer.status, 200) << answer.body;
    RevokeChange change;
    change.revocation.kind = EntityKind::kTask;
    change.revocation.entity = "task-1";
    change.revocation.not_before = kit.clock.Now();
    kit.revoker->Revoke(change, [&](const absl::StatusOr<uint64_t>& seq) {
      EXPECT_TRUE(left);
      revoked.set_value(seq.status());
    });
    while (kit.registry->revocations()->Find(EntityKind::kTask, "task-1") == nullptr) std::this_thread::yield();
    EXPECT_EQ(returned.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
    left = true;  // with the network
  });
  EXPECT_TRUE(returned.get().ok());
}

TEST_F(AttacksTest, T10ATokenLeavesOnlyWhenItsRecordIsDurable) {
  fakes::FakeTokenUseStore uses;
  uses.AddTask("task-1", 0);
  auto audit = AuditLog::Create({.server_id = "s2"}, uses, kit.signer, kit.clock).value();
  TokenServiceDeps base = kit.Deps();
  TokenServiceDeps deps{base.issuer,   base.token_endpoint, base.clients, base.registry,
                        base.gate,     base.signer,         *audit,       uses,
                        base.revoker,  base.issuer_keys,    base.alerts,  {},
                        base.executor, base.clock,          base.metrics};
  auto service = MakeTokenService(deps);
  // A store that is full is no exhausted budget: the client shall try again.
  for (const absl::Status& failure :
       {absl::UnavailableError("disk full"), absl::ResourceExhaustedError("full queue")}) {
    uses.FailNext(failure);
    std::promise<TokenAnswer> answer;
    TokenRequest request = kit.RequestOf(kit.planner, kit.FirstHop());
    request.form["grant_type"] = ServiceKit::kExchange;
    request.form["subject_token"] = kit.UserToken();
    request.form["subject_token_type"] = ServiceKit::kAccessToken;
    service->Token(std::move(request), [&](TokenAnswer a) { answer.set_value(std::move(a)); });
    const Read read = ServiceKit::ReadAnswer(answer.get_future().get());
    EXPECT_EQ(read.status, 503);
    EXPECT_EQ(read.error(), "temporarily_unavailable");
    EXPECT_EQ(read.token(), "");
  }
}

// --- what is on record -----------------------------------------------------------------------------------------------

TEST_F(AttacksTest, D2_14NoTokenStandsInTheAudit) {
  const std::string user = kit.UserToken();
  const Read first = kit.Exchange(kit.planner, user, kit.FirstHop());
  const Read hop = WorkerHop(first.token());
  const Read next =
      kit.Token(kit.planner, {{"grant_type", "refresh_token"}, {"refresh_token", first.Get("refresh_token")}});
  kit.Introspect(kit.worker, first.token(), kit.Presented(kit.planner, first.token(), World::kWorkerUri));
  for (const boost::json::object& record : kit.Audit()) {
    const std::string text = boost::json::serialize(record);
    for (const std::string& secret :
         {user, first.token(), hop.token(), next.token(), first.Get("refresh_token"), next.Get("refresh_token")}) {
      EXPECT_EQ(text.find(secret), std::string::npos);
      EXPECT_EQ(text.find(secret.substr(secret.rfind('.') + 1)), std::string::npos);
    }
  }
}

TEST_F(AttacksTest, D2_15TheAuditOfAllThisVerifies) {
  WorkerHop(kit.FirstToken());
  kit.Exchange(kit.planner, "x", {});
  const AuditLog::Verification result = kit.audit->Verify("s1", "");
  EXPECT_TRUE(result.proven) << result.problem;
  EXPECT_GE(result.records, 4u);
}

}  // namespace
}  // namespace signet::server
