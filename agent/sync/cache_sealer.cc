#include "agent/sync/cache_sealer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log/log.h"

namespace signet::agent {
namespace {

constexpr absl::Duration kShortestRest = absl::Seconds(1);
constexpr size_t kLongRecord = 16 << 20;
constexpr int kRestPerWork = 2;  // a third of the time at most goes into writing, on a disk however slow,
constexpr absl::Duration kRestPerSvid = absl::Milliseconds(2);  // and about a MiB a second is written

}  // namespace

void SyncPosition::SetEpoch(std::string epoch) {
  MutexLock lock(mutex_);
  epoch_ = std::move(epoch);
}

void SyncPosition::SetRevision(const std::string& trust_domain, std::string revision) {
  MutexLock lock(mutex_);
  revisions_[trust_domain] = std::move(revision);
}

void SyncPosition::Forget(const std::string& trust_domain) {
  MutexLock lock(mutex_);
  revisions_.erase(trust_domain);
}

void SyncPosition::Set(std::string epoch, std::map<std::string, std::string> revisions) {
  MutexLock lock(mutex_);
  epoch_ = std::move(epoch);
  revisions_ = std::move(revisions);
}

std::string SyncPosition::epoch() const {
  MutexLock lock(mutex_);
  return epoch_;
}

std::map<std::string, std::string> SyncPosition::revisions() const {
  MutexLock lock(mutex_);
  return revisions_;
}

absl::Duration CacheSealer::Run() {
  const uint64_t version = cache_.version();
  if (!cache_.ready() || version == sealed_version_) return absl::InfiniteDuration();
  const absl::Duration now = clock_.Steady();
  if (now < not_before_ && sealed_.unsealed_bytes() < kLongRecord) return not_before_ - now;
  size_t svids = 0;
  const absl::Status status = sealed_.Write([&] {
    // The position first: a bundle that changes in between is told again after a restart, not left behind.
    SealedState state;
    state.epoch = position_.epoch();
    state.bundle_revisions = position_.revisions();
    state.snapshot = cache_.Snapshot();
    svids = state.snapshot.svids.size();
    return state;
  });
  if (status.ok()) {
    sealed_version_ = version;
    health_.SetReady("sealed_cache");
  } else if (!absl::IsAborted(status)) {
    health_.SetDegraded("sealed_cache",
                        absl::StrCat(status.message(), "; a restart without the server serves an older state"));
    SIGNET_LOG(warn, "the sealed cache cannot be written", {{"error", status.message()}});
  }
  const absl::Duration end = clock_.Steady();
  const absl::Duration rest =
      std::max({kShortestRest, (end - now) * kRestPerWork, static_cast<int64_t>(svids) * kRestPerSvid});
  not_before_ = end + rest;
  return rest;
}

void CacheSealer::Flush() {
  not_before_ = absl::ZeroDuration();
  Run();
}

}  // namespace signet::agent
