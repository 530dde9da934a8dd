// FetchJWTSVID and ValidateJWTSVID. Each call finishes exactly once through `finish`, on any thread, inline or later;
// request and response live until then, as gRPC promises.
#pragma once

#include <grpcpp/server_context.h>

#include <functional>

#include "absl/status/status.h"
#include "agent/api/workload_caller.h"

class JWTSVIDRequest;
class JWTSVIDResponse;
class ValidateJWTSVIDRequest;
class ValidateJWTSVIDResponse;

namespace signet::agent {

using FinishCall = std::function<void(absl::Status)>;

// One token for each identity of the caller, or for the one it names (WL-17 to WL-19). kInvalidArgument: no audience,
// an empty one, too many, or a malformed ID; kPermissionDenied: no identity, or not that one; kUnavailable: no server.
void FetchJwtSvid(const WorkloadCallers& callers, const grpc::CallbackServerContext& context,
                  const JWTSVIDRequest& request, JWTSVIDResponse* response, const FinishCall& finish);

// Against the bundles of the caller's entries (WL-22, WL-23). kInvalidArgument: a field is empty, or the token is bad.
void ValidateJwtSvid(const WorkloadCallers& callers, const grpc::CallbackServerContext& context,
                     const ValidateJWTSVIDRequest& request, ValidateJWTSVIDResponse* response,
                     const FinishCall& finish);

}  // namespace signet::agent
