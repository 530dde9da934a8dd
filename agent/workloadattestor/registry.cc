#include "agent/workloadattestor/registry.h"

#include "agent/workloadattestor/unix.h"
#include "common/config/load.h"
#include "common/status/macros.h"
#include "config/agent.pb.h"

namespace signet::agent {

absl::StatusOr<std::vector<std::unique_ptr<WorkloadAttestor>>> MakeWorkloadAttestors(
    const config::WorkloadAttestors& config, Clock& clock) {
  std::vector<std::unique_ptr<WorkloadAttestor>> attestors;
  config::Errors errors;

  UnixAttestor::Options options;
  options.discover_path = config.unix().discover_path();
  options.hash = !config.unix().disable_sha256();
  options.hash_size_limit = config::ParseSize("workload_attestors.unix.sha256_size_limit",
                                              config.unix().sha256_size_limit(), options.hash_size_limit, errors);
  attestors.push_back(std::make_unique<UnixAttestor>(options, clock));

  SIGNET_RETURN_IF_ERROR(errors.ToStatus());
  return attestors;
}

}  // namespace signet::agent
