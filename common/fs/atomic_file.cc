#include "common/fs/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "common/failpoint/failpoint.h"
#include "common/status/macros.h"

namespace signet::fs {
namespace {

absl::Status FileError(int error, absl::string_view doing, const std::string& path) {
  const std::string text = absl::StrCat(doing, " ", path, ": ", strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat(text, "; run as the owner of the folder, or chown it"));
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(absl::StrCat(text, "; free space there, the old content is untouched"));
    case EROFS:
      return absl::FailedPreconditionError(absl::StrCat(text, "; mount it writable, or move data_dir"));
    case ELOOP:
      return absl::FailedPreconditionError(absl::StrCat(text, "; a symbolic link is not accepted here"));
    default:
      return absl::InternalError(text);
  }
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status WriteAll(int fd, absl::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t n = write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError(errno, "write", path);
    content.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadAll(int fd, const std::string& path, size_t max_bytes) {
  std::string content;
  char buffer[16384];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError(errno, "read", path);
    if (n == 0) return content;
    if (content.size() + static_cast<size_t>(n) > max_bytes) {
      return absl::FailedPreconditionError(absl::StrCat(path, ": larger than ", max_bytes, " bytes"));
    }
    content.append(buffer, static_cast<size_t>(n));
  }
}

absl::Status SyncFolder(const std::string& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, "open", folder);
  const auto close_it = absl::MakeCleanup([fd] { close(fd); });
  if (fsync(fd) != 0) return FileError(errno, "fsync", folder);
  return absl::OkStatus();
}

absl::Status WriteBeside(int fd, const std::string& temporary, absl::string_view content, unsigned mode) {
  SIGNET_FAILPOINT_STATUS("atomic_file.before_write");
  SIGNET_RETURN_IF_ERROR(WriteAll(fd, content, temporary));
  if (mode != 0600 && fchmod(fd, mode) != 0) return FileError(errno, "chmod", temporary);
  if (fsync(fd) != 0) return FileError(errno, "fsync", temporary);
  SIGNET_FAILPOINT_STATUS("atomic_file.after_fsync");
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteFileAtomically(const std::string& path, absl::string_view content, unsigned mode) {
  // A name of its own for each write, so that two writers never share a half-written file. A crash leaves the stray
  // file behind; it holds at most what the real one would have held, with the same owner and mode 0600 (mkostemp).
  std::string temporary = absl::StrCat(path, ".tmp-XXXXXX");
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return FileError(errno, "create a file beside", path);
  const auto close_it = absl::MakeCleanup([fd] { close(fd); });
  auto remove_it = absl::MakeCleanup([&temporary] { unlink(temporary.c_str()); });
  SIGNET_RETURN_IF_ERROR(WriteBeside(fd, temporary, content, mode));
  SIGNET_FAILPOINT_STATUS("atomic_file.before_rename");
  if (rename(temporary.c_str(), path.c_str()) != 0) return FileError(errno, "rename to", path);
  std::move(remove_it).Cancel();
  SIGNET_FAILPOINT_STATUS("atomic_file.after_rename");
  return SyncFolder(FolderOf(path));
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, "open", path);
  const auto close_it = absl::MakeCleanup([fd] { close(fd); });
  return ReadAll(fd, path, max_bytes);
}

absl::StatusOr<std::string> ReadSecretFile(const std::string& path, size_t max_bytes) {
  // O_NONBLOCK: a FIFO in its place must not hang the daemon; it is refused below.
  const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return FileError(errno, "open", path);
  const auto close_it = absl::MakeCleanup([fd] { close(fd); });
  struct stat info;
  if (fstat(fd, &info) != 0) return FileError(errno, "stat", path);
  if (!S_ISREG(info.st_mode)) return absl::FailedPreconditionError(absl::StrCat(path, ": not a regular file"));
  if (info.st_uid != geteuid() && info.st_uid != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": belongs to user ", info.st_uid, "; chown ", geteuid(), " ", path));
  }
  if ((info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s: mode %04o lets others read or write it; chmod 600 %s", path, info.st_mode & 07777, path));
  }
  return ReadAll(fd, path, max_bytes);
}

absl::Status MakeDirectory(const std::string& path, unsigned mode) {
  if (path.empty()) return absl::InvalidArgumentError("the path of a folder is empty");
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    if (mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST) return FileError(errno, "make folder", parent);
  }
  if (path.back() == '/') return MakeDirectory(std::string(absl::StripSuffix(path, "/")), mode);
  if (mkdir(path.c_str(), 0700) == 0) {
    if (chmod(path.c_str(), mode) != 0) return FileError(errno, "chmod", path);
    return absl::OkStatus();
  }
  if (errno != EEXIST) return FileError(errno, "make folder", path);
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FileError(errno, "stat", path);
  if (!S_ISDIR(info.st_mode)) return absl::FailedPreconditionError(absl::StrCat(path, ": exists and is not a folder"));
  if ((info.st_mode & 022 & ~mode) != 0) {
    return absl::FailedPreconditionError(absl::StrFormat("%s: mode %04o lets others write there; chmod %04o %s", path,
                                                         info.st_mode & 07777, mode, path));
  }
  return absl::OkStatus();
}

absl::Status RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) != 0) return FileError(errno, "remove", path);
  return SyncFolder(FolderOf(path));
}

absl::StatusOr<std::string> SetAside(const std::string& path, absl::Time now) {
  const std::string stem = absl::StrCat(path, ".corrupt-", absl::ToUnixSeconds(now));
  std::string aside = stem;
  for (int n = 1; access(aside.c_str(), F_OK) == 0; ++n)
    aside = absl::StrCat(stem, "-", n);  // never over an earlier one
  if (rename(path.c_str(), aside.c_str()) != 0) return FileError(errno, "set aside", path);
  SIGNET_RETURN_IF_ERROR(SyncFolder(FolderOf(path)));
  return aside;
}

absl::StatusOr<DirectoryLock> DirectoryLock::Acquire(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/lock");
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return FileError(errno, "open", path);
  DirectoryLock lock(fd);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return FileError(errno, "lock", path);
    absl::StatusOr<std::string> pid = ReadAll(fd, path, 64);
    return absl::FailedPreconditionError(absl::StrCat(
        directory, ": in use by process ", pid.ok() && !pid->empty() ? absl::StripAsciiWhitespace(*pid) : "unknown",
        "; stop it, or give this one a data_dir of its own"));
  }
  if (ftruncate(fd, 0) != 0) return FileError(errno, "truncate", path);
  SIGNET_RETURN_IF_ERROR(WriteAll(fd, absl::StrCat(getpid(), "\n"), path));
  return lock;
}

DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) close(fd_);  // the file stays: removing it would race with the next owner
}

}  // namespace signet::fs
