// Keeps the cache equal to what the server says, and its SVIDs fresh. Three workers, none of which loops inside a loop:
//   sync   holds the AgentSync stream (or polls a server without it) and is the only writer of entries and bundles
//   mint   keeps the agent's own SVID, then carries out the refresh plan; the only writer of SVIDs
//   seal   writes the sealed cache after a change
// While no server answers, everything held is served until it ends; the workers retry with backoff and jitter.
// Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "agent/metrics.h"
#include "agent/nodeattestor/node_attestor.h"
#include "agent/storage/sealed_cache.h"
#include "agent/sync/agent_identity.h"
#include "agent/sync/memory_svid_cache.h"
#include "agent/sync/server_client.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"

namespace signet::agent {

class Synchronizer {
 public:
  struct Options {
    spiffe::TrustDomain trust_domain;
    size_t batch = 200;                                // CSRs a call; SPIRE's servers take 500
    absl::Duration poll_every = absl::Seconds(5);      // against a server without AgentSync: SPIRE's sync_interval
    absl::Duration retry_refused = absl::Seconds(30);  // an entry the server would not sign for
  };
  // All references outlive the synchroniser. `attestor` may be null: then the agent can only renew. `sealed` may be
  // null.
  struct Deps {
    MemorySvidCache& cache;
    ServerClient& client;
    AgentIdentity& identity;
    NodeAttestor* attestor;
    SealedCache* sealed;
    Clock& clock;
    Metrics& metrics;
    telemetry::Health& health;
    // First trust, asked for when there is no bundle yet: bootstrap.h.
    std::function<absl::StatusOr<spiffe::Bundle>()> first_trust;
    // The agent cannot go on: banned, evicted without a way back, or refused at its first attestation. Called once, on
    // a worker's thread; must only note it.
    std::function<void(absl::Status)> on_fatal;
  };

  Synchronizer(Options options, Deps deps);
  ~Synchronizer();

  // Takes up the sealed cache: before Start(). What it held is served from here on.
  void Restore();
  void Start();
  // Ends calls and workers; the sealed cache is brought up to date.
  void Stop();

 private:
  // Sync worker.
  absl::Duration SyncJob();
  absl::Duration PollJob();
  absl::Duration OnMessages();
  absl::Duration OnStreamEnd(const absl::Status& why);
  void OnRevisions(SyncMessage& message);
  void OnDelta(SyncMessage& message);
  void OnComplete(const SyncMessage& message);
  absl::Duration OnNotice(const SyncMessage& message);
  void ApplyChange(MemorySvidCache::Change change, std::map<std::string, std::string> bundle_revisions);
  void OnOwnBundle(const BundlePtr& before, const BundlePtr& now);
  void Synced();
  SyncHello MakeHello();

  // Mint worker.
  absl::Duration MintJob();
  absl::Duration DropEnded(Instant now);
  absl::Duration KeepIdentity(Instant now);  // how long it is good
  absl::Status RefreshIdentity();
  void GiveUp(const absl::Status& why);
  absl::Status Attest();
  absl::Status Renew();
  absl::Status MintBatch(const std::vector<std::string>& ids);
  bool OwnAuthorityIsTainted() const;

  absl::Duration SealJob();
  SealedState TakeState() const;

  // Any thread.
  void OnRefusal(const absl::Status& why);  // of this agent by the server
  void LoseServer(const absl::Status& why, absl::string_view part);
  void Fatal(absl::Status why);

  const Options options_;
  const Deps deps_;

  // Sync worker's own.
  std::unique_ptr<SyncStream> stream_;
  Backoff sync_backoff_{absl::Milliseconds(500), absl::Seconds(30)};
  bool polling_ = false;
  std::optional<std::map<std::string, EntryRevision>> listed_;  // between the first revisions and complete
  bool restored_ = false, told_status_ = false;
  absl::Duration reopen_at_ = absl::InfiniteDuration();  // steady

  // Mint worker's own.
  Backoff mint_backoff_{absl::Milliseconds(500), absl::Seconds(30)};
  Backoff identity_backoff_{absl::Milliseconds(500), absl::Seconds(30)};
  absl::Duration mint_not_before_ = absl::ZeroDuration(), identity_not_before_ = absl::ZeroDuration();  // steady
  absl::Duration no_better_before_ = absl::ZeroDuration();  // steady: a fresh SVID would be no better than the one held
  absl::flat_hash_map<std::string, absl::Duration> refused_until_;
  bool ever_attested_ = false;

  // Seal worker's own.
  uint64_t sealed_version_ = 0;
  absl::Duration seal_not_before_ = absl::ZeroDuration();

  std::atomic<bool> started_ = false;
  std::atomic<bool> synced_ = false;
  std::atomic<Refusal> told_refusal_ = Refusal::kNone;
  std::atomic<bool> must_attest_ = false;     // the server refuses the SVID we hold
  std::atomic<bool> server_is_back_ = false;  // retry at once what was put off
  std::atomic<bool> identity_changed_ = false;
  std::atomic<bool> server_away_ = false;
  std::atomic<bool> dead_ = false;

  mutable Mutex mutex_;
  std::string epoch_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> bundle_revisions_ ABSL_GUARDED_BY(mutex_);

  std::unique_ptr<Worker> seal_, mint_, sync_;
};

}  // namespace signet::agent
