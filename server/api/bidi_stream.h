// A bidirectional stream that speaks by turns: one read or one write at a time, each started by the step before.
// The stream owns itself until gRPC is done with it; a completion that may come later holds shared_from_this().
// Thread-safe where it says so: Close() may come from any thread at any time, all else from the step that is running.
#pragma once

#include <memory>
#include <utility>

#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "common/concurrency/mutex.h"
#include "common/rpc/patience.h"
#include "common/status/grpc_status.h"
#include "server/api/admission.h"
#include "server/api/call.h"
#include "server/api/stream_registry.h"

namespace signet::server {

template <typename In, typename Out>
class BidiStream : public grpc::ServerBidiReactor<In, Out>, public std::enable_shared_from_this<BidiStream<In, Out>> {
 public:
  // Authorises, admits and registers the stream, then lets it Begin(). `deadline`: how long it may live at most.
  static BidiStream* Start(std::shared_ptr<BidiStream> stream, grpc::CallbackServerContext* context, Method method,
                           Calls& calls, StreamRegistry& streams, absl::Time deadline = absl::InfiniteFuture()) {
    stream->self_ = stream;
    stream->context_ = context;
    stream->method_ = method;
    BidiStream* const raw = stream.get();
    calls.authorizer().Authorize(
        method, *context,
        [stream = std::move(stream), method, &calls, &streams, deadline](absl::StatusOr<CallerPtr> caller) {
          if (!caller.ok()) return stream->Close(caller.status());
          absl::StatusOr<Admission::Ticket> ticket = calls.admission().Enter(IdentityOf(**caller));
          if (!ticket.ok()) return stream->Close(ticket.status());
          stream->ticket_ = *std::move(ticket);
          stream->caller_ = *caller;
          stream->Hold(streams.Register(
              method, *std::move(caller), [raw = stream.get()](const absl::Status& status) { raw->Close(status); },
              deadline));
          stream->Begin();
        });
    return raw;
  }

  void OnReadDone(bool ok) final { OnRead(ok); }
  void OnWriteDone(bool ok) final {
    if (ok) {
      OnWritten();
    } else {
      Close(absl::CancelledError("client is gone"));
    }
  }
  void OnCancel() override { Close(absl::CancelledError("client is gone")); }
  void OnDone() final {
    patience_.Done();
    std::unique_ptr<StreamRegistry::Handle> handle;
    {
      MutexLock lock(mutex_);
      done_ = true;
      handle = std::move(handle_);
    }
    handle.reset();  // waits for a Close() of the registry
    ticket_ = {};
    OnEnd();
    self_.reset();  // `this` ends here, unless a completion still holds it
  }

  // Thread-safe; the first one counts. Nothing is read or written after it. When something went wrong a peer that does
  // not read is not waited for long, even if the last message is on its way already.
  void Close(const absl::Status& status) {
    {
      MutexLock lock(mutex_);
      if (done_) return;
      if (!status.ok()) patience_.Begin(*context_);
      if (std::exchange(closed_, true)) return;
    }
    LogFailure(method_, status);
    this->Finish(ToGrpc(status));
  }

 protected:
  virtual void Begin() = 0;          // as a rule: Read()
  virtual void OnRead(bool ok) = 0;  // false: the client has finished sending, or is gone
  virtual void OnWritten() = 0;
  virtual void OnEnd() {}  // the last call

  void Read() {
    MutexLock lock(mutex_);
    if (!closed_) this->StartRead(&in_);
  }
  void Write() {
    MutexLock lock(mutex_);
    if (!closed_) this->StartWrite(&out_);
  }
  void WriteLast() {
    MutexLock lock(mutex_);
    if (!std::exchange(closed_, true)) this->StartWriteAndFinish(&out_, grpc::WriteOptions(), grpc::Status::OK);
  }
  const Caller& caller() const { return *caller_; }
  const CallerPtr& caller_ptr() const { return caller_; }

  In in_;
  Out out_;

 private:
  // The registry may end the stream before this call: then the registration goes at once.
  void Hold(std::unique_ptr<StreamRegistry::Handle> handle) {
    MutexLock lock(mutex_);
    if (!done_) handle_.swap(handle);
  }

  std::shared_ptr<BidiStream> self_;
  grpc::CallbackServerContext* context_ = nullptr;
  Method method_{};
  CallerPtr caller_;
  Admission::Ticket ticket_;
  rpc::Patience patience_;
  Mutex mutex_;
  std::unique_ptr<StreamRegistry::Handle> handle_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace signet::server
