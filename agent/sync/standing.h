// How this agent stands with its server: in touch or not, recognised or refused. What the workers of the synchroniser
// share, and what health, log and metrics say of it.
// Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "agent/metrics.h"
#include "agent/storage/sealed_cache.h"
#include "agent/sync/agent_identity.h"
#include "agent/sync/memory_svid_cache.h"
#include "common/telemetry/health.h"

namespace signet::agent {

// Code and message, without the payload, which is for programs.
std::string Text(const absl::Status& status);

class Standing {
 public:
  struct Deps {
    MemorySvidCache& cache;
    AgentIdentity& identity;
    SealedCache* sealed;  // may be null
    Metrics& metrics;
    telemetry::Health& health;
    std::function<void()> on_must_attest;        // wakes the mint worker
    std::function<void(absl::Status)> on_fatal;  // once; must only note it
  };
  explicit Standing(Deps deps);

  // A call or the stream has failed: what is held is served on. `part` says which, for the log.
  void Lost(const absl::Status& why, absl::string_view part);
  void Restored();                                   // the sealed cache serves before the server has answered
  void Synced();                                     // all entries and bundles are as the server says
  void Unsynced() { synced_ = false; }               // the stream has ended
  void Answered();                                   // some other call has gone through
  bool TakeBack() { return back_.exchange(false); }  // the server has come back since this was last asked

  // Acts on a refusal of this agent, if `why` is one: a ban ends it, anything else makes it attest anew.
  void Refused(const absl::Status& why);
  bool must_attest() const { return must_attest_; }
  void Attested();
  void NotAttested(const absl::Status& why);
  // The evidence is refused, and there is no other.
  void GiveUp(const absl::Status& why);

  bool dead() const { return dead_; }  // nothing is to be done any more

 private:
  void Banned();
  void Die(absl::Status why);

  const Deps deps_;
  std::atomic<bool> away_ = false, synced_ = false, back_ = false, must_attest_ = false, dead_ = false;
};

}  // namespace signet::agent
