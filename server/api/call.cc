#include "server/api/call.h"

#include "absl/strings/str_cat.h"
#include "common/log/log.h"

namespace signet::server {

void LogFailure(Method method, const absl::Status& status) {
  if (status.code() != absl::StatusCode::kInternal && status.code() != absl::StatusCode::kUnknown &&
      status.code() != absl::StatusCode::kDataLoss) {
    return;
  }
  SIGNET_LOG(error, "call failed", {{"method", RowOf(method).path}, {"error", status.ToString()}});
}

void Reply::Send(const absl::Status& status) {
  LogFailure(method_, status);
  ticket_ = {};  // before Finish: after it the server may already be gone
  std::exchange(reactor_, nullptr)->Finish(ToGrpc(status));
}

std::string IdentityOf(const Caller& caller) {
  if (caller.kind == Caller::Kind::kLocal) return absl::StrCat("uid:", caller.uid);
  return caller.id ? caller.id->string() : "";
}

bool Calls::Admit(const Caller& caller, Reply& reply) {
  absl::StatusOr<Admission::Ticket> ticket = admission_.Enter(IdentityOf(caller));
  if (ticket.ok()) {
    reply.Hold(*std::move(ticket));
    return true;
  }
  reply.Send(ticket.status());
  return false;
}

grpc::ServerUnaryReactor* Calls::Unimplemented(grpc::CallbackServerContext* context, Method method) {
  return Inline(context, method, [method](const CallerPtr&) {
    return absl::UnimplementedError(absl::StrCat(RowOf(method).path, " is not implemented"));
  });
}

}  // namespace signet::server
