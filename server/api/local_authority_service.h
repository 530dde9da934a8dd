// spire.api.server.localauthority.v1.LocalAuthority: rotation by hand comes later; the clock rotates. Authorised, then
// UNIMPLEMENTED.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "server/api/call.h"

namespace signet::server {

std::unique_ptr<grpc::Service> MakeLocalAuthorityService(Calls& calls);

}  // namespace signet::server
