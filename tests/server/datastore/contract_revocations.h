// The RevocationStore part of the contract, with the entries that a suspension takes along.
#pragma once

#include "tests/server/datastore/contract_tokens.h"

namespace signet::server {

class RevocationContract : public TokenContract {
 protected:
  using Kind = oauth::EntityKind;
  static constexpr char kOrders[] = "spiffe://example.org/agent/orders";

  absl::StatusOr<uint64_t> Suspend(IdentityState state = IdentityState::kSuspended) {
    return Revoke({{.kind = Kind::kIdentity, .entity = kOrders, .not_before = now_, .reason = "odd"}, state});
  }
  std::string AddEntry(absl::string_view path) {
    return testing::CreateEntries(store(), {TestEntry(path)}, now_).value().front().record->id;
  }
  bool Withdrawn(const std::string& id) { return store().GetEntry(id).value().withdrawn; }
};

TEST_P(RevocationContract, KeepsTheNewestOfEachEntity) {
  const uint64_t first =
      Revoke({{.kind = Kind::kToken, .entity = "jti", .not_before = now_, .reason = "lost"}, std::nullopt}).value();
  oauth::Revocation expected{Kind::kToken, "jti", first, now_, "lost", false};
  EXPECT_EQ(store().GetRevocation(Kind::kToken, "jti").value(), expected);
  const uint64_t second =
      Revoke({{.kind = Kind::kToken, .entity = "jti", .not_before = now_ + absl::Seconds(1), .reason = "again"},
              std::nullopt})
          .value();
  EXPECT_GT(second, first);
  expected = {Kind::kToken, "jti", second, now_ + absl::Seconds(1), "again", false};
  Reopen();
  EXPECT_THAT(store().ListRevocations({}).value().items, ElementsAre(expected));
  EXPECT_THAT(store().GetRevocation(Kind::kChain, "jti"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Changes(0), ElementsAre(std::pair(Change::Kind::kRevocation, "1/jti"),
                                      std::pair(Change::Kind::kRevocation, "1/jti")));
}

TEST_P(RevocationContract, RevokingAGrantOrATaskEndsItInTheSameTransaction) {
  const std::string grant = Create(Grant({})).value().id, task = Create(Task()).value().id;
  const uint64_t before = Seq();
  const uint64_t seq = Revoke({{.kind = Kind::kGrant, .entity = grant, .not_before = now_}, std::nullopt}).value();
  EXPECT_EQ(store().GetGrant(grant).value().state, GrantState::kRevoked);
  EXPECT_EQ(seq, before + 2);  // the last position of the change, not the revocation's own
  EXPECT_EQ(store().GetRevocation(Kind::kGrant, grant).value().seq, before + 1);
  SIGNET_ASSERT_OK(Revoke({{.kind = Kind::kTask, .entity = task, .not_before = now_}, std::nullopt}));
  EXPECT_EQ(store().GetTask(task).value().state, TaskState::kClosed);
  EXPECT_THAT(Revoke({{.kind = Kind::kTask, .entity = "task-none", .not_before = now_}, std::nullopt}),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store().GetRevocation(Kind::kTask, "task-none"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Reinstate(Kind::kGrant, grant), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_P(RevocationContract, SuspensionWithdrawsEntriesAtAndBelowOnSegments) {
  SIGNET_ASSERT_OK(Create(Agent()));
  const std::string at = AddEntry("/agent/orders"), below = AddEntry("/agent/orders/1"),
                    deep = AddEntry("/agent/orders/1/x"), evil = AddEntry("/agent/orders-evil"),
                    dot = AddEntry("/agent/orders.1"), above = AddEntry("/agent");
  const uint64_t before = Seq();
  const uint64_t seq = Suspend().value();
  EXPECT_EQ(store().GetIdentity(kOrders).value().state, IdentityState::kSuspended);
  Reopen();
  for (const std::string& id : {at, below, deep}) EXPECT_TRUE(Withdrawn(id)) << id;
  for (const std::string& id : {evil, dot, above}) EXPECT_FALSE(Withdrawn(id)) << id;
  EXPECT_EQ(store().CountEntries({}).value(), 6u);  // they stay in lists
  // The revocation comes first: it must hold before memory has walked through many entries.
  using Feed = Change::Kind;
  EXPECT_THAT(Changes(before), ElementsAre(std::pair(Feed::kRevocation, absl::StrCat("8/", kOrders)),
                                           std::pair(Feed::kIdentity, kOrders), std::pair(Feed::kEntry, at),
                                           std::pair(Feed::kEntry, below), std::pair(Feed::kEntry, deep)));
  EXPECT_EQ(seq, before + 5);
  EXPECT_EQ(seq, Seq());

  EXPECT_TRUE(Withdrawn(AddEntry("/agent/orders/2"))) << "made while it is suspended";
  spiffe::Entry moved = store().GetEntry(evil).value();
  moved.spiffe_id = TestId("/agent/orders/3");
  const auto update = [&] {
    return testing::Await<std::vector<EntryResult>>(
               [&](auto done) { store().UpdateEntries({moved}, {}, std::move(done)); })
        .value()
        .front()
        .record->withdrawn;
  };
  EXPECT_TRUE(update()) << "moved below it";
  moved.spiffe_id = TestId("/agent/orders-evil");
  EXPECT_FALSE(update()) << "and away again";

  SIGNET_ASSERT_OK(Reinstate(Kind::kIdentity, kOrders));
  EXPECT_EQ(store().GetIdentity(kOrders).value().state, IdentityState::kActive);
  for (const std::string& id : {at, below, deep}) EXPECT_FALSE(Withdrawn(id)) << id;
  EXPECT_TRUE(store().GetRevocation(Kind::kIdentity, kOrders).value().reinstated);
  EXPECT_THAT(Reinstate(Kind::kIdentity, kOrders), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(RevocationContract, WhatIsStoppedInsideStaysAwayWhenTheOuterComesBack) {
  const std::string inner = absl::StrCat(kOrders, "/special");
  SIGNET_ASSERT_OK(Create(Agent()));
  SIGNET_ASSERT_OK(Create(Agent(inner)));
  const std::string one = AddEntry("/agent/orders/1"), special = AddEntry("/agent/orders/special/1");
  SIGNET_ASSERT_OK(Revoke({{.kind = Kind::kIdentity, .entity = inner, .not_before = now_}, IdentityState::kSuspended}));
  SIGNET_ASSERT_OK(Suspend());
  SIGNET_ASSERT_OK(Reinstate(Kind::kIdentity, kOrders));
  EXPECT_FALSE(Withdrawn(one));
  EXPECT_TRUE(Withdrawn(special));
  SIGNET_ASSERT_OK(Suspend());
  SIGNET_ASSERT_OK(Reinstate(Kind::kIdentity, inner));
  EXPECT_TRUE(Withdrawn(special)) << "the outer one is suspended";
}

TEST_P(RevocationContract, ARetiredIdentityStaysAway) {
  SIGNET_ASSERT_OK(Create(Agent()));
  const std::string entry = AddEntry("/agent/orders/1");
  SIGNET_ASSERT_OK(Suspend());
  SIGNET_ASSERT_OK(Suspend(IdentityState::kRetired));
  EXPECT_TRUE(Withdrawn(entry));
  EXPECT_THAT(Suspend(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Reinstate(Kind::kIdentity, kOrders), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(Withdrawn(entry));
  EXPECT_FALSE(store().GetRevocation(Kind::kIdentity, kOrders).value().reinstated);
}

TEST_P(RevocationContract, AnIdentityGoesItsWayThroughTheStates) {
  IdentityRecord draft = Agent();
  draft.state = IdentityState::kDraft;
  SIGNET_ASSERT_OK(Create(draft));
  EXPECT_THAT(Suspend(), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(store().GetRevocation(Kind::kIdentity, kOrders), StatusIs(absl::StatusCode::kNotFound));
  const auto activate = [&] {
    return testing::Await<IdentityRecord>([&](auto done) { store().ActivateIdentity(kOrders, now_, std::move(done)); });
  };
  EXPECT_EQ(activate().value().state, IdentityState::kActive);
  SIGNET_ASSERT_OK(activate());
  SIGNET_ASSERT_OK(Suspend());
  EXPECT_THAT(activate(), StatusIs(absl::StatusCode::kFailedPrecondition));  // that takes a reinstatement
  EXPECT_THAT(Revoke({{.kind = Kind::kIdentity, .entity = "spiffe://example.org/agent/none", .not_before = now_},
                      IdentityState::kSuspended}),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(RevocationContract, ReusableKindsAreReinstatedAndKeepTheirPosition) {
  const std::string user = oauth::UserKey("https://idp.example.org", "user 1");
  EXPECT_THAT(Reinstate(Kind::kUser, user), StatusIs(absl::StatusCode::kNotFound));
  const uint64_t seq = Revoke({{.kind = Kind::kUser, .entity = user, .not_before = now_}, std::nullopt}).value();
  EXPECT_GT(Reinstate(Kind::kUser, user).value(), seq);
  const oauth::Revocation stored = store().GetRevocation(Kind::kUser, user).value();
  EXPECT_TRUE(stored.reinstated);
  EXPECT_EQ(stored.seq, seq);  // what was killed stays dead
  SIGNET_ASSERT_OK(Revoke({{.kind = Kind::kUser, .entity = user, .not_before = now_}, std::nullopt}));
  EXPECT_FALSE(store().GetRevocation(Kind::kUser, user).value().reinstated);
}

TEST_P(RevocationContract, PrunesOldAbsoluteOnesAlone) {
  for (const auto& [kind, entity] : std::vector<std::pair<Kind, std::string>>{
           {Kind::kToken, "old"}, {Kind::kFamily, "old"}, {Kind::kInstance, "old"}}) {
    SIGNET_ASSERT_OK(Revoke({{.kind = kind, .entity = entity, .not_before = now_ - absl::Hours(9)}, std::nullopt}));
  }
  for (const auto& [kind, entity] : std::vector<std::pair<Kind, std::string>>{
           {Kind::kToken, "of two hours ago"}, {Kind::kFamily, "of two hours ago"}}) {
    SIGNET_ASSERT_OK(Revoke({{.kind = kind, .entity = entity, .not_before = now_ - absl::Hours(2)}, std::nullopt}));
  }
  SIGNET_ASSERT_OK(Revoke({{.kind = Kind::kToken, .entity = "new", .not_before = now_}, std::nullopt}));
  const uint64_t before = Seq();
  EXPECT_EQ(testing::Await<size_t>([&](auto done) {
              store().PruneRevocations(now_ - absl::Hours(8), now_ - absl::Hours(1), std::move(done));
            }).value(),
            3u);
  EXPECT_EQ(Changes(before).size(), 3u);  // memory forgets them too
  std::vector<std::string> left;
  const Page<oauth::Revocation> page = store().ListRevocations({}).value();
  for (const oauth::Revocation& r : page.items) {
    left.push_back(absl::StrCat(oauth::EntityKindName(r.kind), " ", r.entity));
  }
  EXPECT_THAT(left, UnorderedElementsAre("instance old", "family of two hours ago", "token new"));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RevocationContract);

}  // namespace signet::server
