// The TokenUseStore part of the contract: all or nothing, whoever races.
#pragma once

#include <atomic>
#include <thread>

#include "common/crypto/digest.h"
#include "tests/server/datastore/contract_tokens.h"

namespace signet::server {

class TokenUseContract : public TokenContract {
 protected:
  static AuditAppend Audit(const std::string& note, uint64_t epoch = 1, const std::string& txn = "") {
    return {.server_id = "s1", .epoch = epoch, .txn = txn, .body = [note](uint64_t seq, absl::string_view previous) {
              return absl::StrCat(seq, " ", previous.size(), " ", note);
            }};
  }
  Consume Once(const std::string& value) {
    Consume consume;
    consume.once = {{value, now_ + absl::Minutes(5)}};
    return consume;
  }
  static Consume Reserve(const std::string& task, int64_t calls, const std::string& instance = "i1",
                         const std::string& user = "u1") {
    Consume consume;
    consume.budget = Consume::Budget{.task = task, .calls = calls, .instance = instance, .root_subject = user};
    return consume;
  }
  RefreshRecord Refresh(char fill) {
    return {.hash = std::string(32, fill),
            .family = "f1",
            .instance = "i1",
            .task = "t1",
            .state = "{}",
            .expires_at = now_ + absl::Hours(1),
            .successor = "",
            .successor_for = ""};
  }
  // Runs `work(i)` on as many threads at once.
  template <typename F>
  static void Race(int threads, const F& work) {
    std::atomic<int> ready = 0;
    std::vector<std::thread> racers;
    for (int i = 0; i < threads; ++i) {
      racers.emplace_back([&, i] {
        ++ready;
        while (ready < threads) std::this_thread::yield();
        work(i);
      });
    }
    for (std::thread& racer : racers) racer.join();
  }
};

TEST_P(TokenUseContract, T3OfManyRacersOnOneValueExactlyOneWins) {
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> won = 0, refused = 0;
    Race(32, [&](int i) {
      Consume consume = Once(absl::StrCat("jti-", round));
      consume.audit = Audit(absl::StrCat("racer ", i));
      const absl::Status status = Commit(std::move(consume));
      if (status.ok()) ++won;
      if (absl::IsAlreadyExists(status)) ++refused;
    });
    EXPECT_EQ(won, 1);
    EXPECT_EQ(refused, 31);
  }
  EXPECT_EQ(store().ReadAudit("s1", 1, 0, 0).value().size(), 20u);  // the losers left none
}

TEST_P(TokenUseContract, AValueIsGoodAgainOnlyAfterItsTime) {
  Consume consume;
  consume.once = {{"v", now_ + absl::Milliseconds(10'500)}};
  SIGNET_ASSERT_OK(Commit(consume));
  Reopen();
  EXPECT_THAT(CommitAt(now_ + absl::Seconds(10), consume), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(CommitAt(now_ + absl::Milliseconds(10'400), consume), StatusIs(absl::StatusCode::kAlreadyExists));
  SIGNET_EXPECT_OK(CommitAt(now_ + absl::Seconds(11), Consume{.once = {{"v", now_ + absl::Minutes(1)}}}));
  EXPECT_THAT(CommitAt(now_ + absl::Seconds(11), consume), StatusIs(absl::StatusCode::kAlreadyExists));
  consume.once = {{"w", now_ + absl::Minutes(1)}, {"w", now_ + absl::Minutes(1)}};
  EXPECT_THAT(Commit(consume), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_P(TokenUseContract, AllOrNothing) {
  const std::string task = Create(Task(10)).value().id;
  const auto everything = [&](const std::string& jti, char refresh) {
    Consume consume = Reserve(task, 4);
    consume.once = {{jti, now_ + absl::Minutes(5)}};
    consume.new_refresh = Refresh(refresh);
    consume.audit = Audit(jti);
    return consume;
  };
  SIGNET_ASSERT_OK(Commit(everything("a", 'a')));
  SIGNET_ASSERT_OK(Commit(everything("b", 'b')));
  EXPECT_THAT(Commit(everything("c", 'c')), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(store().GetRefresh(std::string(32, 'c')), StatusIs(absl::StatusCode::kNotFound));
  SIGNET_EXPECT_OK(Commit(Once("c")));  // was not consumed
  EXPECT_THAT(Commit(everything("d", 'b')), StatusIs(absl::StatusCode::kResourceExhausted));
  Consume taken = Once("d");
  taken.new_refresh = Refresh('b');
  EXPECT_THAT(Commit(taken), StatusIs(absl::StatusCode::kAlreadyExists));
  SIGNET_EXPECT_OK(Commit(Once("d")));
  EXPECT_EQ(store().GetTask(task).value().reserved, 8);
  EXPECT_EQ(store().LastAudit("s1").value().seq, 2u);
}

TEST_P(TokenUseContract, T8ABudgetIsNeverReservedTwice) {
  const std::string task = Create(Task(100)).value().id;
  std::atomic<int64_t> reserved = 0;
  Race(16, [&](int) {
    for (int i = 0; i < 10; ++i) {
      const absl::Status status = Commit(Reserve(task, 7));
      if (status.ok()) reserved += 7;
      EXPECT_TRUE(status.ok() || absl::IsResourceExhausted(status)) << status;
    }
  });
  EXPECT_EQ(reserved, 98);
  EXPECT_EQ(store().GetTask(task).value().reserved, 98);
  EXPECT_THAT(Commit(Reserve(task, 3)), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Commit(Reserve(task, -7)), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Commit(Reserve(task, std::numeric_limits<int64_t>::max())),
              StatusIs(absl::StatusCode::kResourceExhausted));
  SIGNET_EXPECT_OK(Commit(Reserve(task, 2)));
}

TEST_P(TokenUseContract, T8WhatAParentHasGivenIsNotThereToGiveAgain) {
  const auto take = [&](int64_t calls, const std::string& token = "parent") {
    Consume consume;
    consume.parent_calls =
        Consume::ParentCalls{.token = token, .quota = 20, .calls = calls, .expires_at = now_ + absl::Minutes(5)};
    consume.audit = Audit("child");
    return Commit(std::move(consume));
  };
  EXPECT_THAT(take(21), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(take(-1), StatusIs(absl::StatusCode::kInvalidArgument));
  std::atomic<int64_t> given = 0;
  Race(16, [&](int) {
    const absl::Status status = take(3);
    if (status.ok()) given += 3;
    if (!status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
      EXPECT_EQ(status.GetPayload(kNoCallsLeftUrl), absl::Cord(kOfParent));
    }
  });
  EXPECT_EQ(given, 18);
  Reopen();
  EXPECT_THAT(take(3), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(take(std::numeric_limits<int64_t>::max()), StatusIs(absl::StatusCode::kResourceExhausted));
  SIGNET_EXPECT_OK(take(2));
  SIGNET_EXPECT_OK(take(0));
  EXPECT_THAT(take(1), StatusIs(absl::StatusCode::kResourceExhausted));
  SIGNET_EXPECT_OK(take(20, "another"));
  EXPECT_EQ(store().LastAudit("s1").value().seq, 9u);  // those that were refused left none

  // Nothing of it when the rest is refused, and nothing of the rest when it is refused.
  const std::string task = Create(Task(10)).value().id;
  Consume both = Reserve(task, 11);
  both.parent_calls =
      Consume::ParentCalls{.token = "third", .quota = 11, .calls = 11, .expires_at = now_ + absl::Minutes(5)};
  absl::Status refused = Commit(both);
  EXPECT_EQ(refused.GetPayload(kNoCallsLeftUrl), absl::Cord(kOfTask));
  SIGNET_EXPECT_OK(take(20, "third"));
  both.budget->calls = 1;
  refused = Commit(both);
  EXPECT_EQ(refused.GetPayload(kNoCallsLeftUrl), absl::Cord(kOfParent));
  EXPECT_EQ(store().GetTask(task).value().reserved, 0);
}

TEST_P(TokenUseContract, T8ATaskIsBoundAtFirstUseAndReauthIsNeverRaised) {
  const std::string task = Create(Task()).value().id;
  Consume first = Reserve(task, 0);
  first.budget->reauth_at = now_ + absl::Hours(1);
  uint64_t before = Seq();
  SIGNET_ASSERT_OK(Commit(first));
  EXPECT_THAT(Changes(before), ElementsAre(std::pair(Change::Kind::kTask, task)));
  before = Seq();
  first.budget->reauth_at = now_ + absl::Hours(9);  // the user's token again: no new envelope
  SIGNET_ASSERT_OK(Commit(first));
  EXPECT_THAT(Changes(before), IsEmpty());
  EXPECT_THAT(Commit(Reserve(task, 0, "i2")), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(Commit(Reserve(task, 0, "i1", "u2")), StatusIs(absl::StatusCode::kPermissionDenied));
  Reopen();
  const TaskRecord stored = store().GetTask(task).value();
  EXPECT_EQ(stored.instance, "i1");
  EXPECT_EQ(stored.root_subject, "u1");
  EXPECT_EQ(stored.reauth_at, now_ + absl::Hours(1));

  EXPECT_THAT(Commit(Reserve("task-none", 0)), StatusIs(absl::StatusCode::kNotFound));
  SIGNET_ASSERT_OK(Revoke({{.kind = oauth::EntityKind::kTask, .entity = task, .not_before = now_}, std::nullopt}));
  EXPECT_THAT(Commit(Reserve(task, 0)), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_P(TokenUseContract, T11ARefreshTokenIsSpentOnceAndKeepsItsSuccessor) {
  Consume consume;
  consume.new_refresh = Refresh('a');
  SIGNET_ASSERT_OK(Commit(consume));
  EXPECT_EQ(store().GetRefresh(std::string(32, 'a')).value(), Refresh('a'));
  std::atomic<int> won = 0, reused = 0;
  Race(16, [&](int i) {
    Consume rotate;
    rotate.spend_refresh = std::string(32, 'a');
    rotate.successor = absl::StrCat("sealed ", i);
    rotate.successor_for = "x5t";
    rotate.new_refresh = Refresh(static_cast<char>('A' + i));
    const absl::Status status = Commit(rotate);
    if (status.ok()) ++won;
    if (absl::IsAborted(status)) ++reused;
  });
  EXPECT_EQ(won, 1);
  EXPECT_EQ(reused, 15);
  const RefreshRecord spent = store().GetRefresh(std::string(32, 'a')).value();
  EXPECT_TRUE(spent.used);
  EXPECT_EQ(spent.used_at, now_);
  EXPECT_EQ(spent.successor_for, "x5t");
  const char winner = static_cast<char>('A' + std::stoi(spent.successor.substr(7)));
  SIGNET_EXPECT_OK(store().GetRefresh(std::string(32, winner)));

  Consume unknown;
  unknown.spend_refresh = std::string(32, 'z');
  EXPECT_THAT(Commit(unknown), StatusIs(absl::StatusCode::kNotFound));
  unknown.spend_refresh = std::string(32, winner);
  EXPECT_THAT(CommitAt(now_ + absl::Hours(1), unknown), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(TokenUseContract, T10AuditChainsHaveNoGapsUnderManyWriters) {
  Race(16, [&](int i) {
    for (int n = 0; n < 20; ++n) {
      Consume consume;
      if (n % 3 == 0) consume = Once("always the same");  // refused but once
      consume.audit = Audit(absl::StrCat(i, "/", n), 1, i == 3 ? "txn-3" : "");
      (void)Commit(std::move(consume));
    }
  });
  const std::vector<AuditRecord> records = store().ReadAudit("s1", 1, 0, 0).value();
  EXPECT_EQ(records.size(), 16u * 13 + 1);
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(records[i].seq, i + 1);
    EXPECT_EQ(records[i].hash, crypto::Sha256(records[i].body));
    EXPECT_EQ(records[i].body.substr(0, records[i].body.rfind(' ')), absl::StrCat(i + 1, " ", i == 0 ? 0 : 32));
  }
  EXPECT_EQ(store().ReadAudit("s1", 1, 200, 5).value().front().seq, 201u);
  EXPECT_EQ(store().ReadAudit("s1", 1, 0, 5).value().size(), 5u);
  EXPECT_GE(store().ReadAuditOfChain("txn-3", 0).value().size(), 13u);
  EXPECT_THAT(store().ReadAuditOfChain("", 0).value(), IsEmpty());
}

TEST_P(TokenUseContract, T10TheHashThatIsHandedOnIsThatOfTheRecordBefore) {
  std::vector<std::string> handed;
  for (int i = 0; i < 3; ++i) {
    Consume consume;
    consume.audit = Audit("");
    consume.audit->body = [&](uint64_t seq, absl::string_view previous) {
      handed.emplace_back(previous);
      return absl::StrCat("body ", seq);
    };
    SIGNET_ASSERT_OK(Commit(std::move(consume)));
    if (i == 1) Reopen();
  }
  EXPECT_THAT(handed, ElementsAre("", crypto::Sha256("body 1"), crypto::Sha256("body 2")));
}

TEST_P(TokenUseContract, T10ANewEpochBeginsAChainAndEndsTheOlder) {
  const auto append = [&](uint64_t epoch) {
    Consume consume;
    consume.audit = Audit("x", epoch);
    return Commit(std::move(consume));
  };
  EXPECT_THAT(store().LastAudit("s1"), StatusIs(absl::StatusCode::kNotFound));
  SIGNET_ASSERT_OK(append(1));
  SIGNET_ASSERT_OK(append(1));
  SIGNET_ASSERT_OK(append(2));
  EXPECT_THAT(append(1), StatusIs(absl::StatusCode::kFailedPrecondition));
  SIGNET_ASSERT_OK(append(2));
  const AuditRecord last = store().LastAudit("s1").value();
  EXPECT_EQ(last.epoch, 2u);
  EXPECT_EQ(last.seq, 2u);
  EXPECT_THAT(store().AuditChains().value(), ElementsAre(std::pair("s1", 1), std::pair("s1", 2)));
}

TEST_P(TokenUseContract, PrunesWhatHasExpired) {
  Consume consume;
  consume.once = {{"old", now_}, {"new", now_ + absl::Minutes(1)}};
  consume.new_refresh = Refresh('a');
  consume.parent_calls =
      Consume::ParentCalls{.token = "p", .quota = 1, .calls = 1, .expires_at = now_ + absl::Hours(2)};
  SIGNET_ASSERT_OK(Commit(consume));
  const auto prune = [&](absl::Time at) {
    return testing::Await<size_t>([&](auto done) { store().PruneUses(at, std::move(done)); }).value();
  };
  EXPECT_EQ(prune(now_), 1u);
  EXPECT_EQ(prune(now_ + absl::Hours(1)), 2u);
  EXPECT_THAT(store().GetRefresh(std::string(32, 'a')), StatusIs(absl::StatusCode::kNotFound));
  consume = {.parent_calls = consume.parent_calls};
  EXPECT_THAT(Commit(consume), StatusIs(absl::StatusCode::kResourceExhausted));  // not pruned yet
  EXPECT_EQ(prune(now_ + absl::Hours(2)), 1u);
  SIGNET_EXPECT_OK(Commit(consume));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TokenUseContract);

}  // namespace signet::server
