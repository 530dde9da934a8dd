#include "agent/api/workload_caller.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "agent/api/update_stream.h"
#include "agent/api/workload_server.h"
#include "common/status/macros.h"

namespace signet::agent {

absl::Status NoIdentity() { return absl::PermissionDeniedError("no identity issued"); }

std::vector<EntryPtr> DropRepeatedHints(std::vector<EntryPtr> entries) {
  absl::flat_hash_set<absl::string_view> seen;
  std::erase_if(entries, [&](const EntryPtr& e) { return !e->hint.empty() && !seen.insert(e->hint).second; });
  return entries;
}

struct WorkloadCallers::Counts {
  Mutex mutex;
  absl::flat_hash_map<std::pair<uid_t, uint64_t>, size_t> streams ABSL_GUARDED_BY(mutex);
};

WorkloadCallers::WorkloadCallers(WorkloadServiceDeps deps)
    : deps_(std::move(deps)),
      counts_(std::make_shared<Counts>()),
      rechecker_("recheck", deps_.clock,
                 [this] {
                   for (const auto& stream : deps_.streams.streams()) {
                     if (auto ours = std::dynamic_pointer_cast<UpdateStream>(stream)) ours->Recheck();
                   }
                   return deps_.recheck_every;
                 }),
      taken_back_("outdated", deps_.clock,
                  [this] {
                    for (const auto& stream : deps_.streams.streams()) {
                      if (auto ours = std::dynamic_pointer_cast<UpdateStream>(stream)) ours->CheckOutdated();
                    }
                    return absl::InfiniteDuration();
                  }),
      outdated_(deps_.attestation.outdated().Subscribe([this](const auto&) { taken_back_.Wake(); })) {}

WorkloadCallers::~WorkloadCallers() {
  outdated_.Reset();
  taken_back_.Stop();
  rechecker_.Stop();
}

absl::StatusOr<WorkloadPtr> WorkloadCallers::Admit(const grpc::CallbackServerContext& context) const {
  SIGNET_RETURN_IF_ERROR(CheckWorkloadHeader(context));
  WorkloadPtr workload = FindWorkload(deps_.front, context.peer());
  if (workload == nullptr)
    return absl::PermissionDeniedError("the caller is unknown: connect to the workload socket anew");
  if (!deps_.cache.ready()) {
    return absl::UnavailableError("the agent has not heard from its server yet: try again later");
  }
  return workload;
}

std::shared_ptr<void> WorkloadCallers::CountStream(const Workload& workload) {
  const auto key = workload.key();
  MutexLock lock(counts_->mutex);
  size_t& count = counts_->streams[key];
  if (count >= deps_.streams_per_uid) return nullptr;
  ++count;
  return std::shared_ptr<void>(this, [counts = counts_, key](void*) {
    MutexLock unlock(counts->mutex);
    auto it = counts->streams.find(key);
    if (it != counts->streams.end() && --it->second == 0) counts->streams.erase(it);
  });
}

}  // namespace signet::agent
