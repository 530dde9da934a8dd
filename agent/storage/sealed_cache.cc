#include "agent/storage/sealed_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/random.h"
#include "common/crypto/seal.h"
#include "common/failpoint/failpoint.h"
#include "common/fs/atomic_file.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr absl::string_view kMagic = "SGNTCCH2";
constexpr absl::string_view kKey = "cache.key", kSealed = "cache.sealed", kChanges = "cache.changes";
constexpr size_t kKeyBytes = 32;
constexpr size_t kMaxSealedBytes = 512 << 20;

std::string Context(absl::string_view what, const spiffe::TrustDomain& trust_domain) {
  return absl::StrCat("signet-agent ", what, " 2 ", trust_domain.name());
}

}  // namespace

absl::StatusOr<std::unique_ptr<SealedCache>> SealedCache::Open(const std::string& directory,
                                                               const spiffe::TrustDomain& trust_domain, Clock& clock) {
  const std::string path = absl::StrCat(directory, "/", kKey);
  absl::StatusOr<std::string> key = fs::ReadSecretFile(path, kKeyBytes);
  if (key.ok() && key->size() != kKeyBytes) {
    SIGNET_ASSIGN_OR_RETURN(const std::string aside, fs::SetAside(path, clock.Now()));
    SIGNET_LOG(error, "the key of the sealed cache is damaged and set aside", {{"path", path}, {"set_aside", aside}});
    key = absl::NotFoundError(path);
  }
  if (absl::IsNotFound(key.status())) {
    key = crypto::RandomBytes(kKeyBytes);
    SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(path, *key));
  }
  SIGNET_RETURN_IF_ERROR(key.status());
  return std::unique_ptr<SealedCache>(new SealedCache(directory, trust_domain, *std::move(key), clock));
}

SealedCache::SealedCache(std::string directory, const spiffe::TrustDomain& trust_domain, std::string key, Clock& clock)
    : directory_(std::move(directory)),
      trust_domain_(trust_domain),
      key_(std::move(key)),
      clock_(clock),
      log_(Path(kChanges), key_, Context("change", trust_domain_)) {}

SealedCache::~SealedCache() { crypto::Cleanse(key_); }

std::string SealedCache::Path(absl::string_view name) const { return absl::StrCat(directory_, "/", name); }

// --- reading
// -----------------------------------------------------------------------------------------------------------

absl::StatusOr<SealedState> SealedCache::Load() {
  std::scoped_lock lock(file_mutex_, mutex_);
  absl::StatusOr<SealedState> state = Read();
  if (absl::IsFailedPrecondition(state.status()) || absl::IsPermissionDenied(state.status())) return state;
  unread_ = false;
  if (state.ok() || absl::IsNotFound(state.status())) return state;
  SIGNET_RETURN_IF_ERROR(SetAsideAll(state.status()));
  return absl::DataLossError(state.status().message());
}

absl::StatusOr<SealedState> SealedCache::Read() {
  // The records first: the seal is replaced before they are dropped.
  SIGNET_ASSIGN_OR_RETURN(std::vector<std::string> records, log_.Read());
  CacheReplay replay(trust_domain_);
  const absl::StatusOr<std::string> content = fs::ReadSecretFile(Path(kSealed), kMaxSealedBytes);
  if (absl::IsNotFound(content.status()) && records.empty()) return content.status();
  if (content.ok()) {
    if (!absl::StartsWith(*content, kMagic)) return absl::DataLossError("not a sealed cache of this version");
    SIGNET_ASSIGN_OR_RETURN(std::string whole, crypto::Unseal(key_, absl::string_view(*content).substr(kMagic.size()),
                                                              Context("cache", trust_domain_)));
    const absl::Status status = replay.AddWhole(whole);
    crypto::Cleanse(whole);
    SIGNET_RETURN_IF_ERROR(status);
  } else if (!absl::IsNotFound(content.status())) {
    return content.status();
  }
  if (log_.first() > replay.next_record()) return absl::DataLossError("changes since the seal are missing");
  absl::Status status;
  for (size_t i = 0; i < records.size(); ++i) {
    // A crash between the two files leaves records that the seal has taken in.
    if (status.ok() && log_.first() + i >= replay.next_record()) status = replay.AddRecord(records[i]);
    crypto::Cleanse(records[i]);
  }
  SIGNET_RETURN_IF_ERROR(status);
  if (log_.next() < replay.next_record()) log_.Reset(replay.next_record());
  return replay.Finish({clock_.Now(), clock_.Steady()});
}

absl::Status SealedCache::SetAsideAll(const absl::Status& why) {
  for (const absl::string_view name : {kSealed, kChanges}) {
    const absl::StatusOr<std::string> aside = fs::SetAside(Path(name), clock_.Now());
    if (absl::IsNotFound(aside.status())) continue;
    SIGNET_RETURN_IF_ERROR(aside.status());
    SIGNET_LOG(error, "the sealed cache is damaged; it is set aside and nothing is served from it",
               {{"path", Path(name)}, {"set_aside", *aside}, {"error", why.message()}});
  }
  log_.Reset();
  return absl::OkStatus();
}

// --- writing
// -----------------------------------------------------------------------------------------------------------

absl::Status SealedCache::Publish(std::vector<HeldSvid> svids, MemorySvidCache& cache) {
  absl::Status status = RemoveIfUnread();
  // One lock over record and memory: a seal has the SVIDs of every record it takes in, and the entry in a record is not
  // older than what is withdrawn before it.
  std::lock_guard lock(mutex_);
  if (status.ok() && !destroyed_) {
    RecordedChange change;
    for (const HeldSvid& held : svids) {
      const EntryPtr entry = cache.FindEntry(held.entry->id);
      if (entry == nullptr || entry->spiffe_id != held.svid->id) continue;
      change.entries.push_back(*entry);
      change.svids.push_back(held);
    }
    if (!change.empty()) {
      std::string record = ToBytes(change, clock_.Now());
      status = log_.Append(record);
      crypto::Cleanse(record);
    }
  }
  SIGNET_FAILPOINT("sealed_cache.before_publish");
  cache.SetSvids(std::move(svids));
  SIGNET_FAILPOINT("sealed_cache.after_publish");
  return status;
}

absl::Status SealedCache::Withdraw(const RecordedChange& change) {
  if (change.empty()) return absl::OkStatus();
  SIGNET_RETURN_IF_ERROR(RemoveIfUnread());
  const absl::Status status = [&]() -> absl::Status {
    std::lock_guard lock(mutex_);
    if (destroyed_) return absl::OkStatus();
    SIGNET_FAILPOINT_STATUS("sealed_cache.before_withdraw");
    SIGNET_RETURN_IF_ERROR(log_.Append(ToBytes(change, clock_.Now())));
    SIGNET_FAILPOINT_STATUS("sealed_cache.after_withdraw");
    return absl::OkStatus();
  }();
  if (status.ok()) return status;
  SIGNET_LOG(error, "a withdrawal cannot be written; the sealed cache is removed, so that nothing comes back",
             {{"error", status.message()}});
  std::scoped_lock lock(file_mutex_, mutex_);
  return Remove();
}

absl::Status SealedCache::Write(const std::function<SealedState()>& take) {
  SIGNET_RETURN_IF_ERROR(RemoveIfUnread());
  uint64_t next_record, generation;
  {
    std::lock_guard lock(mutex_);
    next_record = log_.next();
    generation = generation_;
  }
  std::string plaintext = ToBytes(take(), next_record, clock_.Now());
  absl::StatusOr<std::string> sealed = crypto::Seal(key_, plaintext, Context("cache", trust_domain_));
  crypto::Cleanse(plaintext);
  SIGNET_RETURN_IF_ERROR(sealed.status());

  std::lock_guard file_lock(file_mutex_);
  {
    std::lock_guard lock(mutex_);
    if (destroyed_ || generation_ != generation) return absl::AbortedError("the cache was removed meanwhile");
  }
  SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(Path(kSealed), absl::StrCat(kMagic, *sealed)));
  SIGNET_FAILPOINT_STATUS("sealed_cache.before_log_reset");
  std::lock_guard lock(mutex_);
  return log_.DropBefore(next_record);
}

size_t SealedCache::unsealed_bytes() const {
  std::lock_guard lock(mutex_);
  return log_.bytes();
}

// --- removing
// ----------------------------------------------------------------------------------------------------------

absl::Status SealedCache::RemoveIfUnread() {
  {
    std::lock_guard lock(mutex_);
    if (!unread_) return absl::OkStatus();
  }
  std::scoped_lock lock(file_mutex_, mutex_);
  return std::exchange(unread_, false) ? Remove() : absl::OkStatus();
}

absl::Status SealedCache::Destroy() {
  std::scoped_lock lock(file_mutex_, mutex_);
  destroyed_ = true;
  unread_ = false;
  return Remove();
}

absl::Status SealedCache::Remove() {
  ++generation_;
  log_.Reset();
  // The seal over the changes first, so that no crash leaves the one without the other.
  const std::string sealed = Path(kSealed), changes = Path(kChanges);
  if (rename(sealed.c_str(), changes.c_str()) != 0 && errno != ENOENT && unlink(sealed.c_str()) != 0) {
    return absl::InternalError(absl::StrCat("remove ", sealed, ": ", strerror(errno), "; remove it by hand"));
  }
  if (unlink(changes.c_str()) != 0 && errno != ENOENT) {
    return absl::InternalError(absl::StrCat("remove ", changes, ": ", strerror(errno), "; remove it by hand"));
  }
  const int folder = open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = folder >= 0 && fsync(folder) == 0;
  if (folder >= 0) close(folder);
  return synced ? absl::OkStatus() : absl::InternalError(absl::StrCat("fsync ", directory_, ": ", strerror(errno)));
}

}  // namespace signet::agent
