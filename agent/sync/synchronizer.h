// Keeps the cache equal to what the server says, and its SVIDs fresh. Three workers, none of which loops inside a loop:
//   sync   EntrySync: the stream; the only writer of entries and bundles
//   mint   SvidMinter: the agent's own SVID, then the refresh plan; the only writer of SVIDs
//   seal   CacheSealer: the sealed cache, after a change
// While no server answers, everything held is served until it ends.
// Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "agent/metrics.h"
#include "agent/nodeattestor/node_attestor.h"
#include "agent/storage/sealed_cache.h"
#include "agent/sync/agent_identity.h"
#include "agent/sync/cache_sealer.h"
#include "agent/sync/entry_sync.h"
#include "agent/sync/memory_svid_cache.h"
#include "agent/sync/server_client.h"
#include "agent/sync/standing.h"
#include "agent/sync/svid_minter.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/worker.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"

namespace signet::agent {

class Synchronizer {
 public:
  // All references outlive the synchroniser. `attestor` may hold null: then the agent can only renew. `sealed` may be
  // null.
  struct Deps {
    spiffe::TrustDomain trust_domain;
    MemorySvidCache& cache;
    ServerClient& client;
    AgentIdentity& identity;
    const LatestValue<std::unique_ptr<NodeAttestor>>& attestor;
    SealedCache* sealed;
    Clock& clock;
    Metrics& metrics;
    telemetry::Health& health;
    // First trust, asked for when there is no bundle yet: bootstrap.h.
    std::function<absl::StatusOr<spiffe::Bundle>()> first_trust;
    // The agent cannot go on: banned, evicted without a way back, or refused at its first attestation. Called once, on
    // a worker's thread; must only note it.
    std::function<void(absl::Status)> on_fatal;
    PushedTokens* tokens = nullptr;                                   // null: no token.sock here
    std::function<void(const std::string& head)> on_audit_head = {};  // on the sync worker; may be null
  };

  explicit Synchronizer(Deps deps);
  ~Synchronizer();

  // Takes up the sealed cache: before Start(). What it held is served from here on.
  void Restore();
  void Start();
  // Ends calls and workers; the sealed cache is brought up to date. Idempotent.
  void Stop();

 private:
  Worker::Job Guarded(std::function<absl::Duration()> job);
  // Workers wake each other: none is woken, or works, before all are there.
  void Wake(const std::unique_ptr<Worker>& worker) {
    if (started_) worker->Wake();
  }

  const Deps deps_;
  std::atomic<bool> started_ = false;
  std::atomic<Refusal> told_refusal_ = Refusal::kNone;  // to a completion on a thread of gRPC's
  SyncPosition position_;
  Standing standing_;
  EntrySync entry_sync_;
  SvidMinter minter_;
  std::unique_ptr<CacheSealer> sealer_;  // null: nothing is sealed
  std::unique_ptr<Worker> seal_, mint_, sync_;
};

}  // namespace signet::agent
