// What every RPC of the Workload API does first and in common: who calls, may it be served now, and is it still the
// same. Also looks at the processes behind open streams: on a slow timer, and at once when an attestor has taken back
// what it said. Thread-safe.
#pragma once

#include <grpcpp/server_context.h>

#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "agent/api/workload_service.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"

namespace signet::agent {

// To a caller that matches no entry (EP-12). Says no more: a stranger does not learn what there is.
absl::Status NoIdentity();

// Of `entries`, in order, those whose hint no earlier one has; entries without a hint all stay (WL-13).
std::vector<EntryPtr> DropRepeatedHints(std::vector<EntryPtr> entries);

class WorkloadCallers {
 public:
  explicit WorkloadCallers(WorkloadServiceDeps deps);
  ~WorkloadCallers();

  const WorkloadServiceDeps& deps() const { return deps_; }

  // The header, the connection, readiness: in this order, and nothing that costs before it (EP-3, EP-11, W9).
  absl::StatusOr<WorkloadPtr> Admit(const grpc::CallbackServerContext& context) const;

  // Counts a stream of the caller's user in its cgroup as long as it is held; null when there are too many.
  std::shared_ptr<void> CountStream(const Workload& workload);

 private:
  const WorkloadServiceDeps deps_;
  struct Counts;
  const std::shared_ptr<Counts> counts_;
  Worker rechecker_, taken_back_;
  LatestValue<uint64_t>::Subscription outdated_;
};

}  // namespace signet::agent
