// How long a stream that was told to end is waited for. gRPC sends the status behind what was written before it, so a
// peer that does not read keeps it waiting, and with it the stream and all that it holds. When patience is over the
// call is cancelled: what is in flight fails, OnCancel and OnDone come. Thread-safe. A member of the stream; costs
// nothing until Begin().
#pragma once

#include <chrono>
#include <memory>

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>

#include "common/concurrency/mutex.h"

namespace signet::rpc {

class Patience {
 public:
  static constexpr std::chrono::seconds kPatience{1};

  Patience() = default;
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;

  // The stream is told to end; the first time counts. `context` is the call's.
  void Begin(const grpc::CallbackServerContext& context) {
    MutexLock lock(mutex_);
    if (done_ || alarm_ != nullptr) return;
    call_ = std::make_shared<Call>();
    {
      MutexLock call_lock(call_->mutex);
      call_->context = &context;
    }
    alarm_ = std::make_unique<grpc::Alarm>();
    alarm_->Set(std::chrono::system_clock::now() + kPatience, [call = call_](bool in_time) {
      MutexLock call_lock(call->mutex);
      if (in_time && call->context != nullptr) call->context->TryCancel();
    });
  }

  // From OnDone(): the context is not used any more when this returns, whatever comes later.
  void Done() {
    std::shared_ptr<Call> call;
    std::unique_ptr<grpc::Alarm> alarm;  // cancelled without a lock
    {
      MutexLock lock(mutex_);
      done_ = true;
      call.swap(call_);
      alarm.swap(alarm_);
    }
    if (call == nullptr) return;
    MutexLock call_lock(call->mutex);
    call->context = nullptr;
  }

 private:
  struct Call {
    Mutex mutex;
    const grpc::CallbackServerContext* context ABSL_GUARDED_BY(mutex) = nullptr;  // null: the call is over
  };

  Mutex mutex_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<Call> call_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::rpc
