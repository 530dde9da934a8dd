// What the server pushes about access tokens: whatever judging one takes, as of one position of its change feed, and
// how fresh that is (rule T4). Written by the sync worker as messages come, read by token.sock for each request;
// interest is told to the server once a workload first asks. Thread-safe: readers copy shared_ptrs under a short lock.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/concurrency/mutex.h"
#include "common/oauth/introspection.h"
#include "common/time/clock.h"

namespace signet::agent {

// One TokenState message of AgentSync.
struct TokenUpdate {
  bool whole = false, complete = false, truncated = false;
  uint64_t seq = 0;                            // reached with it; 0: more follows
  std::string issuer, introspection_endpoint;  // empty: unchanged
  std::optional<oauth::Keys> keys;
  std::vector<std::pair<std::string, oauth::ResourceState>> resources;
  std::vector<std::string> removed_resources;
  std::vector<oauth::Revocation> revocations;
  absl::Duration offline_grace = absl::ZeroDuration();  // with `whole`
};

class PushedTokens {
 public:
  struct Limits {
    size_t resources = 10'000, revocations = 200'000;  // beyond it the state counts as truncated
  };
  explicit PushedTokens(Clock& clock) : PushedTokens(clock, Limits{}) {}
  PushedTokens(Clock& clock, Limits limits) : clock_(clock), limits_(limits) {}

  // --- readers -------------------------------------------------------------------------------------------------------
  struct View {
    // The last whole one; null: none yet, or it was truncated. Compare a token's `rev` with `seq`, not with state->seq.
    std::shared_ptr<const oauth::TokenState> state;
    uint64_t seq = 0;                                         // position up to which `state` is complete
    absl::Duration heartbeat_age = absl::InfiniteDuration();  // by the clock that says more: a pause stops one of them
    std::string issuer, introspection_endpoint;               // empty: not told yet
  };
  View Get() const;

  // From here on the server pushes; idempotent. `on_wanted` (set once, before the first call) is told of the first.
  void Want();
  bool wanted() const;
  void SetOnWanted(std::function<void()> on_wanted) { on_wanted_ = std::move(on_wanted); }

  // --- the sync worker -----------------------------------------------------------------------------------------------
  // A stream has begun: its heartbeats count once it has brought the whole state.
  void Opened();
  void Apply(TokenUpdate update);
  // The server's position; everything up to it has been told on this stream.
  void Beat(uint64_t seq);

 private:
  void Merge(oauth::TokenState& state, TokenUpdate& update) const;
  std::shared_ptr<const oauth::TokenState> Current() const;  // that changes of this stream apply to

  Clock& clock_;
  const Limits limits_;
  std::function<void()> on_wanted_;
  mutable Mutex mutex_;
  bool wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool caught_up_ ABSL_GUARDED_BY(mutex_) = false;  // this stream has brought a whole state
  std::shared_ptr<const oauth::TokenState> state_ ABSL_GUARDED_BY(mutex_);
  uint64_t seq_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration beat_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();  // steady
  absl::Time beat_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::string issuer_ ABSL_GUARDED_BY(mutex_), introspection_endpoint_ ABSL_GUARDED_BY(mutex_);
  // Of the sync worker alone.
  std::optional<oauth::TokenState> staged_;  // a whole state on its way
};

}  // namespace signet::agent
