// spire.api.server.logger.v1.Logger: the log level of the running server, for the local operator.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "server/api/call.h"

namespace signet::server {

std::unique_ptr<grpc::Service> MakeLoggerService(Calls& calls);

}  // namespace signet::server
