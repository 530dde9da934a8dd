// From the configuration to the attestors: the one place that names them.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/metrics.h"
#include "agent/workloadattestor/workload_attestor.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"

namespace signet::config {
class WorkloadAttestors;
}  // namespace signet::config

namespace signet::agent {

// What attestors use; outlives them.
struct WorkloadAttestorDeps {
  Clock& clock;
  Metrics& metrics;
  telemetry::Health& health;
};

// An empty configuration means the unix attestor with its defaults. kInvalidArgument names each wrong key;
// kFailedPrecondition what the agent's surroundings lack.
absl::StatusOr<std::vector<std::unique_ptr<WorkloadAttestor>>> MakeWorkloadAttestors(
    const config::WorkloadAttestors& config, const WorkloadAttestorDeps& deps);

}  // namespace signet::agent
