// Introspection at the agent of the resource (RFC 7662, rule T4): judges a presentation from what the server pushed, in
// microseconds, and only while that is fresh and whole; keeps tokens it has verified, DPoP proofs it has seen, and how
// many calls of a token's quota are used (T8). Thread-safe; CPU and memory only.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "agent/metrics.h"
#include "agent/sync/pushed_tokens.h"
#include "common/concurrency/mutex.h"
#include "common/oauth/introspection.h"
#include "common/time/clock.h"

namespace signet::agent {

// Proofs that were presented, each good once (RFC 9449 11.1). Bounded in all and for each key, so that one client
// cannot use up the room of the others; what finds no room counts as seen. Thread-safe.
class SeenProofs {
 public:
  SeenProofs(size_t limit, size_t limit_per_key) : limit_(limit), limit_per_key_(limit_per_key) {}
  // True the first time. `until`: when the proof is no longer good by itself.
  bool FirstTime(absl::string_view jkt, absl::string_view jwt_id, absl::Time until, absl::Time now);
  size_t size() const;

 private:
  struct Bucket {  // of proofs that end within the same span of time
    std::vector<std::string> proofs;
    absl::flat_hash_map<std::string, size_t> by_key;
  };
  void Expire(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t limit_, limit_per_key_;
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, int64_t> seen_ ABSL_GUARDED_BY(mutex_);  // hash -> its bucket
  absl::flat_hash_map<std::string, size_t> per_key_ ABSL_GUARDED_BY(mutex_);
  std::map<int64_t, Bucket> buckets_ ABSL_GUARDED_BY(mutex_);
};

// Calls of each token that has a quota. When there is no room for one more token, none of its calls is allowed.
class UsedCalls {
 public:
  explicit UsedCalls(size_t limit) : limit_(limit) {}
  bool Take(const oauth::AccessToken& token, absl::Time now);

 private:
  struct Use {
    int64_t calls = 0;
    absl::Time until;
  };
  const size_t limit_;
  Mutex mutex_;
  absl::flat_hash_map<std::string, Use> used_ ABSL_GUARDED_BY(mutex_);  // by jti
};

// What the server is told by being asked, although the agent knows the answer: its alerts and its audit are where
// anybody looks (T4 allows it at any time). Once a minute for the same thing, and not at a stranger's rate.
// Thread-safe.
class Sightings {
 public:
  bool ShouldTell(const std::string& what, absl::Duration now);  // steady

 private:
  static constexpr size_t kPerMinute = 600;
  Mutex mutex_;
  absl::Duration since_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  absl::flat_hash_set<std::string> told_ ABSL_GUARDED_BY(mutex_);  // since then
};

class Introspection {
 public:
  struct Options {
    absl::Duration max_heartbeat_age = absl::Seconds(2);  // T4
    // T4: read-only, low-risk tools; as long as the server says, and no longer than this.
    absl::Duration offline_grace = absl::Seconds(30);
    size_t verified_limit = 4096, proofs_limit = 262'144, proofs_per_key = 65'536, quota_limit = 65'536;
  };
  Introspection(const PushedTokens& pushed, Clock& clock, Metrics& metrics, Options options);

  // The answer, or nullopt: only the server can say.
  std::optional<std::string> Local(const oauth::Presentation& presentation);
  // The server answered; what this agent counts is counted. Anything but a plain yes is no.
  std::string FromServer(const oauth::Presentation& presentation, std::string answer);
  // The server cannot be asked.
  std::string Offline(const oauth::Presentation& presentation);

 private:
  // A token whose signature was found good, and the answer when it is active.
  struct Verified {
    std::string hash;
    oauth::AccessToken token;
    crypto::PublicKey key;
    std::string answer;
  };
  using VerifiedPtr = std::shared_ptr<Verified>;
  VerifiedPtr Find(const std::string& hash, const oauth::TokenState& state);
  void Keep(VerifiedPtr verified);
  // nullopt: not at this position, or by a key that is not held, or (`online`) the server should hear of it.
  std::optional<std::string> Judge(const oauth::Presentation& presentation, const PushedTokens::View& view,
                                   bool online);
  bool ShouldTell(const oauth::Presentation& presentation, const oauth::Judgement& judged);
  // What is good once is used up, what is counted is counted: false when it was, or none is left.
  bool Spend(const oauth::Presentation& presentation, const oauth::AccessToken& token, absl::string_view dpop_jti);

  const PushedTokens& pushed_;
  Clock& clock_;
  Metrics& metrics_;
  const Options options_;
  SeenProofs proofs_;
  UsedCalls calls_;
  Sightings sightings_;
  Mutex mutex_;
  std::list<VerifiedPtr> recent_ ABSL_GUARDED_BY(mutex_);  // the last used first
  absl::flat_hash_map<std::string, std::list<VerifiedPtr>::iterator> verified_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::agent
