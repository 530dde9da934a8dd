// A bound Unix socket of ours: the folder checked, a dead socket file replaced, a living daemon's never, the file
// removed at the end when it is still its own. What UnixFront (gRPC) and net::WebServer (HTTP) share. Not thread-safe.
// Errors: kInvalidArgument the path; kAlreadyExists a living daemon listens there; kFailedPrecondition something that
// is not a socket is in the way, or the folder cannot be trusted.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace signet::rpc {

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(std::exchange(other.fd_, -1));
    return *this;
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

// Which file, or which socket, a descriptor is.
struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const FileId&, const FileId&) = default;
};
std::optional<FileId> IdOf(int fd);

struct UnixListener {
  std::string path;
  Fd fd;        // listening, not blocking
  FileId file;  // of the path, so that only our own file is removed at the end

  // Binds and listens; the folder is made when it is missing.
  static absl::StatusOr<UnixListener> Create(const std::string& path, unsigned socket_mode, unsigned directory_mode);
  void RemoveFile() const;  // idempotent
};

}  // namespace signet::rpc
