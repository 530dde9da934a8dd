// signet.server.v1.AgentSync: the push of entries and bundles to an agent (agent_sync.proto says how it goes).
// A stream costs nothing while nothing changes. Changes are noted on the feed applier's thread and sent from a few
// threads of the service's own, one write in flight a stream; what waits for a slow reader is merged (delta.h). Hostile
// agents: messages are capped, an agent may hold few streams, and it is only ever sent what it is authorised for at the
// moment of sending.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "common/spiffe/trust_domain.h"
#include "common/time/clock.h"
#include "server/api/authorizer.h"
#include "server/api/stream_registry.h"
#include "server/datastore/data_store.h"
#include "server/entries/entry_index.h"
#include "server/metrics.h"
#include "server/sync/token_updates.h"

namespace signet::server {

struct AgentSyncServiceDeps {
  spiffe::TrustDomain trust_domain;
  std::string epoch;  // of the database, ChangeFeed::Epoch()
  Authorizer& authorizer;
  StreamRegistry& streams;
  EntryIndex& index;
  AgentStore& agents;  // the agent's version is kept
  Clock& clock;
  Metrics& metrics;
  TokenUpdates* tokens = nullptr;         // null: no token service here
  size_t max_message_bytes = 512 * 1024;  // a message ends with the entry that passes it: below 1 MiB in all
};
// Must outlive the grpc::Server. All streams have to be ended (StreamRegistry::FinishAll) before that can shut down.
std::unique_ptr<grpc::Service> MakeAgentSyncService(AgentSyncServiceDeps deps);

}  // namespace signet::server
