// From a connection to its selectors: runs every configured attestor at once, off gRPC's threads, and remembers the
// answer for as long as the process is provably the same and no attestor takes it back, so that a second call on a
// connection costs microseconds.
// Thread-safe. Outlives every call it was asked for.
// Errors given to Done: kPermissionDenied the process is gone or is not what it was; kUnavailable no attestor could
// say, or the user has too many attestations pending in this cgroup (SPIFFE Workload Endpoint 6: clients retry).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/metrics.h"
#include "agent/peer/peer_process.h"
#include "agent/workloadattestor/workload_attestor.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/mutex.h"
#include "common/rpc/unix_front.h"
#include "common/spiffe/selector.h"
#include "common/time/clock.h"

namespace signet::agent {

// What was found out about a process, and when.
struct Evidence {
  PeerProcess::Facts facts;
  uint64_t generation = 0;              // of the attestors that were asked
  spiffe::Selectors selectors;          // of all attestors, normalised
  absl::Duration read_at, attested_at;  // steady time: of the facts, of the selectors
  bool complete = true;                 // false: an attestor that may know more could not be asked (kUnavailable)
  std::vector<std::shared_ptr<const std::atomic<bool>>> holds_until;

  // An attestor has taken back what it said: what the process is entitled to has to be found out anew.
  bool outdated() const {
    return std::any_of(holds_until.begin(), holds_until.end(), [](const auto& until) { return until->load(); });
  }
};
using EvidencePtr = std::shared_ptr<const Evidence>;

// A connection of the workload socket: the pinned process at its other end, and the last evidence.
class Workload : public rpc::UnixConnection {
 public:
  Workload(const rpc::UnixConnection& credentials, std::shared_ptr<const PeerProcess> process)
      : rpc::UnixConnection(credentials), process_(std::move(process)) {}
  const std::shared_ptr<const PeerProcess>& process() const { return process_; }
  // What quotas count by: the user, and the cgroup, which the kernel tells pods apart by.
  std::pair<uid_t, uint64_t> key() const { return {uid, process_->cgroup_key()}; }

 private:
  friend class Attestation;
  const std::shared_ptr<const PeerProcess> process_;
  mutable Mutex mutex_;
  mutable EvidencePtr evidence_ ABSL_GUARDED_BY(mutex_);
};
using WorkloadPtr = std::shared_ptr<const Workload>;

// What UnixFront calls at accept. `pinner` and `metrics` outlive the front. One user may hold so many connections in
// one cgroup: most pods run as user 0, and one of them must not keep the others out (W10).
rpc::UnixFront::OnAccept PinAtAccept(const PeerPinner& pinner, Metrics& metrics, size_t connections_per_cgroup = 4096);
// The caller of a call; null unless the connection came through a front with PinAtAccept.
WorkloadPtr FindWorkload(const rpc::UnixFront& front, absl::string_view peer);

class Attestation {
 public:
  struct Options {
    absl::Duration deadline = absl::Seconds(10);
    // Evidence older than this is read again in full, though the cheap check says that nothing changed: supplementary
    // groups, and cgroups of version 1, are not in it.
    absl::Duration full_read_every = absl::Seconds(1);
    // Selectors older than this are asked for anew: what an attestor says may change though the process does not (the
    // name of a group, a label).
    absl::Duration attest_every = absl::Minutes(1);
    size_t threads = 2;
    size_t queue_limit = 4096;
    size_t pending_per_uid = 64;  // and cgroup
  };
  virtual ~Attestation() = default;
  static std::unique_ptr<Attestation> Create(Options options, std::vector<std::unique_ptr<WorkloadAttestor>> attestors,
                                             Clock& clock, Metrics& metrics);

  using Done = absl::AnyInvocable<void(absl::StatusOr<EvidencePtr>)>;
  // Inline when the evidence at hand still holds; else on another thread, within the deadline.
  virtual void Attest(WorkloadPtr workload, Done done) = 0;
  // Replaces the attestors. What the old ones said is asked for anew; attestations under way finish with the old ones.
  // Of one thread at a time.
  virtual void Use(std::vector<std::unique_ptr<WorkloadAttestor>> attestors) = 0;
  // Set each time after evidence that was given out became outdated: whoever keeps some looks at it.
  virtual LatestValue<uint64_t>& outdated() = 0;
  // The last step before anything secret leaves: kPermissionDenied unless the process is the one `evidence` is about;
  // kUnavailable when the evidence is outdated, ask again.
  static absl::Status Confirm(const Workload& workload, const Evidence& evidence);

 protected:
  static EvidencePtr Remembered(const Workload& workload);
  static void Remember(const Workload& workload, EvidencePtr evidence);
};

}  // namespace signet::agent
