// A clock that stands still until it is told to move. Thread-safe. Waiters wake when the steady time passes their
// limit.
#pragma once

#include <cstdint>
#include <set>

#include "common/time/clock.h"

namespace signet::fakes {

class FakeClock final : public Clock {
 public:
  explicit FakeClock(absl::Time now = absl::FromUnixSeconds(1'800'000'000)) : now_(now) {}

  absl::Time Now() override;
  absl::Duration Steady() override;
  bool Wait(std::unique_lock<std::mutex>& lock, std::condition_variable& cv, absl::Duration timeout,
            const std::function<bool()>& ready) override;

  // Both clocks move on; who waits and is due returns.
  void Advance(absl::Duration by);
  // The wall clock alone steps (NTP, an operator).
  void StepWall(absl::Duration by);
  // Returns once `count` threads wait in Wait(): then an Advance() is seen by all of them.
  void AwaitWaiters(size_t count);
  // Returns once `count` threads wait, none of them is due, and what each waits for is not there: then nothing happens
  // any more without the test. These threads must not wait for each other's mutex while they hold their own.
  void AwaitRest(size_t count);

 private:
  struct Waiter {
    std::mutex* mutex;
    std::condition_variable* cv;
    const std::function<bool()>* ready;
    absl::Duration until;
  };
  bool AllRest(size_t count);

  std::mutex mutex_;
  std::condition_variable changed_;
  absl::Time now_;
  absl::Duration steady_ = absl::Seconds(1000);
  std::set<Waiter*> waiters_;
  uint64_t waits_ = 0;  // begun so far
};

}  // namespace signet::fakes
