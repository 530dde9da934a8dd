// How a unary call runs: authorise, then the handler, then one reply. Three kinds of handler, by what they wait for.
// Thread-safe. The handlers may be called on gRPC's threads, on the executor, or on the datastore's writer thread.
#pragma once

#include <memory>
#include <utility>

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "common/concurrency/executor.h"
#include "common/status/grpc_status.h"
#include "server/api/admission.h"
#include "server/api/authorizer.h"

namespace signet::server {

// The answer that a call owes. Sent once; dropping it unsent answers kInternal, so no path can forget the caller.
class Reply {
 public:
  Reply(Method method, grpc::ServerUnaryReactor* reactor) : method_(method), reactor_(reactor) {}
  Reply(Reply&& other) noexcept
      : method_(other.method_), reactor_(std::exchange(other.reactor_, nullptr)), ticket_(std::move(other.ticket_)) {}
  Reply& operator=(Reply&&) = delete;
  ~Reply() {
    if (reactor_ != nullptr) Send(absl::InternalError("reply was dropped"));
  }
  // Response messages must be complete before.
  void Send(const absl::Status& status);
  void Hold(Admission::Ticket ticket) { ticket_ = std::move(ticket); }

 private:
  Method method_;
  grpc::ServerUnaryReactor* reactor_;
  Admission::Ticket ticket_;
};

// Logs what is our fault: the caller is only told "internal error".
void LogFailure(Method method, const absl::Status& status);

class Calls {
 public:
  // `blocking` runs what reads the database.
  Calls(Authorizer& authorizer, Executor& blocking, Admission& admission)
      : authorizer_(authorizer), blocking_(blocking), admission_(admission) {}

  // CPU and memory only. `handler`: absl::Status(const CallerPtr&), runs inline.
  template <typename Handler>
  grpc::ServerUnaryReactor* Inline(grpc::CallbackServerContext* context, Method method, Handler handler) {
    return Run(context, method,
               [handler = std::move(handler)](const CallerPtr& caller, Reply reply) { reply.Send(handler(caller)); });
  }

  // Reads the database. `handler`: absl::Status(const CallerPtr&), runs on the executor.
  template <typename Handler>
  grpc::ServerUnaryReactor* Blocking(grpc::CallbackServerContext* context, Method method, Handler handler) {
    return Run(context, method, [this, handler = std::move(handler)](const CallerPtr& caller, Reply reply) mutable {
      if (!Admit(*caller, reply)) return;
      PostBlocking(std::move(reply), [handler = std::move(handler), caller](Reply r) { r.Send(handler(caller)); });
    });
  }

  // Starts something and lets its completion reply. `handler`: void(const CallerPtr&, Reply).
  template <typename Handler>
  grpc::ServerUnaryReactor* Async(grpc::CallbackServerContext* context, Method method, Handler handler) {
    return Run(context, method, [this, handler = std::move(handler)](const CallerPtr& caller, Reply reply) mutable {
      if (Admit(*caller, reply)) handler(caller, std::move(reply));
    });
  }

  // Like Async, without counting the call as waiting work: for handlers that as a rule answer at once.
  template <typename Handler>
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context, Method method, Handler handler) {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    Reply reply(method, reactor);
    Authorizer::Decision decision = authorizer_.Decide(method, *context);
    if (decision.status.ok()) {
      handler(decision.caller, std::move(reply));
    } else if (!decision.confirm) {
      reply.Send(decision.status);
    } else {
      PostBlocking(std::move(reply),
                   [this, method, caller = std::move(decision.caller), handler = std::move(handler)](Reply r) mutable {
                     const Authorizer::Decision confirmed = authorizer_.Confirm(method, caller);
                     if (!confirmed.status.ok()) return r.Send(confirmed.status);
                     handler(caller, std::move(r));
                   });
    }
    return reactor;
  }

  grpc::ServerUnaryReactor* Unimplemented(grpc::CallbackServerContext* context, Method method);

  // Moves `reply` to the executor, or refuses it when that is full. `task`: void(Reply).
  template <typename Task>
  void PostBlocking(Reply reply, Task task) {
    auto shared = std::make_shared<Reply>(std::move(reply));
    auto run = [shared, task = std::move(task)]() mutable { task(std::move(*shared)); };
    if (!blocking_.Post(std::move(run))) shared->Send(OverloadedError("server is busy", absl::Seconds(1)));
  }

  Authorizer& authorizer() { return authorizer_; }
  Admission& admission() { return admission_; }
  Executor& executor() { return blocking_; }

 private:
  bool Admit(const Caller& caller, Reply& reply);  // false: refused and answered

  Authorizer& authorizer_;
  Executor& blocking_;
  Admission& admission_;
};

// Whose work it is, for Admission.
std::string IdentityOf(const Caller& caller);

}  // namespace signet::server
