// Files that matter: replaced whole by write, fsync, rename, fsync of the folder; 0600 from the first byte.
// Errors name the path and what to do. Failpoints: atomic_file.{before_write,after_fsync,before_rename,after_rename}.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::fs {

// Old content or new content, never half of either.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view content, unsigned mode = 0600);

// kNotFound; kFailedPrecondition when larger than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

// ReadFile for a file that holds a secret: refuses one that others than its owner (the process's uid, or root) can read
// or write, a symbolic link, or no regular file: kFailedPrecondition, with the chmod that helps.
absl::StatusOr<std::string> ReadSecretFile(const std::string& path, size_t max_bytes);

// mkdir -p; the last folder gets `mode`. An existing last folder that is writable by others is refused.
absl::Status MakeDirectory(const std::string& path, unsigned mode);

// Unlinks and makes that durable. kNotFound.
absl::Status RemoveFile(const std::string& path);

// Renames a damaged file to <path>.corrupt-<unix seconds> and returns that name, so that nothing replaces it silently.
absl::StatusOr<std::string> SetAside(const std::string& path, absl::Time now);

// Exclusive for the life of the object: two daemons never share a data_dir. kFailedPrecondition names the other's pid.
class DirectoryLock {
 public:
  static absl::StatusOr<DirectoryLock> Acquire(const std::string& directory);
  DirectoryLock(DirectoryLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  DirectoryLock& operator=(DirectoryLock&&) = delete;
  ~DirectoryLock();

 private:
  explicit DirectoryLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace signet::fs
