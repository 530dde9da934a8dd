// What workloads were served, sealed on disk, so that an agent that restarts while no server answers serves on.
// Files under data_dir, 0600: cache.key (32 random bytes), cache.sealed (AES-256-GCM over all of it, replaced
// atomically, bound to the trust domain and the format), cache.withdrawn (records of what must no longer be served,
// each sealed and fsynced before the server is told that the agent knows). Any bit that differs, and any truncation of
// cache.sealed, refuses the whole: no key is released. A damaged pair is set aside. Whoever can read data_dir as the
// agent's user can read the keys: the seal guards integrity and stolen single files, not against that user.
// Thread-safe. Withdraw() and Write() may come from different threads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/sync/memory_svid_cache.h"
#include "common/time/clock.h"

namespace signet::agent {

struct SealedState {
  CacheSnapshot snapshot;
  std::string epoch;
  std::map<std::string, std::string> bundle_revisions;  // trust domain name -> the server's name for the revision
};

// A state of things that has ended: see MemorySvidCache::Change. `changed` are entries that were there before.
struct Withdrawal {
  std::vector<std::string> removed_ids;
  std::vector<spiffe::Entry> changed;
  std::vector<std::pair<spiffe::Bundle, std::string>> bundles;
  std::vector<std::string> removed_bundles;
  bool empty() const { return removed_ids.empty() && changed.empty() && bundles.empty() && removed_bundles.empty(); }
};

class SealedCache {
 public:
  // Makes the key when there is none. kFailedPrecondition: a key file that others can read.
  static absl::StatusOr<std::unique_ptr<SealedCache>> Open(const std::string& directory,
                                                           const spiffe::TrustDomain& trust_domain, Clock& clock);
  ~SealedCache();

  // Once, before the first Write() or Withdraw(). SVIDs that have ended are left out. kNotFound: nothing sealed;
  // kDataLoss: damaged, set aside; kFailedPrecondition: the clock is behind the moment of sealing, so that nobody can
  // say what has ended.
  absl::StatusOr<SealedState> Load();

  // Replaces the sealed state. `take` must show every change whose Withdraw() has returned; records written while it
  // runs are kept.
  absl::Status Write(const std::function<SealedState()>& take);

  // Durable when it returns OK. On error the sealed state is removed instead, so that nothing withdrawn can come back;
  // only if even that fails is an error returned.
  absl::Status Withdraw(const Withdrawal& withdrawal);

  // Removes everything for good: the agent is banned or evicted. Later writes are refused.
  absl::Status Destroy();

 private:
  SealedCache(std::string directory, const spiffe::TrustDomain& trust_domain, std::string key, Clock& clock);
  std::string Path(absl::string_view name) const;
  std::string Context(absl::string_view what) const;
  absl::StatusOr<SealedState> ReadSealed();
  absl::StatusOr<std::vector<Withdrawal>> ReadLog();
  absl::Status Append(const std::string& record);
  absl::Status RewriteLog(size_t first_kept);
  absl::Status SetAsideAll(const absl::Status& why);
  absl::Status Remove();

  const std::string directory_;
  const spiffe::TrustDomain trust_domain_;
  std::string key_;
  Clock& clock_;
  std::mutex mutex_;
  std::vector<std::string> records_;  // in the log now, as plain bytes
  uint64_t generation_ = 0;           // of Remove(): what was taken before is not written after
  bool destroyed_ = false;
  int log_fd_ = -1;
};

}  // namespace signet::agent
