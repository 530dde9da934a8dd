// gRPC server reflection, v1 and v1alpha, over the descriptors linked into the program: what `grpcurl` asks.
// Of our own, on the callback API: Debian's uses the synchronous one, whose threads have no bound.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <grpcpp/impl/codegen/service_type.h>

#include "common/rpc/authorise.h"

namespace signet::rpc {

// `services`: full names, as they are to be listed. Register both results.
std::unique_ptr<grpc::Service> MakeReflectionService(std::vector<std::string> services, Authorise authorise);
std::unique_ptr<grpc::Service> MakeReflectionV1AlphaService(std::vector<std::string> services, Authorise authorise);

}  // namespace signet::rpc
