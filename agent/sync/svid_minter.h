// The mint worker's job: keeps the agent's own SVID, then carries out the refresh plan, one batch a run. The only
// writer of SVIDs. While the server is away it retries with backoff and jitter, and goes on dropping what has ended.
// Not thread-safe: one worker calls Run().
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/metrics.h"
#include "agent/nodeattestor/node_attestor.h"
#include "agent/storage/sealed_cache.h"
#include "agent/sync/agent_identity.h"
#include "agent/sync/memory_svid_cache.h"
#include "agent/sync/server_client.h"
#include "agent/sync/standing.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/worker.h"
#include "common/time/clock.h"

namespace signet::agent {

class SvidMinter {
 public:
  // All references outlive the minter. `attestor` may hold null: then the agent can only renew.
  struct Deps {
    spiffe::TrustDomain trust_domain;
    MemorySvidCache& cache;
    ServerClient& client;
    AgentIdentity& identity;
    const LatestValue<std::unique_ptr<NodeAttestor>>& attestor;
    SealedCache* sealed;  // may be null
    Standing& standing;
    Clock& clock;
    Metrics& metrics;
    std::function<absl::StatusOr<spiffe::Bundle>()> first_trust;  // asked while there is no bundle: bootstrap.h
    std::function<void()> on_identity;                            // the agent has a new SVID of its own
    std::function<void()> on_minted;
  };
  explicit SvidMinter(Deps deps) : deps_(std::move(deps)) {}

  // How long to rest.
  absl::Duration Run();

 private:
  absl::Duration KeepIdentity(Instant now);  // how long it is good
  absl::Status RefreshIdentity();
  void TellThatTrustIsMissing(const absl::Status& why);
  absl::Status Attest(NodeAttestor* attestor);
  absl::Status Renew();
  void Adopt(spiffe::X509Svid svid, bool reattestable);
  bool OwnAuthorityIsTainted() const;
  absl::Duration CarryOut(const RefreshPlan& plan, Instant now);
  absl::Status MintBatch(const std::vector<std::string>& ids);
  void Publish(std::vector<HeldSvid> minted);
  absl::StatusOr<HeldSvid> Accept(const EntryPtr& entry, const crypto::PrivateKey& key, absl::StatusOr<Chain> chain,
                                  Instant now);
  Instant Now() const { return {deps_.clock.Now(), deps_.clock.Steady()}; }

  const Deps deps_;
  // Of the attestation that has not come to its end: evidence that counts once counts again for the same key alone.
  std::optional<crypto::PrivateKey> attesting_;
  Backoff mint_backoff_{absl::Milliseconds(500), absl::Seconds(30)};
  Backoff identity_backoff_{absl::Milliseconds(500), absl::Seconds(30)};
  // All in steady time.
  absl::Duration trust_missing_told_ = -absl::InfiniteDuration();
  absl::Duration mint_not_before_ = absl::ZeroDuration(), identity_not_before_ = absl::ZeroDuration();
  absl::Duration no_better_before_ = absl::ZeroDuration();    // an SVID of now would be no better than the one held
  absl::flat_hash_map<std::string, absl::Duration> put_off_;  // entries the server would not, or not well, sign for
};

}  // namespace signet::agent
