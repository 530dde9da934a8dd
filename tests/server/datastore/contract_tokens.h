// The TokenRegistryStore part of the contract.
#pragma once

#include "tests/server/datastore/contract.h"

namespace signet::server {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

inline oauth::Atom TestAction(const std::string& action,
                              const std::string& resource = "https://mcp.example.org/orders") {
  return {.resource = resource, .action = action, .tool = false, .tool_hash = "", .constraints = {}};
}
inline std::string TestHash(char digit) { return std::string(64, digit); }
inline oauth::Atom TestTool(const std::string& tool, const std::string& hash = TestHash('1'),
                            const std::string& resource = "https://mcp.example.org/orders") {
  return {.resource = resource, .action = tool, .tool = true, .tool_hash = hash, .constraints = {}};
}
inline oauth::Atoms TestAtoms(std::vector<oauth::Atom> atoms) { return oauth::Normalize(std::move(atoms)).value(); }

class TokenContract : public StoreContract {
 protected:
  absl::StatusOr<IdentityRecord> Create(IdentityRecord record) {
    return testing::Await<IdentityRecord>(
        [&](auto done) { store().CreateIdentity(std::move(record), now_, std::move(done)); });
  }
  absl::StatusOr<IdentityRecord> Update(IdentityRecord record, absl::Time at) {
    return testing::Await<IdentityRecord>(
        [&](auto done) { store().UpdateIdentity(std::move(record), at, std::move(done)); });
  }
  absl::StatusOr<ResourceRecord> Put(ResourceRecord record) {
    return testing::Await<ResourceRecord>([&](auto done) { store().PutResource(std::move(record), std::move(done)); });
  }
  absl::StatusOr<IssuerRecord> Put(IssuerRecord record) {
    return testing::Await<IssuerRecord>([&](auto done) { store().PutIssuer(std::move(record), std::move(done)); });
  }
  absl::StatusOr<UserRightsRecord> Put(UserRightsRecord record) {
    return testing::Await<UserRightsRecord>(
        [&](auto done) { store().PutUserRights(std::move(record), std::move(done)); });
  }
  absl::StatusOr<GrantRecord> Create(GrantRecord record) {
    return testing::Await<GrantRecord>(
        [&](auto done) { store().CreateGrant(std::move(record), now_, std::move(done)); });
  }
  absl::StatusOr<TaskRecord> Create(TaskRecord record) {
    return testing::Await<TaskRecord>([&](auto done) { store().CreateTask(std::move(record), now_, std::move(done)); });
  }
  absl::StatusOr<uint64_t> Revoke(RevokeChange change) {
    return testing::Await<uint64_t>([&](auto done) { store().Revoke(std::move(change), now_, std::move(done)); });
  }
  absl::StatusOr<uint64_t> Reinstate(oauth::EntityKind kind, const std::string& entity) {
    return testing::Await<uint64_t>([&](auto done) { store().Reinstate(kind, entity, now_, std::move(done)); });
  }
  absl::Status Commit(Consume consume) { return CommitAt(now_, std::move(consume)); }
  absl::Status CommitAt(absl::Time now, Consume consume) {
    return testing::AwaitStatus([&](auto done) { store().Commit(std::move(consume), now, std::move(done)); });
  }
  // What the feed tells after `seq`.
  std::vector<std::pair<Change::Kind, std::string>> Changes(uint64_t seq) {
    std::vector<std::pair<Change::Kind, std::string>> keys;
    const std::vector<Change> changes = store().ReadChanges(seq, 0).value();
    for (const Change& change : changes) keys.emplace_back(change.kind, change.key);
    return keys;
  }
  uint64_t Seq() { return store().LastSeq().value(); }

  static IdentityRecord Agent(const std::string& id = "spiffe://example.org/agent/orders") {
    IdentityRecord identity;
    identity.spiffe_id = id;
    identity.owner = "team-a";
    identity.sponsor = "ann";
    identity.description = "orders, \"quoted\" and ünicode";
    identity.risk = oauth::Risk::kMedium;
    oauth::Atom bounded = TestAction("orders:write");
    bounded.constraints["amount"].max = 100;
    bounded.constraints["amount"].other["regex"] = "\"^1\"";
    identity.ceiling = TestAtoms({TestAction("orders:read"), bounded, TestTool("search")});
    identity.own_authority = TestAtoms({TestAction("orders:read")});
    identity.max_depth = 3;
    identity.token_ttl = absl::Minutes(2);
    identity.user_issuers = {"https://idp.example.org"};
    identity.state = IdentityState::kActive;
    return identity;
  }
  static ResourceRecord Orders() {
    ResourceRecord resource;
    resource.uri = "https://mcp.example.org/orders";
    resource.name = "orders";
    resource.servers = {"spiffe://example.org/agent/orders-server"};
    resource.default_scopes = {"orders:read"};
    resource.minimum_binding = oauth::MinimumBinding::kMtls;
    resource.token_ttl = absl::Minutes(3);
    resource.scopes = {{"orders:read", {"orders:read"}}, {"orders:admin", {}}};
    resource.tools = {
        {.name = "refund", .hash = TestHash('2'), .description = "", .risk = oauth::Risk::kHigh, .needs = {}},
        {.name = "search",
         .hash = TestHash('1'),
         .description = "finds",
         .risk = oauth::Risk::kMedium,
         .needs = {"orders:read"}}};
    return resource;
  }
  GrantRecord Grant(oauth::Atoms atoms) const {
    GrantRecord grant;
    grant.user_issuer = "https://idp.example.org";
    grant.user_subject = "user 1";
    grant.identity = "spiffe://example.org/agent/orders";
    grant.actors = {"spiffe://example.org/agent/worker"};
    grant.principals = {"spiffe://example.org/console"};
    grant.audiences = {"https://mcp.example.org/orders"};
    grant.atoms = std::move(atoms);
    grant.max_depth = 2;
    grant.expires_at = now_ + absl::Hours(24);
    grant.text_hash = "sha-256:00";
    grant.evidence = "ticket 7";
    return grant;
  }
  TaskRecord Task(int64_t budget = 0) const {
    TaskRecord task;
    task.identity = "spiffe://example.org/agent/orders";
    task.grant = "g-1";
    task.description = "close the books";
    task.hash = "sha-256:11";
    task.atoms = TestAtoms({TestTool("search")});
    task.deadline = now_ + absl::Hours(1);
    task.budget = budget;
    return task;
  }
};

TEST_P(TokenContract, KeepsEveryFieldOfEveryKind) {
  const IdentityRecord identity = Create(Agent()).value();
  IssuerRecord idp;
  idp.url = "https://idp.example.org";
  idp.jwks_uri = "https://idp.example.org/jwks";
  idp.jwks_json = "{\"keys\":[]}";
  idp.ca_file = "/etc/idp.pem";
  idp.allow_private_address = true;
  idp.audiences = {"signet"};
  idp.user_claim = "oid";
  idp.rights_claim = "roles";
  idp.rights = {{"buyer", TestAtoms({TestAction("orders:read")})}};
  idp.rights_max_age = absl::Minutes(10);
  idp.reauth_after = absl::Hours(2);
  idp = Put(idp).value();
  const ResourceRecord resource = Put(Orders()).value();
  const GrantRecord grant = Create(Grant(TestAtoms({TestTool("search")}))).value();
  const TaskRecord task = Create(Task(20)).value();
  const UserRightsRecord rights = Put(UserRightsRecord{.issuer = "https://idp.example.org",
                                                       .subject = "user 1",
                                                       .atoms = TestAtoms({TestAction("orders:read")}),
                                                       .at = now_})
                                      .value();
  Reopen();
  EXPECT_EQ(store().GetIdentity(identity.spiffe_id).value(), identity);
  EXPECT_EQ(store().GetIssuer(idp.url).value(), idp);
  EXPECT_EQ(store().GetResource(resource.uri).value(), resource);
  EXPECT_EQ(store().GetGrant(grant.id).value(), grant);
  EXPECT_EQ(store().GetTask(task.id).value(), task);
  EXPECT_EQ(store().GetUserRights("https://idp.example.org", "user 1").value(), rights);

  IdentityRecord expected = Agent();
  expected.created_at = expected.updated_at = now_;
  expected.rev = 1;
  EXPECT_EQ(identity, expected);
  EXPECT_EQ(resource.rev, 3u);
  EXPECT_EQ(grant.rev, 4u);
  EXPECT_EQ(grant.id.size(), 28u);
  EXPECT_EQ(grant.created_at, now_);
  EXPECT_EQ(task.id.substr(0, 5), "task-");
  EXPECT_EQ(task.reauth_at, absl::InfiniteFuture());
  using Kind = Change::Kind;
  EXPECT_THAT(Changes(0),
              ElementsAre(std::pair(Kind::kIdentity, identity.spiffe_id), std::pair(Kind::kIssuer, idp.url),
                          std::pair(Kind::kResource, resource.uri), std::pair(Kind::kGrant, grant.id),
                          std::pair(Kind::kTask, task.id),
                          std::pair(Kind::kUserRights, oauth::UserKey("https://idp.example.org", "user 1"))));
}

TEST_P(TokenContract, WhatIsNotThereIsNotFound) {
  constexpr auto kNotFound = absl::StatusCode::kNotFound;
  EXPECT_THAT(store().GetIdentity("spiffe://example.org/agent/none"), StatusIs(kNotFound));
  EXPECT_THAT(store().GetIssuer("https://none"), StatusIs(kNotFound));
  EXPECT_THAT(store().GetResource("https://none"), StatusIs(kNotFound));
  EXPECT_THAT(store().GetGrant("g-none"), StatusIs(kNotFound));
  EXPECT_THAT(store().GetTask("task-none"), StatusIs(kNotFound));
  EXPECT_THAT(store().GetUserRights("https://none", "u"), StatusIs(kNotFound));
  EXPECT_THAT(Update(Agent(), now_), StatusIs(kNotFound));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { store().DeleteIssuer("https://none", std::move(done)); }),
              StatusIs(kNotFound));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { store().DeleteResource("https://none", std::move(done)); }),
              StatusIs(kNotFound));
  EXPECT_EQ(Seq(), 0u);
}

TEST_P(TokenContract, ListsInPagesInTheOrderOfCreation) {
  for (int i = 0; i < 5; ++i) {
    SIGNET_ASSERT_OK(Create(Agent(absl::StrCat("spiffe://example.org/agent/", 9 - i))));
  }
  std::vector<std::string> seen;
  PageRequest request{.after = "", .limit = 2};
  do {
    const Page<IdentityRecord> page = store().ListIdentities(request).value();
    EXPECT_LE(page.items.size(), 2u);
    for (const IdentityRecord& record : page.items) seen.push_back(record.spiffe_id.substr(27));
    request.after = page.next;
  } while (!request.after.empty());
  EXPECT_THAT(seen, ElementsAre("9", "8", "7", "6", "5"));
  EXPECT_THAT(store().ListGrants({.after = "x", .limit = 1}), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(store().ListTasks({}).value().items, IsEmpty());
}

TEST_P(TokenContract, AnUpdateKeepsTheStateAndRefusesAStaleVersion) {
  const IdentityRecord created = Create(Agent()).value();
  IdentityRecord change = created;
  change.owner = "team-b";
  change.state = IdentityState::kRetired;
  change.created_at = absl::UnixEpoch();
  const IdentityRecord updated = Update(change, now_ + absl::Seconds(5)).value();
  EXPECT_EQ(updated.owner, "team-b");
  EXPECT_EQ(updated.state, IdentityState::kActive);
  EXPECT_EQ(updated.version, 2);
  EXPECT_EQ(updated.created_at, now_);
  EXPECT_EQ(updated.updated_at, now_ + absl::Seconds(5));
  EXPECT_GT(updated.rev, created.rev);
  EXPECT_THAT(Update(change, now_), StatusIs(absl::StatusCode::kAborted));  // version 1 again
  change.version = 0;
  SIGNET_EXPECT_OK(Update(change, now_));
}

TEST_P(TokenContract, T9SpiffeIdsUrisAndToolNamesAreNeverGivenAgain) {
  SIGNET_ASSERT_OK(Create(Agent()));
  EXPECT_THAT(Create(Agent()), StatusIs(absl::StatusCode::kAlreadyExists));
  SIGNET_ASSERT_OK(Revoke({{.kind = oauth::EntityKind::kIdentity, .entity = Agent().spiffe_id, .not_before = now_},
                           IdentityState::kRetired}));
  EXPECT_THAT(Create(Agent()), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(Update(Agent(), now_), StatusIs(absl::StatusCode::kFailedPrecondition));

  SIGNET_ASSERT_OK(Put(Orders()));
  ResourceRecord fewer = Orders();
  fewer.tools.erase(fewer.tools.begin());  // refund
  const ResourceRecord stored = Put(fewer).value();
  EXPECT_EQ(stored.version, 2);
  ASSERT_EQ(stored.tools.size(), 2u);
  EXPECT_EQ(stored.tools[1].name, "refund");
  EXPECT_TRUE(stored.tools[1].tombstone);
  EXPECT_THAT(Put(Orders()), StatusIs(absl::StatusCode::kAlreadyExists));  // refund again
  EXPECT_EQ(store().GetResource(stored.uri).value(), stored);
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store().DeleteResource(stored.uri, std::move(done)); }));
  EXPECT_TRUE(store().GetResource(stored.uri).value().tombstone);
  EXPECT_THAT(Put(fewer), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { store().DeleteResource(stored.uri, std::move(done)); }),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(TokenContract, T9LooseningAResourceVoidsTheGrantsItTouches) {
  SIGNET_ASSERT_OK(Put(Orders()));
  const GrantRecord search = Create(Grant(TestAtoms({TestTool("search")}))).value();
  const GrantRecord refund = Create(Grant(TestAtoms({TestTool("refund")}))).value();
  const GrantRecord action = Create(Grant(TestAtoms({TestAction("orders:read")}))).value();
  const GrantRecord other =
      Create(Grant(TestAtoms({TestTool("search", TestHash('1'), "https://mcp.example.org/x")}))).value();
  const auto states = [&] {
    std::vector<GrantState> found;
    for (const GrantRecord& grant : {search, refund, action, other}) {
      found.push_back(store().GetGrant(grant.id).value().state);
    }
    return found;
  };
  constexpr GrantState kActive = GrantState::kActive, kVoid = GrantState::kVoid;

  ResourceRecord change = Orders();
  change.tools[0].risk = oauth::Risk::kHigh;  // as it was
  change.tools[1].risk = oauth::Risk::kHigh;  // raised
  SIGNET_ASSERT_OK(Put(change));
  EXPECT_THAT(states(), ElementsAre(kActive, kActive, kActive, kActive));
  change.tools[1].risk = oauth::Risk::kLow;
  const uint64_t before = Seq();
  SIGNET_ASSERT_OK(Put(change));
  EXPECT_THAT(states(), ElementsAre(kVoid, kActive, kActive, kActive));
  EXPECT_THAT(Changes(before),
              ElementsAre(std::pair(Change::Kind::kGrant, search.id), std::pair(Change::Kind::kResource, change.uri)));
  change.tools[0].read_only = true;
  SIGNET_ASSERT_OK(Put(change));
  EXPECT_THAT(states(), ElementsAre(kVoid, kVoid, kActive, kActive));
  change.minimum_binding = oauth::MinimumBinding::kDpop;
  SIGNET_ASSERT_OK(Put(change));
  EXPECT_THAT(states(), ElementsAre(kVoid, kVoid, kVoid, kActive));
}

TEST_P(TokenContract, AGivenIdIsKeptAndTakenOnce) {
  GrantRecord grant = Grant({});
  grant.id = "g-mine";
  EXPECT_EQ(Create(grant).value().id, "g-mine");
  EXPECT_THAT(Create(grant), StatusIs(absl::StatusCode::kAlreadyExists));
  TaskRecord task = Task();
  task.id = "task-mine";
  EXPECT_EQ(Create(task).value().id, "task-mine");
  EXPECT_THAT(Create(task), StatusIs(absl::StatusCode::kAlreadyExists));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TokenContract);

}  // namespace signet::server
