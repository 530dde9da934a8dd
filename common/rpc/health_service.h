// grpc.health.v1 over telemetry::Health: the daemon as a whole (empty name) and, alike, each service it is told.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <grpcpp/impl/codegen/service_type.h>

#include "common/rpc/authorise.h"
#include "common/telemetry/health.h"

namespace signet::rpc {

// `health` must outlive the server. Watch streams end with the server's shutdown deadline at the latest.
std::unique_ptr<grpc::Service> MakeHealthService(telemetry::Health& health, std::vector<std::string> services,
                                                 Authorise authorise);

}  // namespace signet::rpc
