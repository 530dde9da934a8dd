// The hook by which a service of common/rpc asks the daemon whether a caller may have an answer.
#pragma once

#include <functional>

#include <grpcpp/server_context.h>

#include "absl/status/status.h"

namespace signet::rpc {

// Runs on gRPC's threads, before anything else of the call: memory only.
using Authorise = std::function<absl::Status(const grpc::CallbackServerContext& context)>;

}  // namespace signet::rpc
