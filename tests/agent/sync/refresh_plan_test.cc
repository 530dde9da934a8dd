#include "agent/sync/refresh_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"

namespace signet::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);
const absl::Duration kBoot = absl::Seconds(500);

Instant At(absl::Duration since_start, absl::Duration wall_step = absl::ZeroDuration()) {
  return {kStart + since_start + wall_step, kBoot + since_start};
}

// An SVID of one hour, signed and received at kStart + `signed_at`.
PlanItem Held(std::string id, absl::Duration signed_at = absl::ZeroDuration()) {
  PlanItem item;
  item.entry_id = std::move(id);
  item.wanted = item.held = true;
  item.life.issued = kStart + signed_at;
  item.life.not_after = kStart + signed_at + absl::Hours(1);
  item.life.received_steady = kBoot + signed_at;
  return item;
}

PlanItem Missing(std::string id, bool waiting) {
  PlanItem item;
  item.entry_id = std::move(id);
  item.wanted = true;
  item.waiting = waiting;
  return item;
}

TEST(RefreshPlanTest, KeepsWhatIsYoungAndSaysWhenToLookAgain) {
  const RefreshPlan plan = MakeRefreshPlan({Held("a")}, At(absl::Minutes(10)));
  EXPECT_THAT(plan.fetch, IsEmpty());
  EXPECT_THAT(plan.drop, IsEmpty());
  EXPECT_EQ(plan.next, absl::Minutes(20));
}

TEST(RefreshPlanTest, RenewsAtHalfLife) {
  EXPECT_THAT(MakeRefreshPlan({Held("a")}, At(absl::Minutes(30) - absl::Seconds(1))).fetch, IsEmpty());
  EXPECT_THAT(MakeRefreshPlan({Held("a")}, At(absl::Minutes(30))).fetch, ElementsAre("a"));
}

TEST(RefreshPlanTest, JitterIsATenthOfTheHalfAndFixed) {
  PlanItem early = Held("a"), late = Held("b");
  early.life.jitter = -1;
  late.life.jitter = 1;
  EXPECT_EQ(early.life.RenewAtAge(), absl::Minutes(27));
  EXPECT_EQ(late.life.RenewAtAge(), absl::Minutes(33));
  EXPECT_EQ(RenewalJitter("entry", "serial"), RenewalJitter("entry", "serial"));
  EXPECT_NE(RenewalJitter("entry", "serial"), RenewalJitter("entry", "serial2"));
  EXPECT_NE(RenewalJitter("ab", "c"), RenewalJitter("a", "bc"));
}

TEST(RefreshPlanTest, JitterSpreadsEvenly) {
  constexpr int kCount = 10'000;
  int tenths[10] = {};
  for (int i = 0; i < kCount; ++i) {
    const double jitter = RenewalJitter(absl::StrCat("entry-", i), "7");
    ASSERT_GE(jitter, -1);
    ASSERT_LT(jitter, 1);
    ++tenths[static_cast<int>(std::floor((jitter + 1) * 5))];
  }
  for (const int count : tenths) EXPECT_NEAR(count, kCount / 10, kCount / 50);
}

TEST(RefreshPlanTest, DropsWhatHasEndedAndFetchesItWhenWanted) {  // I6
  PlanItem unwanted = Held("old");
  unwanted.wanted = false;
  const RefreshPlan plan = MakeRefreshPlan({Held("a"), unwanted}, At(absl::Hours(1)));
  EXPECT_THAT(plan.drop, ElementsAre("a", "old"));
  EXPECT_THAT(plan.fetch, ElementsAre("a"));
}

TEST(RefreshPlanTest, UnwantedIsNotRenewedButLooksAgainAtItsEnd) {
  PlanItem item = Held("a");
  item.wanted = false;
  const RefreshPlan plan = MakeRefreshPlan({item}, At(absl::Minutes(40)));
  EXPECT_THAT(plan.fetch, IsEmpty());
  EXPECT_EQ(plan.next, absl::Minutes(20));
}

TEST(RefreshPlanTest, UrgentFirst) {
  PlanItem tainted = Held("tainted"), outdated = Held("outdated"), ended = Held("ended", -absl::Minutes(50)),
           due = Held("due", -absl::Minutes(25));
  tainted.tainted = true;
  outdated.outdated = true;
  const RefreshPlan plan = MakeRefreshPlan(
      {Missing("missing", false), due, outdated, tainted, ended, Missing("waiting", true), Held("young")},
      At(absl::Minutes(10)));
  EXPECT_THAT(plan.fetch, ElementsAre("waiting", "ended", "tainted", "outdated", "due", "missing"));
}

TEST(RefreshPlanTest, TaintReplacesAllAtOnceInOrderOfExpiry) {
  PlanItem first = Held("z", -absl::Minutes(20)), second = Held("a", -absl::Minutes(10)), third = Held("m");
  for (PlanItem* item : {&first, &second, &third}) item->tainted = true;
  EXPECT_THAT(MakeRefreshPlan({third, second, first}, At(absl::ZeroDuration())).fetch, ElementsAre("z", "a", "m"));
}

TEST(RefreshPlanTest, AFetchThatFailsIsPlannedAgainAndTheOldOneStays) {
  const RefreshPlan plan = MakeRefreshPlan({Held("a")}, At(absl::Minutes(45)));
  EXPECT_THAT(plan.fetch, ElementsAre("a"));
  EXPECT_THAT(plan.drop, IsEmpty());
  EXPECT_EQ(plan.next, absl::Minutes(15));  // its end
}

struct ClockStep {
  const char* name;
  absl::Duration since_start, wall_step;
  bool fetched, dropped;
};

// F7: what a step of the wall clock does to an SVID of one hour received at the start.
TEST(RefreshPlanTest, ClockSteps) {
  const ClockStep kSteps[] = {
      {"one second back", absl::Minutes(1), -absl::Seconds(1), false, false},
      {"an hour back re-issues nothing", absl::Minutes(1), -absl::Hours(1), false, false},
      {"ten years back re-issues nothing", absl::Minutes(1), -absl::Hours(24 * 3652), false, false},
      {"an hour back renews in time all the same", absl::Minutes(30), -absl::Hours(1), true, false},
      {"an hour back does not prolong a life", absl::Hours(1), -absl::Hours(1), true, true},
      {"five minutes forward", absl::Minutes(1), absl::Minutes(5), false, false},
      {"half an hour forward renews", absl::Minutes(1), absl::Minutes(30), true, false},
      {"a day forward ends it", absl::Minutes(1), absl::Hours(24), true, true},
      {"to 1970", absl::Minutes(1), absl::UnixEpoch() - kStart, false, false},
  };
  for (const ClockStep& step : kSteps) {
    SCOPED_TRACE(step.name);
    const RefreshPlan plan = MakeRefreshPlan({Held("a")}, At(step.since_start, step.wall_step));
    EXPECT_EQ(!plan.fetch.empty(), step.fetched);
    EXPECT_EQ(!plan.drop.empty(), step.dropped);
  }
}

TEST(RefreshPlanTest, ServerThatDisagreesWithOurClockIsNotAskedInACircle) {  // F7
  const absl::Time not_before = kStart - absl::Seconds(10), not_after = kStart + absl::Hours(1);
  EXPECT_FALSE(SvidLife::Received(not_before, not_after, 0, {kStart - absl::Hours(24), kBoot}).wall_agrees);
  EXPECT_TRUE(SvidLife::Received(not_before, not_after, 0, {kStart - absl::Minutes(10), kBoot}).wall_agrees);
  PlanItem item = Held("a");
  item.life = SvidLife::Received(not_before, not_after, 0, {kStart + absl::Hours(24), kBoot});  // we are a day ahead
  EXPECT_FALSE(item.life.wall_agrees);
  EXPECT_THAT(MakeRefreshPlan({item}, At(absl::Minutes(1), absl::Hours(24))).fetch, IsEmpty());
  EXPECT_THAT(MakeRefreshPlan({item}, At(absl::Minutes(30), absl::Hours(24))).fetch, ElementsAre("a"));
  EXPECT_THAT(MakeRefreshPlan({item}, At(absl::Hours(1), absl::Hours(24))).drop, ElementsAre("a"));
}

TEST(RefreshPlanTest, ShortLivesAreNotDueAtOnceForBeingDatedBack) {
  const SvidLife life =
      SvidLife::Received(kStart - absl::Seconds(10), kStart + absl::Seconds(6), 0, At(absl::ZeroDuration()));
  EXPECT_TRUE(life.wall_agrees);
  EXPECT_FALSE(life.Due(At(absl::Seconds(2))));
  EXPECT_TRUE(life.Due(At(absl::Seconds(3))));
}

}  // namespace
}  // namespace signet::agent
