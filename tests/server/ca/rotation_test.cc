#include "server/ca/rotation.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace signet::server {
namespace {

constexpr absl::Duration kLife = absl::Hours(24);
const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);

// Slots driven by a clock, with what happened as text: "12h prepare B". Asserts the safety rules at each step.
class Rotation {
 public:
  explicit Rotation(absl::Duration life = kLife) : life_(life) {}

  void Run(absl::Time now) {
    for (int i = 0;; ++i) {
      ASSERT_LT(i, 4) << "the machine does not come to rest";
      const RotationStep step = NextStep(slots_, now, settled_);
      if (step.action == RotationAction::kWait) break;
      const char* name = step.slot == 0 ? "A" : "B";
      const std::string when = absl::FormatDuration(now - kStart);
      switch (step.action) {
        case RotationAction::kPrepare:
          ++prepared_;
          slots_[step.slot] = {SlotState::kPrepared, now - absl::Seconds(10), now + life_};
          log_.push_back(absl::StrCat(when, " prepare ", name));
          break;
        case RotationAction::kActivate:
          ASSERT_TRUE(IsUsable(slots_[step.slot], now));
          slots_ = Activated(slots_, step.slot, now);
          log_.push_back(absl::StrCat(when, " activate ", name));
          break;
        case RotationAction::kPrune:
          ASSERT_LE(slots_[step.slot].not_after, now);
          ASSERT_NE(slots_[step.slot].state, SlotState::kActive);
          slots_[step.slot] = {};
          log_.push_back(absl::StrCat(when, " prune ", name));
          break;
        case RotationAction::kWait:
          break;
      }
    }
    int active = 0;
    for (const Slot& slot : slots_) active += slot.state == SlotState::kActive ? 1 : 0;
    ASSERT_EQ(active, 1);
    for (const Slot& slot : slots_) {
      ASSERT_TRUE(slot.state != SlotState::kActive || IsUsable(slot, now));
    }
  }

  void RunBetween(absl::Time from, absl::Time to, absl::Duration tick = absl::Seconds(10)) {
    for (absl::Time now = from; now <= to; now += tick) Run(now);
  }

  std::vector<std::string> TakeLog() { return std::exchange(log_, {}); }
  int prepared() const { return prepared_; }
  void set_life(absl::Duration life) { life_ = life; }
  void set_settled(bool settled) { settled_ = settled; }
  Slots& slots() { return slots_; }

 private:
  absl::Duration life_;
  bool settled_ = true;
  Slots slots_;
  std::vector<std::string> log_;
  int prepared_ = 0;
};

using Log = std::vector<std::string>;

TEST(RotationTest, FollowsSpiresTimes) {
  Rotation rotation;
  rotation.RunBetween(kStart, kStart + absl::Hours(61));
  EXPECT_EQ(rotation.TakeLog(), (Log{"0 prepare A", "0 activate A",      //
                                     "12h prepare B", "20h activate B",  //
                                     "24h prepare A", "32h activate A",  // A ended at 24 h
                                     "36h prepare B", "44h activate B",  //
                                     "48h prepare A", "56h activate A", "60h prepare B"}));
}

TEST(RotationTest, LongLivesAreCappedAtThirtyAndSevenDays) {
  const Slot year{SlotState::kActive, kStart, kStart + absl::Hours(24 * 365)};
  EXPECT_EQ(PrepareBefore(year), absl::Hours(24 * 30));
  EXPECT_EQ(ActivateBefore(year), absl::Hours(24 * 7));
  const Slot day{SlotState::kActive, kStart, kStart + kLife};
  EXPECT_EQ(PrepareBefore(day), absl::Hours(12));
  EXPECT_EQ(ActivateBefore(day), absl::Hours(4));
}

TEST(RotationTest, AfterALongSleepOneNewAuthorityIsMade) {
  Rotation rotation;
  rotation.Run(kStart);
  rotation.TakeLog();
  rotation.Run(kStart + absl::Hours(24 * 40));
  EXPECT_EQ(rotation.TakeLog(), (Log{"960h prepare B", "960h activate B", "960h prune A"}));
}

TEST(RotationTest, ARestartLateInLifePreparesOnceAndActivates) {
  Rotation rotation;
  rotation.Run(kStart);
  rotation.TakeLog();
  rotation.RunBetween(kStart + absl::Hours(23), kStart + absl::Hours(23) + absl::Minutes(5));
  EXPECT_EQ(rotation.TakeLog(), (Log{"23h prepare B", "23h activate B"}));
}

TEST(RotationTest, ALostActiveAuthorityIsReplacedByThePreparedOne) {
  Rotation rotation;
  rotation.RunBetween(kStart, kStart + absl::Hours(13), absl::Minutes(1));
  rotation.TakeLog();
  rotation.slots()[0] = {};  // its key was lost
  rotation.Run(kStart + absl::Hours(13));
  EXPECT_EQ(rotation.TakeLog(), (Log{"13h activate B"}));
}

TEST(RotationTest, SmallStepsBackChangeNothing) {
  Rotation rotation;
  rotation.Run(kStart);
  rotation.TakeLog();
  rotation.Run(kStart - absl::Seconds(65));
  EXPECT_EQ(rotation.TakeLog(), Log{});
}

TEST(RotationTest, AStepBackBehindTheStartMakesOneAuthorityAndKeepsTheOther) {
  Rotation rotation;
  rotation.Run(kStart + absl::Hours(1000));  // the clock was ahead
  rotation.TakeLog();
  rotation.RunBetween(kStart, kStart + absl::Hours(6));
  EXPECT_EQ(rotation.TakeLog(), (Log{"0 prepare B", "0 activate B"}));
  EXPECT_EQ(rotation.slots()[0].state, SlotState::kPrepared);
  rotation.Run(kStart + absl::Hours(1000));  // and is ahead again: what was made then still serves
  EXPECT_EQ(rotation.TakeLog(), (Log{"1000h activate A", "1000h prune B"}));
}

TEST(RotationTest, AClockThatSwingsDoesNotFloodTheBundle) {
  Rotation rotation;
  rotation.set_settled(false);
  for (absl::Duration swing : {absl::Hours(15), absl::Hours(24 * 400)}) {
    for (int i = 0; i < 300; ++i) {
      rotation.Run(kStart + absl::Seconds(20 * i));
      rotation.Run(kStart + swing + absl::Seconds(20 * i));
    }
  }
  EXPECT_LE(rotation.prepared(), 4);  // two for each swing
}

TEST(RotationTest, AShorterLifeSettlesWithoutAFlood) {
  Rotation rotation;
  rotation.Run(kStart);
  rotation.set_life(absl::Hours(1));
  rotation.RunBetween(kStart, kStart + absl::Hours(48));
  EXPECT_LE(rotation.prepared(), 48 * 2 + 2);
}

// Z12: random steps of the clock, forward and back. Run() asserts that one usable authority is always active.
TEST(RotationTest, PropertyAnyWalkOfTheClockLeavesOneUsableAuthority) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    Rotation rotation;
    absl::Time now = kStart;
    for (int i = 0; i < 300; ++i) {
      const int kind = static_cast<int>(random() % 10);
      const absl::Duration step = absl::Seconds(random() % 86'400) * (kind == 0 ? 50 : kind < 4 ? 1 : 0.01);
      now += random() % 4 == 0 ? -step : step;
      rotation.Run(now);
      if (HasFatalFailure()) FAIL() << "seed " << seed << " step " << i;
    }
  }
}

}  // namespace
}  // namespace signet::server
