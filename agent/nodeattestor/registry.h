// From the configuration to the node attestor: the one place that names them.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "agent/nodeattestor/node_attestor.h"

namespace signet::config {
class AgentNodeAttestor;
}  // namespace signet::config

namespace signet::agent {

// Null when none is configured: an agent that has attested once can do without. Paths are taken as they stand
// (config.cc resolves them). Reads no file. kInvalidArgument names the key.
absl::StatusOr<std::unique_ptr<NodeAttestor>> MakeNodeAttestor(const config::AgentNodeAttestor& config);

// Reads the files that must be there whenever the node attests: x509_pop's. A token's file may be gone once the token
// is spent. kInvalidArgument names key and file.
absl::Status CheckNodeAttestorFiles(const config::AgentNodeAttestor& config);

}  // namespace signet::agent
