#include "common/concurrency/worker.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tests/fakes/fake_clock.h"

namespace signet {
namespace {

TEST(WorkerTest, RunsAtOnceAndAgainWhenItsTimeHasCome) {
  fakes::FakeClock clock;
  std::atomic<int> runs = 0;
  Worker worker("test", clock, [&] {
    ++runs;
    return absl::Seconds(10);
  });
  clock.AwaitWaiters(1);
  EXPECT_EQ(runs, 1);
  clock.Advance(absl::Seconds(10));
  while (runs < 2) std::this_thread::yield();
  clock.AwaitWaiters(1);
  EXPECT_EQ(runs, 2);
}

TEST(WorkerTest, WakeRunsItEarly) {
  fakes::FakeClock clock;
  std::atomic<int> runs = 0;
  Worker worker("test", clock, [&] {
    ++runs;
    return absl::InfiniteDuration();
  });
  clock.AwaitWaiters(1);
  worker.Wake();
  while (runs < 2) std::this_thread::yield();
}

TEST(WorkerTest, StopInterruptsTheWait) {
  fakes::FakeClock clock;
  Worker worker("test", clock, [] { return absl::InfiniteDuration(); });
  worker.Stop();  // hangs if it does not
}

TEST(BackoffTest, GrowsToItsCapAndStaysBetweenHalfAndWhole) {
  Backoff backoff(absl::Seconds(1), absl::Seconds(8));
  for (double ceiling : {1.0, 2.0, 4.0, 8.0, 8.0}) {
    const absl::Duration wait = backoff.Next();
    EXPECT_GE(wait, absl::Seconds(ceiling / 2));
    EXPECT_LE(wait, absl::Seconds(ceiling));
  }
}

}  // namespace
}  // namespace signet
