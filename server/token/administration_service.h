// signet.server.token.v1.Administration over gRPC: on the admin socket, and for administrators of the own trust domain
// over mTLS (methods.h). Every call goes to Administration by its name.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "server/api/call.h"
#include "server/token/administration.h"

namespace signet::server {

// Both must outlive the service. `administration` null: every authorised call answers UNIMPLEMENTED, the token service
// is off.
std::unique_ptr<grpc::Service> MakeAdministrationService(Calls& calls, Administration* administration);

}  // namespace signet::server
