// One named thread that runs one job again and again: at the moments the job itself names, and at once when woken.
// The only place where jitter and backoff of periodic work live.
// Thread-safe. Stop() (and the destructor) interrupts the wait, lets a running job finish, and joins.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "common/time/clock.h"

namespace signet {

class Worker {
 public:
  // Runs on the worker's thread; returns how long to wait until it should run again (InfiniteDuration: only when woken).
  using Job = std::function<absl::Duration()>;

  Worker(std::string name, Clock& clock, Job job);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Runs the job as soon as the one that may be running has finished. Wakes that come meanwhile are merged into one.
  void Wake();
  void Stop();

 private:
  void Run();

  Clock& clock_;
  const Job job_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

// Exponential backoff with full jitter: attempt n waits between half and the whole of min(first * 2^n, cap).
class Backoff {
 public:
  Backoff(absl::Duration first, absl::Duration cap) : first_(first), cap_(cap) {}
  absl::Duration Next();
  void Reset() { attempts_ = 0; }

 private:
  absl::Duration first_, cap_;
  int attempts_ = 0;
};

}  // namespace signet
