// How one thread ends the calls of another: give it to a call, Cancel() from anywhere. Thread-safe; once cancelled it
// stays so. Outlives the calls it was given to.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "common/concurrency/mutex.h"

namespace signet::kubernetes {

class Cancellation {
 public:
  // For who waits: `wake` is called by Cancel(), at once if that has been called already; with a lock held, so it must
  // be quick and must not come back here. Not called any more once the destructor has returned.
  class Waker {
   public:
    Waker(Cancellation* cancellation, std::function<void()> wake);  // null: nobody cancels
    ~Waker();
    Waker(const Waker&) = delete;
    Waker& operator=(const Waker&) = delete;

   private:
    Cancellation* const cancellation_;
    uint64_t id_ = 0;
  };

  void Cancel();
  bool cancelled() const;

 private:
  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::function<void()>> wakers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::kubernetes
