#include "agent/workloadattestor/file_hash_cache.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr size_t kChunk = 256 << 10;

int64_t Nanoseconds(const timespec& t) { return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec; }

}  // namespace

absl::StatusOr<FileHashCache::Key> FileHashCache::KeyOf(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return absl::UnavailableError(absl::StrCat("fstat of an executable: ", strerror(errno)));
  if (!S_ISREG(st.st_mode)) return absl::UnavailableError("an executable is not a regular file");
  return Key{st.st_dev, st.st_ino, st.st_size, Nanoseconds(st.st_mtim), Nanoseconds(st.st_ctim)};
}

absl::StatusOr<std::optional<std::string>> FileHashCache::HexSha256(int fd, uint64_t size_limit) {
  SIGNET_ASSIGN_OR_RETURN(const Key before, KeyOf(fd));
  if (size_limit != 0 && static_cast<uint64_t>(before.size) > size_limit) return std::nullopt;
  {
    MutexLock lock(mutex_);
    if (auto it = hashes_.find(before); it != hashes_.end()) return it->second;
    ++files_read_;
  }
  crypto::Sha256Stream hash;
  std::vector<char> chunk(kChunk);
  off_t offset = 0;
  for (;;) {
    ssize_t n = pread(fd, chunk.data(), chunk.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(absl::StrCat("read of an executable: ", strerror(errno)));
    if (n == 0) break;
    offset += n;
    if (offset > before.size) break;  // it grows: the comparison below refuses it
    hash.Update({chunk.data(), static_cast<size_t>(n)});
  }
  SIGNET_ASSIGN_OR_RETURN(const Key after, KeyOf(fd));
  if (!(after == before) || offset != before.size) {
    return absl::UnavailableError("an executable changed while it was hashed");
  }
  std::string hex = absl::BytesToHexString(hash.Finish());
  MutexLock lock(mutex_);
  if (hashes_.size() >= max_entries_) hashes_.clear();
  hashes_[before] = hex;
  return hex;
}

size_t FileHashCache::files_read() const {
  MutexLock lock(mutex_);
  return files_read_;
}

}  // namespace signet::agent
