// From the configuration to the node attestors: the one place that names them.
#pragma once

#include "absl/status/statusor.h"
#include "common/concurrency/executor.h"
#include "common/spiffe/trust_domain.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"
#include "server/datastore/data_store.h"
#include "server/nodeattestor/node_attestor.h"

namespace signet::config {
class ServerNodeAttestors;
}  // namespace signet::config

namespace signet::server {

// The references outlive the attestors.
struct NodeAttestorDeps {
  spiffe::TrustDomain trust_domain;
  JoinTokenStore& tokens;
  Executor& executor;  // for what waits for our own store
  Executor& remote;    // for what waits for others: one that is slow must not keep join tokens waiting
  telemetry::Health& health;
  Clock& clock;
};

// One of each kind that is configured, with the files it names read now; an empty configuration means join_token alone.
// kInvalidArgument names the key.
absl::StatusOr<NodeAttestors> MakeNodeAttestors(const config::ServerNodeAttestors& config,
                                                const NodeAttestorDeps& deps);

}  // namespace signet::server
