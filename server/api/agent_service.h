// spire.api.server.agent.v1.Agent: attestation and renewal for agents, administration for operators.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "common/concurrency/latest_value.h"
#include "common/time/clock.h"
#include "server/api/call.h"
#include "server/api/stream_registry.h"
#include "server/ca/certificate_authority.h"
#include "server/datastore/data_store.h"
#include "server/entries/entry_index.h"
#include "server/metrics.h"
#include "server/nodeattestor/node_attestor.h"

namespace signet::server {

struct AgentServiceDeps {
  Calls& calls;
  StreamRegistry& streams;
  const CertificateAuthority& ca;
  AgentStore& agents;
  JoinTokenStore& tokens;
  const EntryIndex& index;
  const LatestValue<NodeAttestors>& attestors;
  IssuanceLog& issuance;
  Metrics& metrics;
  Clock& clock;
};
// Counts and logs an SVID that was given to an agent.
void NoteAgentSvid(const AgentServiceDeps& deps, const spiffe::Id& id, const crypto::Certificate& leaf);

std::unique_ptr<grpc::Service> MakeAgentService(AgentServiceDeps deps);

}  // namespace signet::server
