// JWT-SVIDs by (entry, audience set). A token past half of its life is still handed out at once while a fresh one is
// fetched behind it; while the server is away it serves until it ends. Callers that want the same token at the same
// time share one request. Bounded: the least recently used token goes first. Thread-safe. `done` runs inline on a hit,
// else on the thread that completes the minting; never with the lock held.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/metrics.h"
#include "agent/sync/refresh_plan.h"
#include "agent/sync/svid_cache.h"
#include "common/concurrency/mutex.h"
#include "common/time/clock.h"

namespace signet::agent {

struct MintedJwt {
  std::string token;
  std::string key_id;  // of its header
  spiffe::Id id;
  absl::Time issued_at, expires_at;
};

class JwtCache {
 public:
  using Done = std::function<void(absl::StatusOr<SvidCache::JwtResult>)>;
  // Asks the server; completes on any thread, exactly once.
  using Minter = std::function<void(const EntryPtr& entry, const std::vector<std::string>& audience,
                                    std::function<void(absl::StatusOr<MintedJwt>)> done)>;

  JwtCache(Clock& clock, Metrics& metrics, size_t limit) : clock_(clock), metrics_(metrics), limit_(limit) {}

  // Before the first Fetch(). Calls in flight must have completed before this object goes.
  void SetMinter(Minter minter) { minter_ = std::move(minter); }

  void Fetch(const EntryPtr& entry, std::vector<std::string> audience, Done done);
  // The entry has changed or is gone: its tokens are forgotten, and what is being minted for it is not handed out.
  void Forget(absl::string_view entry_id);
  // Forgets tokens whose key `is_gone` (tainted or revoked).
  void ForgetKeys(const std::function<bool(const std::string& key_id)>& is_gone);
  size_t size() const;

 private:
  struct Token {
    std::string key, entry_id;
    MintedJwt jwt;
    SvidLife life;
  };
  struct Pending {
    std::string entry_id;
    bool forgotten = false;
    std::vector<std::pair<Done, std::string>> waiting;  // with the hint to answer
  };
  void Mint(const EntryPtr& entry, std::vector<std::string> audience, std::string key);
  void Finish(const std::string& key, absl::StatusOr<MintedJwt> minted);
  Instant Now() const { return {clock_.Now(), clock_.Steady()}; }

  Clock& clock_;
  Metrics& metrics_;
  const size_t limit_;
  Minter minter_;
  mutable Mutex mutex_;
  std::list<Token> tokens_ ABSL_GUARDED_BY(mutex_);  // most recently used first
  absl::flat_hash_map<std::string, std::list<Token>::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, std::shared_ptr<Pending>> pending_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::agent
