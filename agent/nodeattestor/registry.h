// From the configuration to the attestor: the one place that names them.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "agent/nodeattestor/node_attestor.h"

namespace signet::config {
class AgentNodeAttestor;
}  // namespace signet::config

namespace signet::agent {

// Null when the configuration names none: such an agent can resume and renew, not attest. kInvalidArgument names the key.
absl::StatusOr<std::unique_ptr<NodeAttestor>> MakeNodeAttestor(const config::AgentNodeAttestor& config);

}  // namespace signet::agent
