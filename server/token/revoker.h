// Revokes for good: writes, waits until memory shows it, then until everything that was let through before has left.
// When it answers OK nothing more is issued of what was revoked (T3). Used by the revocation endpoint, by reuse of a
// refresh token, and by administration.
// Thread-safe; asynchronous. The waiting runs on `executor`.
#pragma once

#include <functional>

#include "absl/time/time.h"
#include "common/concurrency/executor.h"
#include "common/time/clock.h"
#include "server/datastore/token_store.h"
#include "server/token/issuance_gate.h"

namespace signet::server {

class Revoker {
 public:
  // Waits until memory has applied a feed position: FeedApplier::WaitFor.
  using WaitFor = std::function<bool(uint64_t seq, absl::Duration timeout)>;
  Revoker(RevocationStore& store, IssuanceGate& gate, WaitFor wait_for, Executor& executor, Clock& clock)
      : store_(store), gate_(gate), wait_for_(std::move(wait_for)), executor_(executor), clock_(clock) {}

  // Completes with the feed position. kUnavailable: it is written, but memory did not show it in five seconds, or a
  // reply that was on its way did not leave; ask again.
  void Revoke(RevokeChange change, Completion<uint64_t> done);

 private:
  RevocationStore& store_;
  IssuanceGate& gate_;
  const WaitFor wait_for_;
  Executor& executor_;
  Clock& clock_;
};

}  // namespace signet::server
