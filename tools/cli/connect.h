// Channels to the daemons a verb talks to. A socket that cannot be reached is found out before the first call, so that
// the error says which file, why, and what to do. Errors: kUnavailable, kPermissionDenied, kInvalidArgument (usage).
#pragma once

#include <memory>
#include <string>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "absl/status/statusor.h"
#include "common/rpc/client_channel.h"
#include "tools/cli/command.h"

namespace signet::cli {

inline constexpr char kServerSocket[] = "/run/signet/server/admin.sock";
inline constexpr char kAgentSocket[] = "/run/signet/agent/admin.sock";
inline constexpr char kWorkloadSocket[] = "/run/signet/workload/api.sock";

// By --server with --identity-dir, else by --socket or its default.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ServerChannel(const Context& context);
// `daemon` names who should listen there, in the advice.
absl::StatusOr<std::shared_ptr<grpc::Channel>> SocketChannel(const std::string& path, absl::string_view daemon);

// `given`, else SPIFFE_ENDPOINT_SOCKET (a unix: URI, SPIFFE Workload Endpoint 4), else the default.
absl::StatusOr<std::string> WorkloadSocketPath(const std::string& given);

void SetDeadline(grpc::ClientContext& context, absl::Duration timeout = absl::Seconds(30));

// One unary call: Call(*stub, &Entry::Stub::GetEntry, request, response).
template <typename Stub, typename Class, typename Request, typename Response>
absl::Status Call(Stub& stub, grpc::Status (Class::*method)(grpc::ClientContext*, const Request&, Response*),
                  const std::common_type_t<Request>& request, std::common_type_t<Response>& response) {
  grpc::ClientContext context;
  SetDeadline(context);
  return rpc::FromTlsCall((stub.*method)(&context, request, &response));
}

}  // namespace signet::cli
