#include "common/kubernetes/cancellation.h"

namespace signet::kubernetes {

Cancellation::Waker::Waker(Cancellation* cancellation, std::function<void()> wake) : cancellation_(cancellation) {
  if (cancellation_ == nullptr) return;
  MutexLock lock(cancellation_->mutex_);
  if (cancellation_->cancelled_) wake();
  id_ = ++cancellation_->last_id_;
  cancellation_->wakers_[id_] = std::move(wake);
}

Cancellation::Waker::~Waker() {
  if (cancellation_ == nullptr) return;
  MutexLock lock(cancellation_->mutex_);
  cancellation_->wakers_.erase(id_);
}

void Cancellation::Cancel() {
  MutexLock lock(mutex_);
  if (cancelled_) return;
  cancelled_ = true;
  for (const auto& [_, wake] : wakers_) wake();
}

bool Cancellation::cancelled() const {
  MutexLock lock(mutex_);
  return cancelled_;
}

}  // namespace signet::kubernetes
