// What workloads were served, sealed on disk, so that an agent that restarts while no server answers serves on.
// Files under data_dir, 0600: cache.key (32 random bytes), cache.sealed (AES-256-GCM over all of it, replaced
// atomically, bound to the trust domain and the format), cache.changes (sealed_log.h: what has changed since, each
// record durable before a workload is given the SVIDs in it, or before the server is told that the agent knows what it
// withdraws). Any bit that differs, and any truncation of cache.sealed, refuses the whole: no key is released. A
// damaged pair is set aside. Whoever can read data_dir as the agent's user can read the keys: the seal guards integrity
// and stolen single files, not against that user. Thread-safe. Publish(), Withdraw() and Write() may come from
// different threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/storage/cache_state.h"
#include "agent/storage/sealed_log.h"
#include "agent/sync/memory_svid_cache.h"
#include "common/time/clock.h"

namespace signet::agent {

class SealedCache {
 public:
  // Makes the key when there is none. kFailedPrecondition: a key file that others can read.
  static absl::StatusOr<std::unique_ptr<SealedCache>> Open(const std::string& directory,
                                                           const spiffe::TrustDomain& trust_domain, Clock& clock);
  ~SealedCache();

  // Once, before all that follows; what it could not read, the first of them removes. SVIDs that have ended are left
  // out. kNotFound: nothing sealed; kDataLoss: damaged, set aside; kFailedPrecondition: the clock is behind the moment
  // of writing, so that nobody can say what has ended.
  absl::StatusOr<SealedState> Load();

  // Puts SVIDs into `cache`, durably first: workloads are given nothing that a restart would lack. On error they are in
  // `cache` all the same, and durable only after the next Write().
  absl::Status Publish(std::vector<HeldSvid> svids, MemorySvidCache& cache);

  // Of a change that memory has already, so that no Publish() from now on says the opposite. Durable when it returns
  // OK. On error the sealed state is removed instead, so that nothing withdrawn can come back; only if even that fails
  // is an error returned.
  absl::Status Withdraw(const RecordedChange& change);

  // Replaces the sealed state. `take` must show every change whose Publish() or Withdraw() has returned; records
  // written while it runs are kept. Publish() does not wait for it.
  absl::Status Write(const std::function<SealedState()>& take);

  // Bytes of the records that the next Write() takes in.
  size_t unsealed_bytes() const;

  // Removes everything for good: the agent is banned or evicted. Later writes are refused.
  absl::Status Destroy();

 private:
  SealedCache(std::string directory, const spiffe::TrustDomain& trust_domain, std::string key, Clock& clock);
  std::string Path(absl::string_view name) const;
  absl::StatusOr<SealedState> Read();
  absl::Status SetAsideAll(const absl::Status& why);
  absl::Status Remove();  // with both locks held
  absl::Status RemoveIfUnread();

  const std::string directory_;
  const spiffe::TrustDomain trust_domain_;
  std::string key_;
  Clock& clock_;
  std::mutex file_mutex_;     // of cache.sealed; taken before:
  mutable std::mutex mutex_;  // of what follows
  SealedLog log_;             // cache.changes
  uint64_t generation_ = 0;   // of Remove(): what was taken before is not written after
  bool unread_ = true;        // nobody knows what stands in the files
  bool destroyed_ = false;
};

}  // namespace signet::agent
