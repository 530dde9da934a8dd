// spire.api.server.debug.v1.Debug: the server at a glance, for the local operator.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "common/concurrency/latest_value.h"
#include "common/spiffe/x509_svid.h"
#include "common/time/clock.h"
#include "server/api/call.h"
#include "server/entries/entry_index.h"

namespace signet::server {

struct DebugServiceDeps {
  Calls& calls;
  const LatestValue<spiffe::X509Svid>& identity;  // the SVID of the server itself
  const EntryIndex& index;
  Clock& clock;
};
std::unique_ptr<grpc::Service> MakeDebugService(DebugServiceDeps deps);

}  // namespace signet::server
