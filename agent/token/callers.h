// Who asks on token.sock: the process at the other end of the connection, attested for each request, and the one of its
// registration entries it acts as (T6). Keeps the SVIDs of those who asked lately fresh, so that a rotation in the
// middle of a task is nothing a workload sees. Thread-safe. Must outlive every request.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/sync/svid_cache.h"
#include "agent/workloadattestor/attestation.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/time/clock.h"

namespace signet::agent {

// A caller as it was attested for one request.
struct TokenCaller {
  WorkloadPtr workload;
  EvidencePtr evidence;
  EntryPtr entry;
  // The last step before anything leaves: still the same process?
  absl::Status Confirm() const { return Attestation::Confirm(*workload, *evidence); }
};

class TokenCallers {
 public:
  struct Options {
    absl::Duration wait_svid = absl::Seconds(10);   // for an SVID that is not minted yet
    absl::Duration keep_fresh = absl::Minutes(10);  // after the last request
    size_t max_kept = 1024;                         // sets of selectors
    size_t max_waiting = 1024;
  };
  TokenCallers(SvidCache& cache, Attestation& attestation, Clock& clock, Options options);
  ~TokenCallers();
  // Who waits, and who comes, for an SVID is answered with kUnavailable. Idempotent.
  void Stop();

  using Identified = absl::AnyInvocable<void(absl::StatusOr<TokenCaller>)>;
  // `client_id`: the SPIFFE ID the caller names; empty: it names none. Errors: kPermissionDenied no identity here;
  // kUnauthenticated not this one; kInvalidArgument it has several and names none; kUnavailable later perhaps.
  void Identify(WorkloadPtr workload, std::string client_id, Identified done);

  using GotSvid = absl::AnyInvocable<void(absl::StatusOr<SvidPtr>)>;
  // The X.509-SVID of the caller's entry as the cache last told, which drops those that have ended. Inline when it is
  // there. kUnavailable.
  void Svid(const TokenCaller& caller, GotSvid done);

  // Lets go of what nobody asked for lately.
  void Tidy();

 private:
  struct Waiter {
    EntryPtr entry;
    absl::Duration until;  // steady
    GotSvid done;
  };
  // What one set of selectors is entitled to, kept fresh by a subscription.
  struct Kept {
    UpdatePtr latest;  // null: not told yet
    std::vector<Waiter> waiting;
    absl::Duration used;  // steady
    std::unique_ptr<SvidCache::Subscription> subscription;
  };
  static SvidPtr Find(const UpdatePtr& update, const spiffe::Entry& entry);
  void OnUpdate(const std::string& key, UpdatePtr update);
  void Subscribe(const std::string& key, const spiffe::Selectors& selectors);
  absl::Duration Expire();
  void Leave();
  void AwaitLeft() ABSL_NO_THREAD_SAFETY_ANALYSIS;

  SvidCache& cache_;
  Attestation& attestation_;
  Clock& clock_;
  const Options options_;
  Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<Kept>> kept_ ABSL_GUARDED_BY(mutex_);  // by selectors
  size_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  size_t within_ ABSL_GUARDED_BY(mutex_) = 0;  // calls of Svid(), which go on when their waiter has been answered
  std::condition_variable left_;
  std::unique_ptr<Worker> expirer_;
};

}  // namespace signet::agent
