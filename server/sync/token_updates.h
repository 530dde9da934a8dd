// What agents are told of the token service over AgentSync (rule T4): the state it takes to judge a token, each change
// of it at once, a heartbeat a second, and the signed head of the audit chain (T10). One TokenUpdates for the server
// watches the registry, the keys and the audit log; a WaitingTokens for each stream holds what that agent still has to
// be told: names of resources, whose values are looked up when they are sent, and revocations.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/oauth/revocation.h"
#include "common/time/clock.h"
#include "server/token/token_registry.h"
#include "server/token/token_signer.h"
#include "signet/server/v1/agent_sync.pb.h"

namespace signet::server {

// Thread-safe.
class TokenUpdates {
 public:
  struct Options {
    std::string issuer, introspection_endpoint;
    absl::Duration offline_grace = absl::ZeroDuration();  // T4
    // Beyond either the state is not pushed at all, and agents ask: 200 bytes a revocation on each agent.
    size_t max_resources = 10'000, max_revocations = 100'000;
    absl::Duration beat_every = absl::Seconds(1);
  };
  // Both outlive it.
  TokenUpdates(Options options, TokenRegistry& registry, TokenSigner& signer, Clock& clock);
  ~TokenUpdates();  // no subscription may be left

  // AuditLog::SetOnHead calls it.
  void SetHead(const std::string& head);

  struct Note {
    const TokenRegistry::ChangeNote* change = nullptr;
    bool keys = false, beat = false, head = false;
  };
  using OnNote = std::function<void(const Note&)>;  // on threads of others; must be quick
  class Subscription {
   public:
    virtual ~Subscription() = default;  // waits for a running call
    // Until then it is told of heads alone. Before the first look at the state, so that nothing is missed in between.
    virtual void SetInterested(bool interested) = 0;
  };
  [[nodiscard]] std::unique_ptr<Subscription> Subscribe(OnNote on_note);

  // What streams read. Every change up to position() has been noted to every interested subscriber.
  uint64_t position() const { return position_; }
  const Options& options() const { return options_; }
  const TokenRegistry& registry() const { return registry_; }
  std::shared_ptr<const oauth::Keys> keys() const { return signer_.token_keys(); }
  std::shared_ptr<const std::string> head() const;  // null: none yet
  // All of now, listed once for all streams that are told a whole state at the same time.
  std::shared_ptr<const std::vector<oauth::Revocation>> Revocations() const;

 private:
  struct Subscriber;
  class Handle;
  void Tell(const Note& note, bool all);
  absl::Duration Beat();

  const Options options_;
  TokenRegistry& registry_;
  TokenSigner& signer_;
  std::atomic<uint64_t> position_ = 0;
  std::shared_ptr<const oauth::Keys> told_keys_;  // of the beating thread alone
  mutable Mutex mutex_;
  std::shared_ptr<const std::string> head_ ABSL_GUARDED_BY(mutex_);
  mutable std::shared_ptr<const oauth::RevocationSet> listed_of_ ABSL_GUARDED_BY(mutex_);
  mutable std::weak_ptr<const std::vector<oauth::Revocation>> listed_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<uint64_t, std::shared_ptr<Subscriber>> subscribers_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t interested_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<Worker> beater_;
  std::unique_ptr<TokenRegistry::Subscription> changes_;
};

// One agent's share. Not thread-safe.
class WaitingTokens {
 public:
  // `updates` null: there is no token service, nothing is ever told.
  explicit WaitingTokens(const TokenUpdates* updates) : updates_(updates), head_(updates != nullptr) {}

  void OnInterest(bool wanted);
  void OnNote(const TokenUpdates::Note& note);
  // The next message: what withdraws before all else. False: nothing to say now.
  bool Next(size_t max_bytes, v1::ServerMessage& message);

 private:
  bool OverCap() const;
  void StartWhole();
  bool NextOfWhole(size_t max_bytes, v1::ServerMessage& message);
  bool NextChanges(size_t max_bytes, v1::ServerMessage& message);

  const TokenUpdates* const updates_;
  bool where_ = false;  // issuer and endpoint are to be told
  bool wanted_ = false;
  bool whole_ = false;      // all of it is to be told, from the start
  bool truncated_ = false;  // it was over the cap when last told
  bool keys_ = false, beat_ = false;
  bool head_;
  absl::btree_set<std::string> resources_;
  absl::btree_map<std::pair<oauth::EntityKind, std::string>, oauth::Revocation> revocations_;
  size_t told_revocations_ = 0;  // since the whole

  // A whole state on its way, as of `base`.
  struct Whole {
    uint64_t base = 0;
    bool begun = false;
    std::vector<std::shared_ptr<const ResourceRecord>> resources;
    std::shared_ptr<const std::vector<oauth::Revocation>> revocations;
    size_t next_revocation = 0;
  };
  std::unique_ptr<Whole> sending_;
};

}  // namespace signet::server
