// std::mutex with clang's thread-safety annotations. Not absl::Mutex: the distribution's libabsl is not instrumented, and
// ThreadSanitizer then reports races that are none.
#pragma once

#include <mutex>

#include "absl/base/thread_annotations.h"

namespace signet {

class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  std::mutex& native() ABSL_LOCK_RETURNED(this) { return mutex_; }  // for Clock::Wait with a std::unique_lock

 private:
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace signet
