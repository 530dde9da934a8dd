// spire.api.server.trustdomain.v1.TrustDomain: comes with federation. Authorised, then UNIMPLEMENTED.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "server/api/call.h"

namespace signet::server {

std::unique_ptr<grpc::Service> MakeTrustDomainService(Calls& calls);

}  // namespace signet::server
