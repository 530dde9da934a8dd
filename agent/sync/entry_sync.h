// The sync worker's job: holds the AgentSync stream, or polls a server that has none, and is the only writer of entries
// and bundles. Only `complete` withdraws what a list does not name. A change goes to memory first, so that what it
// withdraws ends without waiting for the disk; then what a restart must know of it goes to the record beside the sealed
// cache; then streams are told of a changed entry, which may give them an SVID that is there already; and only then is
// the server told that the change has arrived. Not thread-safe: one worker calls Run(). Reopen() may come from any
// thread.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "agent/metrics.h"
#include "agent/storage/sealed_cache.h"
#include "agent/sync/agent_identity.h"
#include "agent/sync/cache_sealer.h"
#include "agent/sync/memory_svid_cache.h"
#include "agent/sync/server_client.h"
#include "agent/sync/standing.h"
#include "common/concurrency/worker.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"

namespace signet::agent {

class EntrySync {
 public:
  // All references outlive it. `sealed` may be null.
  struct Deps {
    spiffe::TrustDomain trust_domain;
    MemorySvidCache& cache;
    ServerClient& client;
    AgentIdentity& identity;
    SealedCache* sealed;
    SyncPosition& position;
    Standing& standing;
    Clock& clock;
    Metrics& metrics;
    telemetry::Health& health;
    std::function<void()> wake;        // this worker
    std::function<void()> on_changed;  // entries or bundles
    std::function<void()> on_synced;
    PushedTokens* tokens = nullptr;                                   // null: no token.sock here
    std::function<void(const std::string& head)> on_audit_head = {};  // may be null
  };
  explicit EntrySync(Deps deps) : deps_(std::move(deps)) {}

  // How long to rest.
  absl::Duration Run();
  // The agent has a new SVID: go on over a connection that shows it.
  void Reopen() { reopen_ = true; }
  // Before the client goes.
  void Close() { stream_.reset(); }

 private:
  // Nothing is asked of the server for so long, whoever wakes us; but for a new SVID of the agent.
  absl::Duration Rest(absl::Duration time);
  absl::Duration ReadStream();
  absl::Duration OnEnd(const absl::Status& why);
  void OnRevisions(SyncMessage& message);
  void OnDelta(SyncMessage& message);
  void OnComplete(const SyncMessage& message);
  void TellInterest();
  absl::Duration OnNotice(const SyncMessage& message);
  absl::Duration RunPoll();
  absl::Status Poll();
  void Synced();
  SyncHello Hello() const;
  void Apply(MemorySvidCache::Change change, const BundleRevisions& revisions);
  void Record(const RecordedChange& record);
  RecordedChange ToRecord(const MemorySvidCache::Change& change, const BundleRevisions& revisions) const;
  void OnOwnBundle(const BundlePtr& before, const BundlePtr& now);

  const Deps deps_;
  std::unique_ptr<SyncStream> stream_;
  Backoff backoff_{absl::Milliseconds(500), absl::Seconds(30)};
  bool polling_ = false;
  std::optional<std::map<std::string, EntryRevision>> listed_;  // from the first revisions to complete
  bool told_status_ = false;
  bool told_interest_ = false;  // on this stream: that the token state is wanted
  std::atomic<bool> reopen_ = false;
  absl::Duration reopen_at_ = absl::InfiniteDuration(), rest_until_ = absl::ZeroDuration();  // steady
};

}  // namespace signet::agent
