// Monitoring, stage 1: what is unusual about the use of identities, as counters and as a list of alerts of bounded
// memory (the audit holds them for good). First use of a scope, tool, audience or node by an identity; the share of
// refusals; the rate of calls against its own average; depth near the limit; one token from two peers; a refresh token
// used twice. Alerts only tell: nothing is refused here.
// Thread-safe; memory only. What was seen is forgotten at a restart: first uses are then told once more.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "common/concurrency/mutex.h"
#include "common/time/clock.h"
#include "server/metrics.h"

namespace signet::server {

struct Alert {
  std::string id;        // grows: "a-" and 16 hex digits
  std::string kind;      // first-use, denial-ratio, call-rate, depth-near-limit, two-peers, refresh-reuse
  std::string identity;  // SPIFFE ID of the definition
  std::string detail, txn;
  absl::Time at;
};

class Alerts {
 public:
  struct Limits {
    size_t alerts = 1024;          // kept
    size_t identities = 65'536;    // watched; beyond it new ones are not
    size_t features = 1024;        // first uses remembered of one identity
    size_t tokens = 65'536;        // whose peer is remembered
    uint64_t learning_calls = 20;  // before an identity has an average of its own
  };
  Alerts(Clock& clock, Metrics& metrics);
  Alerts(Clock& clock, Metrics& metrics, Limits limits);

  // One decision about a token for an identity we know.
  struct Observation {
    std::string identity, node, audience, txn;
    std::vector<std::string> scopes, tools;
    bool granted = false;
    std::string refusal;  // error or reason
    int depth = 1, max_depth = 1;
    bool near_depth_limit = false;
  };
  // The kinds it raised, for the audit record.
  std::vector<std::string> Observe(const Observation& observation);
  // A presentation at introspection; `token_hash` until `expires_at`. True: another peer had it before.
  bool SawToken(const std::string& token_hash, const std::string& peer, absl::Time expires_at,
                const std::string& identity, const std::string& txn);
  void Raise(const std::string& kind, const std::string& identity, const std::string& detail, const std::string& txn);

  // Newest first; `after`: the id of the last one of the page before, empty: from the newest.
  std::vector<Alert> List(const std::string& after, size_t limit) const;

 private:
  struct Watched {
    absl::flat_hash_set<std::string> seen;
    uint64_t calls = 0, refused = 0;             // of the window
    uint64_t total = 0;                          // calls ever
    absl::Duration window_start;                 // steady
    double average = 0;                          // calls a window, exponentially weighted
    bool rate_told = false, ratio_told = false;  // in this window
  };
  void Add(const std::string& kind, const std::string& identity, const std::string& detail, const std::string& txn)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Roll(Watched& watched, absl::Duration now) const;

  Clock& clock_;
  Metrics& metrics_;
  const Limits limits_;
  mutable Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Alert> alerts_ ABSL_GUARDED_BY(mutex_);  // oldest first
  absl::flat_hash_map<std::string, Watched> watched_ ABSL_GUARDED_BY(mutex_);
  struct Peer {
    std::string peer;
    absl::Time expires_at;
    bool told = false;
  };
  absl::flat_hash_map<std::string, Peer> peers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::server
