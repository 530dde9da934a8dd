#include "tests/fakes/fake_clock.h"

#include <algorithm>
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
  Waiter waiter{lock.mutex(), &cv, &ready, {}};
  {
    std::lock_guard own(mutex_);
    waiter.until = steady_ + timeout;
    waiters_.insert(&waiter);
    ++waits_;
  }
  changed_.notify_all();
  cv.wait(lock, [&] { return ready() || Steady() >= waiter.until; });
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

bool FakeClock::AllRest(size_t count) {
  std::set<std::mutex*> theirs;  // in one order; none of them is left while another is looked at
  {
    std::lock_guard lock(mutex_);
    if (waiters_.size() < count) return false;
    for (const Waiter* waiter : waiters_) theirs.insert(waiter->mutex);
  }
  std::vector<std::unique_lock<std::mutex>> held;
  for (std::mutex* mutex : theirs) held.emplace_back(*mutex);
  std::vector<Waiter> waiting;
  {
    std::lock_guard lock(mutex_);
    for (const Waiter* waiter : waiters_) {
      if (!theirs.contains(waiter->mutex)) return false;  // came meanwhile
      waiting.push_back(*waiter);
    }
    if (waiting.size() < count) return false;
  }
  const absl::Duration now = Steady();
  return std::none_of(waiting.begin(), waiting.end(),
                      [now](const Waiter& waiter) { return now >= waiter.until || (*waiter.ready)(); });
}

void FakeClock::AwaitRest(size_t count) {
  for (;;) {
    uint64_t before;
    {
      std::lock_guard lock(mutex_);
      before = waits_;
    }
    if (AllRest(count)) return;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waits_ != before; });  // who is not at rest begins another wait
  }
}

}  // namespace signet::fakes
