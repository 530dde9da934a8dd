// From the configuration to the attestors: the one place that names them.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/workloadattestor/workload_attestor.h"
#include "common/time/clock.h"

namespace signet::config {
class WorkloadAttestors;
}  // namespace signet::config

namespace signet::agent {

// An empty configuration means the unix attestor with its defaults. kInvalidArgument names each wrong key.
absl::StatusOr<std::vector<std::unique_ptr<WorkloadAttestor>>> MakeWorkloadAttestors(
    const config::WorkloadAttestors& config, Clock& clock);

}  // namespace signet::agent
