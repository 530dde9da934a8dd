// A reader-writer lock under which a writer that waits goes first: std::shared_mutex on glibc lets readers that keep
// coming starve it. Not recursive.
#pragma once

#include <pthread.h>

namespace signet {

class ReaderWriterLock {
 public:
  ReaderWriterLock() {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&lock_, &attributes);
    pthread_rwlockattr_destroy(&attributes);
  }
  ~ReaderWriterLock() { pthread_rwlock_destroy(&lock_); }
  ReaderWriterLock(const ReaderWriterLock&) = delete;
  ReaderWriterLock& operator=(const ReaderWriterLock&) = delete;

  template <typename F>
  auto Read(const F& f) const {
    pthread_rwlock_rdlock(&lock_);
    auto result = f();
    pthread_rwlock_unlock(&lock_);
    return result;
  }
  template <typename F>
  void Write(const F& f) {
    pthread_rwlock_wrlock(&lock_);
    f();
    pthread_rwlock_unlock(&lock_);
  }

 private:
  mutable pthread_rwlock_t lock_;
};

}  // namespace signet
