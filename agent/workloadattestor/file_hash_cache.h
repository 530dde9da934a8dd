// SHA-256 of files, remembered by device, inode, size, and times of change: an executable is hashed once, not once for
// each process. The inode's change time is part of the key because a file's owner can set its modification time back.
// Thread-safe. Hashing reads the whole file on the calling thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/concurrency/mutex.h"

namespace signet::agent {

class FileHashCache {
 public:
  explicit FileHashCache(size_t max_entries = 4096) : max_entries_(max_entries) {}

  // Lower-case hex of the open file `fd`, read from its start whatever its offset. Nothing when it is longer than
  // `size_limit` bytes (0: no limit). kUnavailable: not a regular file, unreadable, or changed while it was read.
  absl::StatusOr<std::optional<std::string>> HexSha256(int fd, uint64_t size_limit);

  size_t files_read() const;  // for tests

 private:
  struct Key {
    dev_t device;
    ino_t inode;
    off_t size;
    int64_t modified_ns, changed_ns;
    friend bool operator==(const Key&, const Key&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Key& k) {
      return H::combine(std::move(h), k.device, k.inode, k.size, k.modified_ns, k.changed_ns);
    }
  };
  static absl::StatusOr<Key> KeyOf(int fd);

  const size_t max_entries_;
  mutable Mutex mutex_;
  absl::flat_hash_map<Key, std::string> hashes_ ABSL_GUARDED_BY(mutex_);
  size_t files_read_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace signet::agent
