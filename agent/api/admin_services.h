// What the agent's admin socket serves: spire.agent.debug.v1.Debug and spire.api.agent.logger.v1.Logger.
// The socket's modes are the access control: its folder is 0700.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <grpcpp/impl/codegen/service_type.h>

#include "agent/sync/svid_cache.h"
#include "common/crypto/certificate.h"
#include "common/time/clock.h"

namespace signet::agent {

struct DebugServiceDeps {
  const SvidCache& cache;
  Clock& clock;
  // The agent's own SVID now, leaf first; empty before it has one.
  std::function<std::vector<crypto::Certificate>()> agent_svid;
};
// `clock` tells the uptime from this call on.
std::unique_ptr<grpc::Service> MakeDebugService(DebugServiceDeps deps);
std::unique_ptr<grpc::Service> MakeLoggerService();

}  // namespace signet::agent
