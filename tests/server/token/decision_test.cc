#include "server/token/decision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/server/token/decision_world.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using oauth::Atom;
using oauth::Atoms;
using ::testing::IsEmpty;

// "error/reason", or "granted".
std::string Outcome(const DecisionInput& in) {
  const Decision d = Decide(in);
  if (!d.refusal.has_value()) return "granted";
  EXPECT_THAT(d.granted, IsEmpty());
  EXPECT_THAT(d.scope, IsEmpty());
  return d.refusal->error + "/" + d.refusal->reason;
}

Atoms Of(const Atoms& atoms, const std::string& resource) {
  Atoms some;
  for (const Atom& atom : atoms) {
    if (atom.resource == resource) some.push_back(atom);
  }
  return some;
}

class DecisionTest : public ::testing::Test {
 protected:
  World w;
  oauth::AccessToken First(bool in_task = true) {
    const DecisionInput in = in_task ? w.FirstHopInTask() : w.FirstHop();
    const Decision d = Decide(in);
    EXPECT_FALSE(d.refusal.has_value()) << d.refusal->detail;
    return w.Token(in, d, "jti-1");
  }
};

TEST_F(DecisionTest, FirstHopGrantsWithinTheConsentBoundary) {
  const Decision d = Decide(w.FirstHop());
  ASSERT_FALSE(d.refusal.has_value()) << d.refusal->detail;
  Atoms expected = Of(w.everything, World::kOrdersUri);
  for (const Atom& atom : Of(w.everything, World::kWorkerUri)) expected.push_back(atom);
  EXPECT_EQ(d.granted, *oauth::Normalize(expected));  // "other" is not in the catalogue of what was asked
  EXPECT_EQ(d.scope, "work:run");                     // of the audience alone
  EXPECT_EQ(d.depth, 1);
  EXPECT_EQ(d.max_depth, 5);
  EXPECT_FALSE(d.near_depth_limit);
  ASSERT_EQ(d.actors.size(), 1u);
  EXPECT_EQ(d.actors[0], (oauth::Actor{.subject = "spiffe://td/agent/planner/1", .issuer = "spiffe://td"}));
  EXPECT_EQ(d.expires_at, w.now + absl::Minutes(5));
  EXPECT_EQ(d.expiry_bound_by, "ttl");
  EXPECT_EQ(d.calls, std::nullopt);
  EXPECT_EQ(d.reauth_at, w.now - absl::Minutes(2) + absl::Hours(1));
}

TEST_F(DecisionTest, NewHopKeepsTheChainAndShrinks) {
  const oauth::AccessToken parent = First();
  DecisionInput in = w.WorkerHop(parent);
  in.requested = ExpandScopes(w.orders_resource, {"orders:read"}, nullptr);
  const Decision d = Decide(in);
  ASSERT_FALSE(d.refusal.has_value()) << d.refusal->detail;
  EXPECT_EQ(d.granted, in.requested);
  EXPECT_EQ(d.scope, "orders:read");
  EXPECT_EQ(d.depth, 2);
  ASSERT_EQ(d.actors.size(), 2u);
  EXPECT_EQ(d.actors[0].subject, "spiffe://td/agent/worker/1");
  EXPECT_EQ(d.actors[1].subject, "spiffe://td/agent/planner/1");
}

TEST_F(DecisionTest, NarrowingKeepsDepthAndActors) {  // section 4: in place, no new act
  const oauth::AccessToken parent = First();
  DecisionInput in = w.PlannerNarrows(parent);
  in.requested = Of(w.everything, World::kWorkerUri);
  const Decision d = Decide(in);
  ASSERT_FALSE(d.refusal.has_value()) << d.refusal->detail;
  EXPECT_EQ(d.depth, 1);
  EXPECT_EQ(d.actors, parent.actors);
  EXPECT_EQ(d.granted, in.requested);
}

TEST_F(DecisionTest, NarrowingIsForTheSameInstance) {
  const oauth::AccessToken parent = First();
  DecisionInput in = w.PlannerNarrows(parent);
  in.instance = "instance-of-another-node";
  EXPECT_EQ(Outcome(in), "unauthorized_client/instance_mismatch");
  in = w.PlannerNarrows(parent);
  in.client_id = "spiffe://td/agent/planner/2";
  EXPECT_EQ(Outcome(in), "unauthorized_client/instance_mismatch");
}

// --- operands
// -------------------------------------------------------------------------------------------------------------

TEST_F(DecisionTest, EachOperandRemovesAndIsNamed) {
  const oauth::AccessToken parent = First();
  const Atom cancel =
      *std::find_if(w.everything.begin(), w.everything.end(), [](const Atom& a) { return a.action == "cancel"; });
  const auto drop = [&](Atoms& atoms) { std::erase(atoms, cancel); };
  const std::pair<const char*, std::function<void(World&, oauth::AccessToken&, DecisionInput&)>> kCases[] = {
      {"parent", [&](World&, oauth::AccessToken& p, DecisionInput&) { drop(p.atoms); }},
      {"grant", [&](World& x, oauth::AccessToken&, DecisionInput&) { drop(x.grant.atoms); }},
      {"ceiling", [&](World& x, oauth::AccessToken&, DecisionInput&) { drop(x.worker.ceiling); }},
      {"user", [&](World&, oauth::AccessToken&, DecisionInput& in) { drop(in.user->rights); }},
      {"catalogue",
       [&](World& x, oauth::AccessToken&, DecisionInput&) { x.orders_resource.tools[2].tombstone = true; }},
      {"task", [&](World& x, oauth::AccessToken&, DecisionInput&) { drop(x.task.atoms); }},
  };
  for (const auto& [operand, change] : kCases) {
    World x;
    oauth::AccessToken p = parent;
    DecisionInput in = x.WorkerHop(p);
    change(x, p, in);
    const Decision d = Decide(in);
    ASSERT_FALSE(d.refusal.has_value()) << operand << d.refusal->detail;
    EXPECT_EQ(std::count(d.granted.begin(), d.granted.end(), cancel), 0) << operand;
    for (const TraceStep& step : d.trace) {
      EXPECT_EQ(std::count(step.removed.begin(), step.removed.end(), cancel), step.operand == operand ? 1 : 0)
          << operand << " " << step.operand;
    }
  }
}

TEST_F(DecisionTest, ABoundOfAnyOperandStays) {
  oauth::Constraint most;
  most.max = 10;
  w.grant.atoms = w.everything;
  for (Atom& atom : w.grant.atoms) atom.constraints = {{"rows", most}};
  const Decision d = Decide(w.FirstHop());
  ASSERT_FALSE(d.refusal.has_value());
  for (const Atom& atom : d.granted) EXPECT_EQ(atom.constraints.at("rows").max, 10);
  EXPECT_EQ(d.scope, "");  // granted, but not whole
  EXPECT_EQ(d.trace[2].operand, "grant");
  EXPECT_FALSE(d.trace[2].narrowed.empty());
}

TEST_F(DecisionTest, NothingAskedIsTheDeclaredMinimum) {
  const oauth::AccessToken parent = First();
  DecisionInput in = w.WorkerHop(parent);
  in.nothing_asked = true;
  in.requested.clear();
  const Decision d = Decide(in);
  ASSERT_FALSE(d.refusal.has_value());
  EXPECT_EQ(d.granted, ExpandScopes(w.orders_resource, {"orders:read"}, nullptr));
  w.orders_resource.default_scopes.clear();
  EXPECT_EQ(Outcome(in), "invalid_scope/");
}

TEST_F(DecisionTest, AnEmptyIntersectionIsInvalidScope) {
  DecisionInput in = w.FirstHop();
  in.requested.clear();
  EXPECT_EQ(Outcome(in), "invalid_scope/");
  in.requested = Of(w.everything, World::kOrdersUri);  // nothing for the audience itself
  EXPECT_EQ(Outcome(in), "invalid_scope/");
}

TEST_F(DecisionTest, OneToolInTwoWaysIsRefused) {
  DecisionInput in = w.FirstHop();
  Atom bounded = in.requested.front();
  oauth::Constraint most;
  most.max = 1;
  bounded.constraints = {{"f", most}};
  in.requested.push_back(bounded);
  EXPECT_EQ(Outcome(in), "invalid_authorization_details/");
}

TEST_F(DecisionTest, TheConsentBoundary) {
  w.grant.audiences = {World::kOrdersUri};
  EXPECT_EQ(Outcome(w.FirstHop()), "invalid_target/consent_boundary");
  w.grant.audiences = {World::kWorkerUri};
  EXPECT_EQ(Outcome(w.FirstHop()), "invalid_target/consent_boundary");  // what is carried along, too
  DecisionInput in = w.FirstHop();
  in.carried.clear();
  EXPECT_EQ(Outcome(in), "granted");
  w.worker_resource.tombstone = true;
  EXPECT_EQ(Outcome(in), "invalid_target/");
}

TEST_F(DecisionTest, D2_10_ToolsThatAreNotWhatWasConsentedToAreRefused) {
  const oauth::AccessToken parent = First();
  DecisionInput in = w.WorkerHop(parent);
  in.unknown_tools = {"drop_tables"};
  EXPECT_EQ(Outcome(in), "invalid_authorization_details/tool_undeclared");
  // The schema changed since consent: the catalogue has another hash than grant, parent and task.
  in = w.WorkerHop(parent);
  w.orders_resource.tools[0].hash = World::Hash('f');
  std::vector<std::string> unknown;
  in.requested = ExpandDetails(w.orders_resource, {{.resource = World::kOrdersUri, .tools = {"query"}}}, &unknown);
  EXPECT_THAT(unknown, IsEmpty());
  EXPECT_EQ(Outcome(in), "invalid_authorization_details/tool_changed");
  // With others that are as they were, too: what is named is had whole, or refused. By a scope it is left out.
  in.requested =
      ExpandDetails(w.orders_resource, {{.resource = World::kOrdersUri, .tools = {"query", "list"}}}, &unknown);
  EXPECT_EQ(Outcome(in), "granted");
  in.named_tools = in.requested;
  EXPECT_EQ(Outcome(in), "invalid_authorization_details/tool_changed");
  in.named_tools.clear();
  // Renamed to a trusted name: the hash is not that of the trusted one.
  w.orders_resource.tools[0] = World::Tool("query", 'c', {"orders:read"});
  in.requested = ExpandDetails(w.orders_resource, {{.resource = World::kOrdersUri, .tools = {"query"}}}, &unknown);
  EXPECT_EQ(Outcome(in), "invalid_authorization_details/tool_changed");
}

// --- T1
// -------------------------------------------------------------------------------------------------------------------

TEST_F(DecisionTest, T1AbsentOperandIsEmpty) {
  const oauth::AccessToken parent = First();
  const std::pair<const char*, std::function<void(DecisionInput&)>> kCases[] = {
      {"unauthorized_client/", [](DecisionInput& in) { in.identity = nullptr; }},
      {"invalid_request/", [](DecisionInput& in) { in.parent = nullptr; }},
      {"unauthorized_client/actor_not_permitted", [](DecisionInput& in) { in.parent_resource = nullptr; }},
      {"invalid_target/consent_boundary", [](DecisionInput& in) { in.grant = nullptr; }},
      {"invalid_target/", [](DecisionInput& in) { in.target = nullptr; }},
      {"invalid_scope/", [](DecisionInput& in) { in.user.reset(); }},
      {"invalid_grant/task_closed", [](DecisionInput& in) { in.task_record = nullptr; }},
      {"invalid_scope/", [](DecisionInput& in) { in.requested.clear(); }},
      {"invalid_target/", [](DecisionInput& in) { in.carried = {nullptr}; }},
  };
  EXPECT_EQ(Outcome(w.WorkerHop(parent)), "granted");
  for (const auto& [outcome, remove] : kCases) {
    DecisionInput in = w.WorkerHop(parent);
    remove(in);
    EXPECT_EQ(Outcome(in), outcome);
  }
  for (Atoms* operand : {&w.grant.atoms, &w.worker.ceiling, &w.task.atoms}) {
    const Atoms kept = *operand;
    operand->clear();
    EXPECT_EQ(Outcome(w.WorkerHop(parent)), "invalid_scope/");
    *operand = kept;
  }
}

TEST_F(DecisionTest, T1TheContextCanBeRepeatedAndNeverReplaced) {
  const oauth::AccessToken parent = First();
  DecisionInput in = w.WorkerHop(parent);
  in.task = "task-1";
  in.session = "s-1";
  EXPECT_EQ(Outcome(in), "granted");
  in.session = "s-2";
  EXPECT_EQ(Outcome(in), "access_denied/session_mismatch");
  in = w.WorkerHop(parent);
  in.task = "task-2";
  EXPECT_EQ(Outcome(in), "access_denied/task_mismatch");
  in = w.WorkerHop(parent);
  TaskRecord other = w.task;
  other.id = "task-2";
  in.task_record = &other;
  EXPECT_EQ(Outcome(in), "invalid_grant/task_closed");
  GrantRecord another = w.grant;
  another.id = "g-2";
  in = w.WorkerHop(parent);
  in.grant = &another;
  EXPECT_EQ(Outcome(in), "access_denied/consent_boundary");
  // A chain without task or session gets none later.
  const oauth::AccessToken loose = First(false);
  in = w.WorkerHop(loose);
  in.session = "s-1";
  EXPECT_EQ(Outcome(in), "access_denied/session_mismatch");
  in = w.WorkerHop(loose);
  in.task = "task-1";
  in.task_record = &w.task;
  EXPECT_EQ(Outcome(in), "access_denied/task_mismatch");
}

TEST_F(DecisionTest, D2_7_ATaskThatChangedOrEndedGivesNothing) {
  const oauth::AccessToken parent = First();
  w.task.state = TaskState::kClosed;
  EXPECT_EQ(Outcome(w.WorkerHop(parent)), "invalid_grant/task_closed");
  w.task.state = TaskState::kOpen;
  w.task.hash = "sha-256:another";
  EXPECT_EQ(Outcome(w.WorkerHop(parent)), "access_denied/task_mismatch");
  w.task.hash = parent.context.task_hash;
  w.task.deadline = w.now;
  EXPECT_EQ(Outcome(w.WorkerHop(parent)), "invalid_grant/task_closed");
}

TEST_F(DecisionTest, T1OwnAuthorityStandsAlone) {
  EXPECT_EQ(Outcome(w.OwnAuthority()), "invalid_scope/");  // default: empty, whatever the ceiling
  w.planner.own_authority = Of(w.everything, World::kOrdersUri);
  const Decision d = Decide(w.OwnAuthority());
  ASSERT_FALSE(d.refusal.has_value()) << d.refusal->detail;
  EXPECT_EQ(d.granted, w.planner.own_authority);
  EXPECT_THAT(d.actors, IsEmpty());
  EXPECT_EQ(d.max_depth, 1);
  w.planner.ceiling.clear();
  EXPECT_EQ(Outcome(w.OwnAuthority()), "granted");
  const std::function<void(DecisionInput&)> kCases[] = {
      [&](DecisionInput& in) { in.grant = &w.grant; },
      [&](DecisionInput& in) { in.user = w.user; },
      [&](DecisionInput& in) { in.task = "task-1"; },
      [&](DecisionInput& in) { in.task_record = &w.task; },
      [&](DecisionInput& in) { in.carried = {&w.worker_resource}; },
  };
  for (const auto& add : kCases) {
    DecisionInput in = w.OwnAuthority();
    add(in);
    EXPECT_EQ(Outcome(in), "invalid_request/own_authority");
  }
}

TEST_F(DecisionTest, T1OwnAuthorityIsNoSubjectToken) {
  oauth::AccessToken own = First();
  own.actors.clear();
  own.subject = own.client_id;
  own.subject_profile = "ai_agent";
  EXPECT_EQ(Outcome(w.WorkerHop(own)), "invalid_request/own_authority");
  EXPECT_EQ(Outcome(w.PlannerNarrows(own)), "invalid_request/own_authority");
}

TEST_F(DecisionTest, OnlyActiveIdentitiesAct) {
  for (IdentityState state : {IdentityState::kDraft, IdentityState::kSuspended, IdentityState::kRetired}) {
    w.planner.state = state;
    EXPECT_EQ(Outcome(w.FirstHop()), "unauthorized_client/identity_inactive");
  }
}

// --- T2
// -------------------------------------------------------------------------------------------------------------------

TEST_F(DecisionTest, T2HoldingATokenDoesNotMakeAnActor) {
  const oauth::AccessToken parent = First();
  // The orders server holds the planner's token for the worker: it is in `actors`, yet does not serve that audience.
  DecisionInput in = w.Under(RequestKind::kNewHop, parent, w.orders, w.worker_resource, w.orders_resource);
  EXPECT_EQ(Outcome(in), "unauthorized_client/actor_not_permitted");
  // The audience shown must be that of the token.
  in.parent_resource = &w.orders_resource;
  EXPECT_EQ(Outcome(in), "unauthorized_client/actor_not_permitted");
  // The worker serves it, but the grant does not name the worker.
  w.grant.actors = {World::kOrders};
  EXPECT_EQ(Outcome(w.WorkerHop(parent)), "unauthorized_client/actor_not_permitted");
  w.grant.actors = {World::kWorker};
  EXPECT_EQ(Outcome(w.WorkerHop(parent)), "granted");
}

TEST_F(DecisionTest, T2AGrantIsForTheIdentityThatStartsTheChain) {
  DecisionInput in = w.Base(RequestKind::kFirstHop, w.worker, w.worker_resource);
  in.grant = &w.grant;
  in.user = w.user;
  EXPECT_EQ(Outcome(in), "unauthorized_client/actor_not_permitted");
}

TEST_F(DecisionTest, D2_6_NamesAreComparedBySegments) {
  IdentityRecord evil = w.Identity("spiffe://td/agent/planner-evil");
  DecisionInput in = w.Base(RequestKind::kFirstHop, evil, w.worker_resource);
  in.grant = &w.grant;
  in.user = w.user;
  EXPECT_EQ(Outcome(in), "unauthorized_client/actor_not_permitted");
  // A client that claims a definition it is not below.
  in = w.FirstHop();
  in.client_id = "spiffe://td/agent/planner-evil/1";
  EXPECT_EQ(Outcome(in), "unauthorized_client/");
  in.client_id = "spiffe://td/agent/planner/x/1";
  EXPECT_EQ(Outcome(in), "unauthorized_client/");
  in.client_id = "spiffe://TD/agent/planner/1";
  EXPECT_EQ(Outcome(in), "unauthorized_client/");
}

TEST_F(DecisionTest, D2_6_T2ACycleIsRefused) {  // A -> B -> A, by definition
  const oauth::AccessToken first = First();
  w.orders_resource.servers = {World::kPlanner};
  w.grant.actors.push_back(World::kPlanner);
  const DecisionInput hop = w.WorkerHop(first);
  const Decision second = Decide(hop);
  ASSERT_FALSE(second.refusal.has_value());
  const oauth::AccessToken token = w.Token(hop, second, "jti-2");
  DecisionInput back = w.Under(RequestKind::kNewHop, token, w.planner, w.orders_resource, w.worker_resource);
  EXPECT_EQ(Outcome(back), "access_denied/cycle");
  back.client_id = "spiffe://td/agent/planner/another";
  EXPECT_EQ(Outcome(back), "access_denied/cycle");
}

TEST_F(DecisionTest, T2AnAdjacentRepeatIsNoCycle) {
  const oauth::AccessToken first = First();
  w.worker_resource.servers = {World::kPlanner};
  w.grant.actors.push_back(World::kPlanner);
  DecisionInput in = w.Under(RequestKind::kNewHop, first, w.planner, w.worker_resource, w.orders_resource);
  in.client_id = "spiffe://td/agent/planner/2";
  in.instance = "instance-2";
  EXPECT_EQ(Outcome(in), "granted");
}

// --- T7
// -------------------------------------------------------------------------------------------------------------------

TEST_F(DecisionTest, T7AUserIsThePair) {
  DecisionInput in = w.FirstHop();
  in.user->issuer = "https://other-idp.example";
  EXPECT_EQ(Outcome(in), "access_denied/user_mismatch");
  in = w.FirstHop();
  in.user->subject = "u-2";
  EXPECT_EQ(Outcome(in), "access_denied/user_mismatch");
  oauth::AccessToken parent = First();
  parent.context.user_subject = "u-2";
  EXPECT_EQ(Outcome(w.WorkerHop(parent)), "access_denied/user_mismatch");
}

TEST_F(DecisionTest, T7AFederatedClientActsForNamedIssuersOnly) {
  DecisionInput in = w.FirstHop();
  in.own_trust_domain = false;
  EXPECT_EQ(Outcome(in), "access_denied/actor_not_permitted");
  w.planner.user_issuers = {"https://other-idp.example"};
  EXPECT_EQ(Outcome(in), "access_denied/actor_not_permitted");
  w.planner.user_issuers = {World::kUserIssuer};
  EXPECT_EQ(Outcome(in), "granted");
}

TEST_F(DecisionTest, T7RightsThatAreTooOldAreEmpty) {
  const oauth::AccessToken parent = First();
  DecisionInput in = w.WorkerHop(parent);
  in.user->rights_at = w.now - in.user->rights_max_age;
  EXPECT_EQ(Outcome(in), "granted");
  in.user->rights_at -= absl::Seconds(1);
  EXPECT_EQ(Outcome(in), "invalid_scope/rights_stale");
  in.user->rights_at = absl::InfinitePast();
  EXPECT_EQ(Outcome(in), "invalid_scope/rights_stale");
}

// --- T8
// -------------------------------------------------------------------------------------------------------------------

TEST_F(DecisionTest, T8TheQuotaComesFromOneBudget) {
  w.task.budget = 80;
  EXPECT_EQ(Decide(w.FirstHopInTask()).calls, 10);  // an eighth when nothing is said
  DecisionInput in = w.FirstHopInTask();
  in.max_calls = 1000;
  EXPECT_EQ(Decide(in).calls, 80);
  w.task.reserved = 77;
  EXPECT_EQ(Decide(in).calls, 3);
  EXPECT_EQ(Decide(w.FirstHopInTask()).calls, 3);
  w.task.reserved = 80;
  EXPECT_EQ(Outcome(in), "access_denied/budget_exhausted");
  w.task.reserved = 0;
  oauth::AccessToken parent = First();
  parent.context.calls = 7;
  in = w.WorkerHop(parent);
  EXPECT_EQ(Decide(in).calls, 1);  // an eighth of the parent's, so that it leaves something
  parent.context.calls = 17;
  EXPECT_EQ(Decide(in).calls, 3);
  parent.context.calls = 7;
  in.max_calls = 8;
  EXPECT_EQ(Decide(in).calls, 7);
  in.max_calls = 2;
  EXPECT_EQ(Decide(in).calls, 2);
  in.max_calls = 0;
  EXPECT_EQ(Outcome(in), "invalid_request/");
  parent.context.calls = 0;
  in.max_calls.reset();
  EXPECT_EQ(Outcome(in), "access_denied/budget_exhausted");
}

TEST_F(DecisionTest, T8ATaskIsBoundToOneInstanceAndOneUser) {
  w.task.instance = w.FirstHopInTask().instance;
  w.task.root_subject = oauth::UserKey(World::kUserIssuer, "u-1");
  EXPECT_EQ(Outcome(w.FirstHopInTask()), "granted");
  DecisionInput in = w.FirstHopInTask();
  in.instance = "another";
  EXPECT_EQ(Outcome(in), "access_denied/instance_mismatch");
  in.instance = "";
  EXPECT_EQ(Outcome(in), "access_denied/instance_mismatch");
  w.task.root_subject = oauth::UserKey(World::kUserIssuer, "u-2");
  EXPECT_EQ(Outcome(w.FirstHopInTask()), "access_denied/user_mismatch");
  w.task.root_subject.clear();
  w.task.identity = World::kWorker;
  EXPECT_EQ(Outcome(w.FirstHopInTask()), "access_denied/task_mismatch");
}

TEST_F(DecisionTest, T8TheUsersTokenAgainOpensNoNewEnvelope) {
  w.task.reauth_at = w.now + absl::Minutes(3);  // fixed at first use
  DecisionInput in = w.FirstHopInTask();
  in.user->auth_time = w.now;
  const Decision d = Decide(in);
  EXPECT_EQ(d.reauth_at, w.task.reauth_at);
  EXPECT_EQ(d.expires_at, w.task.reauth_at);
  EXPECT_EQ(d.expiry_bound_by, "reauth_at");
  w.task.reauth_at = w.now;
  EXPECT_EQ(Outcome(in), "invalid_grant/reauthorization_required");
}

TEST_F(DecisionTest, ReauthorizationCountsFromTheUsersPresence) {
  DecisionInput in = w.FirstHop();
  in.user->auth_time = w.now - absl::Hours(1);
  EXPECT_EQ(Outcome(in), "invalid_grant/reauthorization_required");
  in.user->auth_time = absl::InfinitePast();  // not said: the token's own time
  EXPECT_EQ(Decide(in).reauth_at, in.user->rights_at + absl::Hours(1));
  in.user->auth_time = w.now + absl::Hours(9);  // nobody authenticated in the future
  EXPECT_EQ(Decide(in).reauth_at, w.now + absl::Hours(1));
  oauth::AccessToken parent = First();
  parent.context.reauth_at = w.now + absl::Minutes(1);
  EXPECT_EQ(Decide(w.WorkerHop(parent)).reauth_at, w.now + absl::Minutes(1));
}

// --- depth and time
// -------------------------------------------------------------------------------------------------------

TEST_F(DecisionTest, D2_5_DepthIsBoundedByEveryMaximum) {
  const oauth::AccessToken first = First();
  const std::function<void(World&, oauth::AccessToken&)> kCases[] = {
      [](World& x, oauth::AccessToken&) { x.grant.max_depth = 1; },
      [](World& x, oauth::AccessToken&) { x.worker.max_depth = 1; },
      [](World&, oauth::AccessToken& p) { p.context.max_depth = 1; },
  };
  for (const auto& change : kCases) {
    World x;
    oauth::AccessToken parent = first;
    change(x, parent);
    EXPECT_EQ(Outcome(x.WorkerHop(parent)), "access_denied/depth_exceeded");
  }
  oauth::AccessToken deep = first;
  deep.context.depth = deep.context.max_depth = 5;
  w.worker.max_depth = w.grant.max_depth = 100;
  EXPECT_EQ(Outcome(w.WorkerHop(deep)), "access_denied/depth_exceeded");
}

TEST_F(DecisionTest, D2_5_MaxDepthNeverRisesAndTheLimitRaisesAnAlert) {
  oauth::AccessToken parent = First();
  parent.context.max_depth = 3;
  EXPECT_EQ(Decide(w.WorkerHop(parent)).max_depth, 3);
  EXPECT_FALSE(Decide(w.WorkerHop(parent)).near_depth_limit);  // 2 of 3
  parent.context.max_depth = 2;
  EXPECT_TRUE(Decide(w.WorkerHop(parent)).near_depth_limit);
  parent.context.max_depth = 4;
  parent.context.depth = 2;
  EXPECT_TRUE(Decide(w.WorkerHop(parent)).near_depth_limit);  // 3 of 4: 75 %
}

TEST_F(DecisionTest, ExpiryIsTheLeastOfAllBounds) {
  oauth::AccessToken parent = First();
  const absl::Time soon = w.now + absl::Seconds(30);
  const std::pair<const char*, std::function<void(World&, DecisionInput&)>> kCases[] = {
      {"ttl", [](World& x, DecisionInput&) { x.orders_resource.token_ttl = absl::Seconds(30); }},
      {"ttl", [](World& x, DecisionInput&) { x.worker.token_ttl = absl::Seconds(30); }},
      {"parent", [&](World&, DecisionInput&) { parent.expires_at = soon; }},
      {"grant", [&](World& x, DecisionInput&) { x.grant.expires_at = soon; }},
      {"task", [&](World& x, DecisionInput&) { x.task.deadline = soon; }},
      {"reauth_at", [&](World& x, DecisionInput&) { x.task.reauth_at = soon; }},
      {"certificate", [&](World&, DecisionInput& in) { in.certificate_not_after = soon + absl::Milliseconds(900); }},
  };
  for (const auto& [bound_by, change] : kCases) {
    World x;
    parent.expires_at = w.now + absl::Hours(1);
    DecisionInput in = x.WorkerHop(parent);
    change(x, in);
    const Decision d = Decide(in);
    ASSERT_FALSE(d.refusal.has_value()) << d.refusal->detail;
    EXPECT_EQ(d.expires_at, soon) << bound_by;
    EXPECT_EQ(d.expiry_bound_by, bound_by);
  }
  DecisionInput in = w.WorkerHop(parent);
  in.certificate_not_after = w.now + absl::Milliseconds(100);
  EXPECT_EQ(Outcome(in), "access_denied/expired");
  parent.expires_at = w.now;
  EXPECT_EQ(Outcome(w.WorkerHop(parent)), "invalid_request/expired");
  w.grant.expires_at = w.now;
  EXPECT_EQ(Outcome(w.FirstHop()), "invalid_grant/expired");
  w.grant.state = GrantState::kVoid;
  EXPECT_EQ(Outcome(w.FirstHop()), "invalid_grant/revoked");
}

TEST_F(DecisionTest, RiskShortensALongTtl) {
  w.worker_resource.token_ttl = w.planner.token_ttl = absl::Hours(2);
  const auto ttl = [&] { return Decide(w.FirstHop()).expires_at - w.now; };
  EXPECT_EQ(ttl(), kMaxTtlHigh);
  w.planner.risk = oauth::Risk::kLow;
  EXPECT_EQ(ttl(), kMaxTtlHigh);  // a tool of high risk is carried along
  for (ToolRecord& tool : w.orders_resource.tools) tool.risk = oauth::Risk::kMedium;
  EXPECT_EQ(ttl(), kMaxTtlMedium);
  for (ToolRecord& tool : w.orders_resource.tools) tool.risk = oauth::Risk::kLow;
  EXPECT_EQ(ttl(), kMaxTtlLow);
}

TEST_F(DecisionTest, ABindingIsAsStrongAsTheResourceDemands) {
  DecisionInput in = w.FirstHop();
  in.binding = {};
  EXPECT_EQ(Outcome(in), "invalid_request/binding_required");
  in.binding.x5t_s256 = "cert";
  EXPECT_EQ(Outcome(in), "invalid_request/binding_required");  // its end must be known
  in.certificate_not_after = w.now + absl::Hours(1);
  EXPECT_EQ(Outcome(in), "granted");
  w.worker_resource.minimum_binding = oauth::MinimumBinding::kMtls;
  EXPECT_EQ(Outcome(in), "granted");
  EXPECT_EQ(Outcome(w.FirstHop()), "invalid_request/binding_required");
  w.worker_resource.minimum_binding = oauth::MinimumBinding::kBearer;
  in.binding = {};
  in.certificate_not_after.reset();
  EXPECT_EQ(Outcome(in), "granted");
}

// --- refresh
// ---------------------------------------------------------------------------------------------------------------

TEST_F(DecisionTest, RefreshRenewsWithinWhatWasGranted) {
  oauth::AccessToken token = First();
  w.task.instance = token.context.instance;
  w.now += absl::Minutes(20);  // the token itself is over
  DecisionInput in = w.Under(RequestKind::kRefresh, token, w.planner, w.worker_resource, w.worker_resource);
  EXPECT_EQ(Outcome(in), "access_denied/expired");  // how long it may live must be said
  in.refresh_not_after = absl::InfiniteFuture();
  const Decision d = Decide(in);
  ASSERT_FALSE(d.refusal.has_value()) << d.refusal->detail;
  EXPECT_EQ(d.granted, oauth::Meet(token.atoms, Catalogue(w.worker_resource)));
  EXPECT_EQ(d.depth, 1);
  EXPECT_EQ(d.actors, token.actors);
  EXPECT_EQ(d.expires_at, w.now + absl::Minutes(5));
  in.instance = "another";
  EXPECT_EQ(Outcome(in), "unauthorized_client/instance_mismatch");
  w.now += absl::Hours(1);
  in = w.Under(RequestKind::kRefresh, token, w.planner, w.worker_resource, w.worker_resource);
  in.refresh_not_after = absl::InfiniteFuture();
  in.user->rights_at = w.now;
  EXPECT_EQ(Outcome(in), "invalid_grant/reauthorization_required");
  token.context.task.clear();
  EXPECT_EQ(Outcome(in), "invalid_grant/task_mismatch");
}

// --- the catalogue
// -----------------------------------------------------------------------------------------------------------

TEST_F(DecisionTest, ScopesAndToolsExpandByTheRegistry) {
  std::vector<std::string> unknown;
  const Atoms read = ExpandScopes(w.orders_resource, {"orders:read", "nonsense"}, &unknown);
  EXPECT_EQ(read.size(), 3u);  // the action and two tools
  EXPECT_THAT(unknown, ::testing::ElementsAre("nonsense"));
  unknown.clear();
  const oauth::ToolCallDetails pinned{
      .resource = World::kOrdersUri, .tools = {"query"}, .tool_hashes = {{"query", World::Hash('z')}}};
  EXPECT_THAT(ExpandDetails(w.orders_resource, {pinned}, &unknown), IsEmpty());
  EXPECT_THAT(unknown, ::testing::ElementsAre("query"));
  EXPECT_THAT(ExpandDetails(w.worker_resource, {pinned}, &unknown), IsEmpty());  // another resource's: not looked at
  w.orders_resource.tombstone = true;
  EXPECT_THAT(Catalogue(w.orders_resource), IsEmpty());
}

TEST_F(DecisionTest, DetailsStandBeforeScopes) {
  oauth::Constraint most;
  most.max = 5;
  const Atoms details =
      ExpandDetails(w.orders_resource,
                    {{.resource = World::kOrdersUri, .tools = {"query"}, .constraints = {{"rows", most}}}}, nullptr);
  const auto all = Requested(ExpandScopes(w.orders_resource, {"orders:read"}, nullptr), details);
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(all->size(), 3u);
  EXPECT_TRUE(oauth::Within(details, *all));
  const Atoms twice =
      ExpandDetails(w.orders_resource,
                    {{.resource = World::kOrdersUri, .tools = {"query"}, .constraints = {{"rows", most}}},
                     {.resource = World::kOrdersUri, .tools = {"query"}}},
                    nullptr);
  EXPECT_FALSE(Requested({}, twice).ok());
}

}  // namespace
}  // namespace signet::server
