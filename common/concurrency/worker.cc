#include "common/concurrency/worker.h"

#include <pthread.h>

#include <algorithm>
#include <random>
#include <utility>

namespace signet {

Worker::Worker(std::string name, Clock& clock, Job job)
    : clock_(clock), job_(std::move(job)), thread_([this] { Run(); }) {
  name.resize(std::min<size_t>(name.size(), 15));
  pthread_setname_np(thread_.native_handle(), name.c_str());
}

Worker::~Worker() { Stop(); }

void Worker::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_all();
}

void Worker::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Worker::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    woken_ = false;
    lock.unlock();
    const absl::Duration wait = job_();
    lock.lock();
    clock_.Wait(lock, wake_, wait, [&] { return woken_ || stopping_; });
  }
}

absl::Duration Backoff::Next() {
  thread_local std::minstd_rand random{std::random_device{}()};
  absl::Duration ceiling = first_;
  for (int i = 0; i < attempts_ && ceiling < cap_; ++i) ceiling *= 2;
  ++attempts_;
  return std::min(ceiling, cap_) * std::uniform_real_distribution<double>(0.5, 1.0)(random);
}

}  // namespace signet
