// The instance keys: one for each (entry, agent), that access tokens are bound to by `cnf.jkt` and DPoP proofs are made
// with. They outlive the SVIDs, which rotate, and are held in memory alone: a restart makes new ones, and what was
// bound to the old is asked for again (tokens live minutes, refresh tokens are bound to the instance instead).
// Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/concurrency/mutex.h"
#include "common/crypto/key.h"
#include "common/spiffe/entry.h"
#include "common/time/clock.h"

namespace signet::agent {

struct InstanceKey {
  crypto::PrivateKey key;
  std::string jkt;  // RFC 7638
};
using InstanceKeyPtr = std::shared_ptr<const InstanceKey>;

class InstanceKeys {
 public:
  struct Options {
    absl::Duration keep = absl::Hours(24);  // unused; longer than any token lives
    size_t limit = 4096;                    // the one unused longest goes first
  };
  InstanceKeys(Clock& clock, Options options) : clock_(clock), options_(options) {}

  // Of this entry under its present SPIFFE ID; made at the first call.
  absl::StatusOr<InstanceKeyPtr> Get(const spiffe::Entry& entry);
  size_t size() const;

 private:
  struct Held {
    InstanceKeyPtr key;
    absl::Duration used;  // steady
  };
  Clock& clock_;
  const Options options_;
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, Held> held_ ABSL_GUARDED_BY(mutex_);  // by entry id and SPIFFE ID
};

}  // namespace signet::agent
