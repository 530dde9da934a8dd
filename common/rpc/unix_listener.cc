#include "common/rpc/unix_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status/macros.h"

namespace signet::rpc {
namespace {

constexpr int kBacklog = 512;

absl::Status ErrnoStatus(int error, absl::string_view what) { return absl::ErrnoToStatus(error, what); }

absl::StatusOr<sockaddr_un> Address(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty()) return absl::InvalidArgumentError("socket path is empty");
  if (path[0] != '/') return absl::InvalidArgumentError(absl::StrCat("socket path \"", path, "\" is not absolute"));
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("socket path \"", path, "\" has ", path.size(),
                                                   " bytes and a Unix socket takes ", sizeof(address.sun_path) - 1,
                                                   ": choose a shorter one"));
  }
  memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Makes the folder when it is missing. Refuses one in which anybody could put a socket of their own in place of ours.
absl::Status PrepareDirectory(const std::string& directory, unsigned mode) {
  std::error_code error;
  const std::filesystem::path path(directory);
  if (!std::filesystem::exists(path, error)) {
    std::filesystem::create_directories(path.parent_path(), error);
    if (mkdir(directory.c_str(), static_cast<mode_t>(mode)) != 0 && errno != EEXIST) {
      return ErrnoStatus(errno, absl::StrCat("make directory \"", directory, "\""));
    }
    if (chmod(directory.c_str(), static_cast<mode_t>(mode)) != 0) {  // what the umask took away
      return ErrnoStatus(errno, absl::StrCat("set mode of \"", directory, "\""));
    }
  }
  struct stat st;
  if (stat(directory.c_str(), &st) != 0) return ErrnoStatus(errno, absl::StrCat("directory \"", directory, "\""));
  if (!S_ISDIR(st.st_mode))
    return absl::FailedPreconditionError(absl::StrCat("\"", directory, "\" is not a directory"));
  if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0) {
    return absl::FailedPreconditionError(absl::StrCat("directory \"", directory,
                                                      "\" can be written by everybody, who could then replace the "
                                                      "socket: chmod o-w it or choose another"));
  }
  return absl::OkStatus();
}

// Removes a socket file that nobody listens on any more.
absl::Status ClearDeadSocket(const std::string& path, const sockaddr_un& address) {
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrCat("socket path \"", path, "\""));
  }
  if (!S_ISSOCK(st.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("\"", path, "\" exists and is not a socket: move it away or choose another path"));
  }
  Fd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.get() < 0) return ErrnoStatus(errno, "socket");
  // ECONNREFUSED alone proves that nobody listens; a full backlog (EAGAIN) or no permission is a living daemon.
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
      errno != ECONNREFUSED) {
    return absl::AlreadyExistsError(
        absl::StrCat("another process already listens on \"", path, "\": stop it or choose another path"));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, absl::StrCat("remove the dead socket \"", path, "\""));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<FileId> IdOf(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return std::nullopt;
  return FileId{st.st_dev, st.st_ino};
}

absl::StatusOr<UnixListener> UnixListener::Create(const std::string& path, unsigned socket_mode,
                                                  unsigned directory_mode) {
  SIGNET_ASSIGN_OR_RETURN(const sockaddr_un address, Address(path));
  const std::string directory = std::filesystem::path(path).parent_path().string();
  SIGNET_RETURN_IF_ERROR(PrepareDirectory(directory, directory_mode));

  // Two daemons that start at once must not both find the socket dead. Best effort: who may read the folder may hold
  // its lock, and must not be able to keep us from starting by that.
  Fd lock(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; lock.get() >= 0 && i < 20 && flock(lock.get(), LOCK_EX | LOCK_NB) != 0; ++i) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  SIGNET_RETURN_IF_ERROR(ClearDeadSocket(path, address));

  UnixListener listener{path, Fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), {}};
  if (listener.fd.get() < 0) return ErrnoStatus(errno, "socket");
  // Nobody can connect before listen(), so there is no moment at which the file has a wrong mode and works.
  if (bind(listener.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus(errno, absl::StrCat("bind \"", path, "\""));
  }
  struct stat st;
  if (chmod(path.c_str(), static_cast<mode_t>(socket_mode)) != 0 || lstat(path.c_str(), &st) != 0) {
    return ErrnoStatus(errno, absl::StrCat("set mode of \"", path, "\""));
  }
  listener.file = {st.st_dev, st.st_ino};
  if (listen(listener.fd.get(), kBacklog) != 0) return ErrnoStatus(errno, absl::StrCat("listen on \"", path, "\""));
  return listener;
}

void UnixListener::RemoveFile() const {
  struct stat st;
  if (lstat(path.c_str(), &st) == 0 && FileId{st.st_dev, st.st_ino} == file) unlink(path.c_str());
}

}  // namespace signet::rpc
