// Linked into every program of the tsan preset, and only there: shows ThreadSanitizer how the distribution's gRPC orders its
// threads. Those libraries are not instrumented: the sanitizer sees neither their absl::Mutex, which waits on a futex, nor
// their atomics, so what one thread hands to another through gRPC would be reported as a race. A program's own definition of
// a function stands before a shared library's: the ones below run the library's and say what happened.
// Not instrumented itself: the libraries lock while they load, before the sanitizer is up.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include <sanitizer/tsan_interface.h>

#include <grpc/grpc.h>
#include <grpcpp/support/server_callback.h>

#include "absl/synchronization/mutex.h"

namespace {

// The library's function of this mangled name. Member functions take `this` as their first argument.
template <typename Function>
Function Library(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) {
    std::fprintf(stderr, "tsan_order: no library has %s; is this another Abseil or gRPC?\n", name);
    std::abort();
  }
  return reinterpret_cast<Function>(found);
}

}  // namespace

#define SIGNET_ABSL "_ZN4absl7debian3"  // absl:: with the inline namespace of Debian's build

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto lock = Library<void (*)(Mutex*)>(SIGNET_ABSL "5Mutex4LockEv");
  lock(this);
  __tsan_acquire(this);
}

bool Mutex::TryLock() {
  static const auto try_lock = Library<bool (*)(Mutex*)>(SIGNET_ABSL "5Mutex7TryLockEv");
  if (!try_lock(this)) return false;
  __tsan_acquire(this);
  return true;
}

void Mutex::Unlock() {
  static const auto unlock = Library<void (*)(Mutex*)>(SIGNET_ABSL "5Mutex6UnlockEv");
  __tsan_release(this);
  unlock(this);
}

// Waiting gives the mutex up and takes it again, without calls of the functions above.
void CondVar::Wait(Mutex* mutex) {
  static const auto wait = Library<void (*)(CondVar*, Mutex*)>(SIGNET_ABSL "7CondVar4WaitEPNS0_5MutexE");
  __tsan_release(mutex);
  wait(this, mutex);
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  static const auto wait =
      Library<bool (*)(CondVar*, Mutex*, Duration)>(SIGNET_ABSL "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  __tsan_release(mutex);
  const bool timed_out = wait(this, mutex, timeout);
  __tsan_acquire(mutex);
  return timed_out;
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static const auto wait =
      Library<bool (*)(CondVar*, Mutex*, Time)>(SIGNET_ABSL "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  __tsan_release(mutex);
  const bool timed_out = wait(this, mutex, deadline);
  __tsan_acquire(mutex);
  return timed_out;
}

ABSL_NAMESPACE_END
}  // namespace absl

namespace grpc::internal {

// Whoever takes the last reference runs OnDone, or OnCancel, after all that was done under the other references. The count goes
// down with acquire and release, in our code and in the library; when the last one falls there, the acquiring is not seen.
void ServerCallbackCall::ScheduleOnDone(bool inline_ondone) {
  static const auto schedule =
      Library<void (*)(ServerCallbackCall*, bool)>("_ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb");
  __tsan_acquire(&callbacks_outstanding_);
  schedule(this, inline_ondone);
}

void ServerCallbackCall::CallOnCancel(ServerReactor* reactor) {
  static const auto call = Library<void (*)(ServerCallbackCall*, ServerReactor*)>(
      "_ZN4grpc8internal18ServerCallbackCall12CallOnCancelEPNS0_13ServerReactorE");
  __tsan_acquire(&on_cancel_conditions_remaining_);
  call(this, reactor);
}

}  // namespace grpc::internal

// An operation is known by its tag: what came before its start comes before its completion.
grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t count, void* tag, void* reserved) {
  static const auto start = Library<decltype(&grpc_call_start_batch)>("grpc_call_start_batch");
  __tsan_release(tag);
  return start(call, ops, count, tag, reserved);
}

grpc_event grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline, void* reserved) {
  static const auto next = Library<decltype(&grpc_completion_queue_next)>("grpc_completion_queue_next");
  const grpc_event event = next(queue, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) __tsan_acquire(event.tag);
  return event;
}
