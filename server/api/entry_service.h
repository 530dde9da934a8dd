// spire.api.server.entry.v1.Entry: registration entries for operators, and for SPIRE's agents the entries they may
// sign.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "common/time/clock.h"
#include "server/api/call.h"
#include "server/api/stream_registry.h"
#include "server/datastore/data_store.h"
#include "server/entries/entry_index.h"

namespace signet::server {

struct EntryServiceDeps {
  spiffe::TrustDomain trust_domain;
  Calls& calls;
  StreamRegistry& streams;
  EntryStore& entries;
  const EntryIndex& index;
  Clock& clock;
};
std::unique_ptr<grpc::Service> MakeEntryService(EntryServiceDeps deps);

}  // namespace signet::server
