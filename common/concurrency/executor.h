// A bounded pool for work that waits (disk, network). One Executor for each kind of waiting work, so that no kind starves
// another. Thread-safe. The destructor runs what is queued, then joins.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"

namespace signet {

class Executor {
 public:
  struct Options {
    std::string name;         // of the threads, at most 15 characters (pthread_setname_np)
    size_t threads = 2;
    size_t queue_limit = 1024;  // waiting tasks; beyond it Post refuses
  };

  explicit Executor(Options options);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False when the queue is full or the executor is stopping: finish the call with kResourceExhausted.
  [[nodiscard]] bool Post(absl::AnyInvocable<void()> task);

 private:
  void Run();

  const Options options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<absl::AnyInvocable<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace signet
