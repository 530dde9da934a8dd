// From the configuration to the attestors: the one place that names them.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/workloadattestor/workload_attestor.h"

namespace signet::config {
class WorkloadAttestors;
}  // namespace signet::config

namespace signet::agent {

// An empty configuration means the unix attestor with its defaults. kInvalidArgument names the key.
absl::StatusOr<std::vector<std::unique_ptr<WorkloadAttestor>>> MakeWorkloadAttestors(
    const config::WorkloadAttestors& config);

}  // namespace signet::agent
