// The gRPC server behind the workload socket: what each call must carry, and settings that keep idle connections small.
#pragma once

#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>

#include "absl/status/status.h"

namespace signet::agent {

// The metadata workload.spiffe.io, once, with exactly the value true: it keeps a browser or a proxy that can be made to
// open the socket from being a caller (SPIFFE Workload Endpoint 3). kInvalidArgument. Fits rpc::Authorise, for
// reflection and health, which the standard does not exempt.
absl::Status CheckWorkloadHeader(const grpc::CallbackServerContext& context);

// Before the first use of gRPC in the process, which reads its experiments once.
void PrepareGrpcForManyConnections();
// An idle connection with an open stream then takes about 30 KB instead of 34 (gRPC 1.51, measured).
void ConfigureWorkloadServer(grpc::ServerBuilder& builder);

}  // namespace signet::agent
