// The seal worker's job: writes the sealed cache after a change, so that the record of changes beside it stays short.
// The first change is written at once; then it rests for a second, longer after a large or slow write, shorter when the
// record has grown long. What workloads were given meanwhile is in the record.
// Not thread-safe: one worker calls Run().
#pragma once

#include <map>
#include <string>

#include "absl/time/time.h"
#include "agent/storage/sealed_cache.h"
#include "agent/sync/memory_svid_cache.h"
#include "common/concurrency/mutex.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"

namespace signet::agent {

// What a restart needs to know of the state it holds: see SyncHello. Thread-safe.
class SyncPosition {
 public:
  void SetEpoch(std::string epoch);
  void SetRevision(const std::string& trust_domain, std::string revision);
  void Forget(const std::string& trust_domain);
  void Set(std::string epoch, std::map<std::string, std::string> revisions);
  std::string epoch() const;
  std::map<std::string, std::string> revisions() const;

 private:
  mutable Mutex mutex_;
  std::string epoch_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> revisions_ ABSL_GUARDED_BY(mutex_);
};

class CacheSealer {
 public:
  CacheSealer(SealedCache& sealed, const MemorySvidCache& cache, const SyncPosition& position,
              telemetry::Health& health, Clock& clock)
      : sealed_(sealed), cache_(cache), position_(position), health_(health), clock_(clock) {}

  // What is in memory now is what was read from the disk.
  void MarkSealed() { sealed_version_ = cache_.version(); }
  // How long to rest; infinite until something changes.
  absl::Duration Run();
  // At the end: writes what has changed, however short ago.
  void Flush();

 private:
  SealedCache& sealed_;
  const MemorySvidCache& cache_;
  const SyncPosition& position_;
  telemetry::Health& health_;
  Clock& clock_;
  uint64_t sealed_version_ = 0;
  absl::Duration not_before_ = absl::ZeroDuration();  // steady
};

}  // namespace signet::agent
