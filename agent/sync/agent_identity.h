// The agent's own SVID and the trust it has in its server, in memory and, through AgentStore, on disk.
// Thread-safe.
#pragma once

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "agent/storage/agent_store.h"
#include "agent/sync/refresh_plan.h"
#include "common/concurrency/mutex.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/x509_svid.h"
#include "common/time/clock.h"

namespace signet::agent {

class AgentIdentity {
 public:
  // Takes up what was stored; an SVID that has ended is left out.
  AgentIdentity(AgentStore& store, StoredAgent stored, Clock& clock);

  std::shared_ptr<const spiffe::X509Svid> svid() const;  // null: not attested
  bool reattestable() const;
  // Half of its life has passed, or more.
  bool Due() const;
  bool Expired() const;
  absl::Duration UntilDue() const;  // zero when due

  // In use at once; on error it is not on disk, and a restart attests anew or resumes with the one before.
  absl::Status SetSvid(spiffe::X509Svid svid, bool reattestable);
  absl::Status SetBundle(const spiffe::Bundle& bundle);
  // Drops the SVID, here and on disk: the agent is banned, or evicted.
  absl::Status ForgetSvid();

 private:
  Instant Now() const { return {clock_.Now(), clock_.Steady()}; }
  absl::Status Save() ABSL_EXCLUSIVE_LOCKS_REQUIRED(save_mutex_);

  AgentStore& store_;
  Clock& clock_;
  Mutex save_mutex_;  // taken first; held over the disk, which readers do not wait for
  std::optional<spiffe::Bundle> bundle_ ABSL_GUARDED_BY(save_mutex_);
  mutable Mutex mutex_;
  std::shared_ptr<const spiffe::X509Svid> svid_ ABSL_GUARDED_BY(mutex_);
  SvidLife life_ ABSL_GUARDED_BY(mutex_);
  bool reattestable_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace signet::agent
