// Seam for time: every component that needs "now" or waits for a moment takes a Clock&, so tests use FakeClock.
// Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace signet {

class Clock {
 public:
  virtual ~Clock() = default;

  // Wall clock: what goes into certificates and is compared with them. May step.
  virtual absl::Time Now() = 0;

  // Monotonic, from an arbitrary start: for intervals, backoff and deadlines that must survive a step of the wall clock.
  virtual absl::Duration Steady() = 0;

  // Waits on `cv`, with `lock` held, until `ready()` or until `timeout` of steady time has passed. Returns ready().
  // `ready` runs with the lock held. A fake clock returns early when it is advanced past the timeout.
  virtual bool Wait(std::unique_lock<std::mutex>& lock, std::condition_variable& cv, absl::Duration timeout,
                    const std::function<bool()>& ready) = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
  absl::Duration Steady() override {
    return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
  }
  bool Wait(std::unique_lock<std::mutex>& lock, std::condition_variable& cv, absl::Duration timeout,
            const std::function<bool()>& ready) override {
    if (timeout == absl::InfiniteDuration()) {
      cv.wait(lock, ready);
      return true;
    }
    return cv.wait_for(lock, absl::ToChronoNanoseconds(timeout), ready);
  }
};

}  // namespace signet
