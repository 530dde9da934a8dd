// Linked into every program of the tsan preset, and only there: shows ThreadSanitizer how the distribution's gRPC
// orders its threads. Those libraries are not instrumented: the sanitizer sees neither their absl::Mutex, which waits
// on a futex, nor their atomics, so what one thread hands to another through gRPC would be reported as a race. A
// program's own definition of a function stands before a shared library's: the ones below run the library's and say
// what happened. Not instrumented itself: the libraries lock while they load, before the sanitizer is up.
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <sanitizer/tsan_interface.h>

#include <grpc/grpc.h>
#include <grpc/support/sync.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"

extern "C" {  // of the sanitizer's library; no header of GCC's declares them
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
}

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

// Whoever lets the last reference to a status go destroys it, after all that was read of it under the others.
void Status::UnrefNonInlined(uintptr_t rep) {
  static const auto unref = Library<void (*)(uintptr_t)>(SIGNET_ABSL "6Status15UnrefNonInlinedEm");
  void* const counted = reinterpret_cast<void*>(rep);
  __tsan_release(counted);
  __tsan_acquire(counted);
  unref(rep);
}

ABSL_NAMESPACE_END
}  // namespace absl

namespace grpc::internal {

// Whoever takes the last reference runs OnDone, or OnCancel, after all that was done under the other references. The
// count goes down with acquire and release, in our code and in the library; when the last one falls there, the
// acquiring is not seen.
void ServerCallbackCall::ScheduleOnDone(bool inline_ondone) {
  static const auto schedule =
      Library<void (*)(ServerCallbackCall*, bool)>("_ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb");
  __tsan_acquire(&callbacks_outstanding_);
  schedule(this, inline_ondone);
}

// The reaction to a cancelled call, run by gRPC's own executor, which then lets a reference of the call go.
class OrderedCancel final : public ServerReactor {
 public:
  OrderedCancel(ServerReactor* reactor, void* conditions, void* references)
      : reactor_(reactor), conditions_(conditions), references_(references) {}
  bool InternalInlineable() override { return reactor_->InternalInlineable(); }
  void OnDone() override { std::abort(); }  // never asked for: the call knows its own reactor
  void OnCancel() override {
    __tsan_acquire(conditions_);
    reactor_->OnCancel();
    __tsan_release(references_);
    delete this;
  }

 private:
  ServerReactor* const reactor_;
  void* const conditions_;
  void* const references_;
};

void ServerCallbackCall::CallOnCancel(ServerReactor* reactor) {
  static const auto call = Library<void (*)(ServerCallbackCall*, ServerReactor*)>(
      "_ZN4grpc8internal18ServerCallbackCall12CallOnCancelEPNS0_13ServerReactorE");
  call(this, new OrderedCancel(reactor, &on_cancel_conditions_remaining_, &callbacks_outstanding_));
}

}  // namespace grpc::internal

namespace grpc_core {

// gRPC keeps its errors in an absl::Status and hands them from thread to thread with their references counted by
// atomics; texts and times of one stand in Cords. What it does to read its own errors is not looked at. None of this
// calls code of ours.
class Unwatched {
 public:
  Unwatched() { __tsan_ignore_thread_begin(); }
  ~Unwatched() { __tsan_ignore_thread_end(); }
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

enum class StatusIntProperty : int;
enum class StatusStrProperty : int;

std::string StatusToString(const absl::Status& status) {
  static const auto to_string =
      Library<decltype(&StatusToString)>("_ZN9grpc_core14StatusToStringB5cxx11ERKN4absl7debian36StatusE");
  const Unwatched unwatched;
  return to_string(status);
}

absl::optional<intptr_t> StatusGetInt(const absl::Status& status, StatusIntProperty which) {
  static const auto get =
      Library<decltype(&StatusGetInt)>("_ZN9grpc_core12StatusGetIntERKN4absl7debian36StatusENS_17StatusIntPropertyE");
  const Unwatched unwatched;
  return get(status, which);
}

absl::optional<std::string> StatusGetStr(const absl::Status& status, StatusStrProperty which) {
  static const auto get = Library<decltype(&StatusGetStr)>(
      "_ZN9grpc_core12StatusGetStrB5cxx11ERKN4absl7debian36StatusENS_17StatusStrPropertyE");
  const Unwatched unwatched;
  return get(status, which);
}

}  // namespace grpc_core

// Whoever lets the last reference go, grpc::Alarm's too, destroys after all that was done under the others.
int gpr_unref(gpr_refcount* count) {
  static const auto unref = Library<decltype(&gpr_unref)>("gpr_unref");
  __tsan_release(count);
  const int last = unref(count);
  if (last != 0) __tsan_acquire(count);
  return last;
}

// An operation is known by its tag: what came before its start and before its end comes before its completion is taken.
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

struct grpc_cq_completion;
void grpc_cq_end_op(grpc_completion_queue* queue, void* tag, absl::Status error,
                    void (*done)(void*, grpc_cq_completion*), void* argument, grpc_cq_completion* storage,
                    bool internal) {
  static const auto end = Library<decltype(&grpc_cq_end_op)>(
      "_Z14grpc_cq_end_opP21grpc_completion_queuePvN4absl7debian36StatusEPFvS1_P18grpc_cq_completionES1_S6_b");
  __tsan_release(tag);
  end(queue, tag, std::move(error), done, argument, storage, internal);
}

// Client and server of a test are one process: what was done before bytes were sent comes before what is done with
// them. A connection is known by the addresses of its two ends. gRPC's calls would otherwise not be looked at
// (called_from_lib).
namespace {

char connections[1 << 16];

void* ConnectionOf(int fd) {
  size_t hash = 0;
  for (const auto name : {&getsockname, &getpeername}) {
    char address[sizeof(sockaddr_un)] = {};
    socklen_t size = sizeof address;
    if (name(fd, reinterpret_cast<sockaddr*>(address), &size) != 0) continue;
    hash +=
        std::hash<std::string_view>()({address, std::min<size_t>(size, sizeof address)});  // the same from both ends
  }
  return &connections[hash % sizeof connections];
}

}  // namespace

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  __tsan_release(ConnectionOf(fd));
  return syscall(SYS_sendmsg, fd, message, flags);
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  const ssize_t size = syscall(SYS_recvmsg, fd, message, flags);
  const int error = errno;
  if (size > 0) __tsan_acquire(ConnectionOf(fd));
  errno = error;
  return size;
}

// A server is gone after its calls: each is let go behind its OnDone, and the last one wakes who waits for the server.
// Their count goes down by atomics.
namespace {
char ended_calls;
}  // namespace

void grpc_call_unref(grpc_call* call) {
  static const auto unref = Library<decltype(&grpc_call_unref)>("grpc_call_unref");
  __tsan_release(&ended_calls);
  unref(call);
}

void grpc_server_destroy(grpc_server* server) {
  static const auto destroy = Library<decltype(&grpc_server_destroy)>("grpc_server_destroy");
  destroy(server);
  __tsan_acquire(&ended_calls);
}

// gRPC uses a TLS connection in one thread at a time, in one after another, and counts who still holds it by atomics.
// A connection's buffers go with it.
struct ssl_st;
struct bio_st;
namespace {
char tls_used;
}  // namespace

extern "C" {

#define SIGNET_ONE_AT_A_TIME(result, name, object, ...)           \
  static const auto library = Library<decltype(&name)>(#name);    \
  __tsan_acquire(object);                                         \
  const result done = library(object __VA_OPT__(, ) __VA_ARGS__); \
  __tsan_release(object);                                         \
  __tsan_release(&tls_used);                                      \
  return done

int SSL_do_handshake(ssl_st* ssl) { SIGNET_ONE_AT_A_TIME(int, SSL_do_handshake, ssl); }
int SSL_read(ssl_st* ssl, void* into, int size) { SIGNET_ONE_AT_A_TIME(int, SSL_read, ssl, into, size); }
int SSL_write(ssl_st* ssl, const void* from, int size) { SIGNET_ONE_AT_A_TIME(int, SSL_write, ssl, from, size); }
int BIO_read(bio_st* bio, void* into, int size) { SIGNET_ONE_AT_A_TIME(int, BIO_read, bio, into, size); }
int BIO_write(bio_st* bio, const void* from, int size) { SIGNET_ONE_AT_A_TIME(int, BIO_write, bio, from, size); }

void SSL_free(ssl_st* ssl) {
  static const auto library = Library<decltype(&SSL_free)>("SSL_free");
  __tsan_acquire(&tls_used);
  library(ssl);
}

int BIO_free(bio_st* bio) {
  static const auto library = Library<decltype(&BIO_free)>("BIO_free");
  __tsan_acquire(bio);
  return library(bio);
}

}  // extern "C"
