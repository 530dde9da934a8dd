// Deletes what has ended: entries past expires_at, join tokens, and, when configured, agents whose SVID ended long ago
// (never banned ones, nor those that could not attest again); of the token service values used once, refresh tokens,
// and revocations that can kill nothing any more. Owns one worker thread.
#pragma once

#include <memory>
#include <optional>

#include "absl/time/time.h"
#include "common/concurrency/worker.h"
#include "common/time/clock.h"
#include "server/datastore/data_store.h"

namespace signet::server {

class Pruner {
 public:
  static constexpr absl::Duration kInterval = absl::Minutes(5);  // SPIRE's, for entries
  static constexpr size_t kBatch = 1000;                         // one transaction's worth
  // A token lives an hour, a chain is refreshed as long as its task, eight: what was revoked earlier is long dead.
  static constexpr absl::Duration kRevocationsKept = absl::Hours(24);
  // Of single tokens, which end within 15 minutes and nothing derived from them later: a client that revokes its own in a
  // loop must not fill what every agent holds.
  static constexpr absl::Duration kTokenRevocationsKept = absl::Hours(1);

  Pruner(std::optional<absl::Duration> agents_expired_for, EntryStore& entries, AgentStore& agents,
         JoinTokenStore& tokens, RevocationStore& revocations, TokenUseStore& uses, Clock& clock);
  ~Pruner() { worker_.Stop(); }

 private:
  void Step();

  const std::optional<absl::Duration> agents_expired_for_;
  EntryStore& entries_;
  AgentStore& agents_;
  JoinTokenStore& tokens_;
  RevocationStore& revocations_;
  TokenUseStore& uses_;
  Clock& clock_;
  Worker worker_;  // last
};

}  // namespace signet::server
