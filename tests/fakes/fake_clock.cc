#include "tests/fakes/fake_clock.h"

#include <vector>

namespace signet::fakes {

absl::Time FakeClock::Now() {
  std::lock_guard lock(mutex_);
  return now_;
}

absl::Duration FakeClock::Steady() {
  std::lock_guard lock(mutex_);
  return steady_;
}

bool FakeClock::Wait(std::unique_lock<std::mutex>& lock, std::condition_variable& cv, absl::Duration timeout,
                     const std::function<bool()>& ready) {
  Waiter waiter{lock.mutex(), &cv};
  absl::Duration until;
  {
    std::lock_guard own(mutex_);
    until = steady_ + timeout;
    waiters_.insert(&waiter);
  }
  changed_.notify_all();
  cv.wait(lock, [&] { return ready() || Steady() >= until; });
  {
    std::lock_guard own(mutex_);
    waiters_.erase(&waiter);
  }
  return ready();
}

void FakeClock::Advance(absl::Duration by) {
  std::vector<Waiter> to_wake;
  {
    std::lock_guard lock(mutex_);
    now_ += by;
    steady_ += by;
    for (Waiter* waiter : waiters_) to_wake.push_back(*waiter);
  }
  for (const Waiter& waiter : to_wake) {
    std::lock_guard lock(*waiter.mutex);  // no waiter is between its check and its sleep
    waiter.cv->notify_all();
  }
}

void FakeClock::StepWall(absl::Duration by) {
  std::lock_guard lock(mutex_);
  now_ += by;
}

void FakeClock::AwaitWaiters(size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiters_.size() >= count; });
}

}  // namespace signet::fakes
