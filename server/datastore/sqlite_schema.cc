#include "server/datastore/sqlite_schema.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/crypto/random.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr const char* kMigrations[] = {
#include "server/datastore/migrations.inc"
};

// "Sgnt": tells our database from any other SQLite file (sqlite.org/fileformat2.html 1.3.17).
constexpr int64_t kApplicationId = 0x53676e74;
constexpr absl::string_view kMagic = absl::string_view("SQLite format 3\0", 16);

absl::Status FileError(absl::string_view doing, const std::string& path, int error) {
  return absl::UnavailableError(absl::StrCat("datastore ", path, ": ", doing, ": ", std::strerror(error)));
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

absl::Status SyncDirectoryOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  const Fd directory(open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || fsync(directory.get()) != 0) return FileError("sync its directory", path, errno);
  return absl::OkStatus();
}

// What can be said of an existing file before SQLite touches it.
absl::Status CheckFile(const std::string& path) {
  const Fd file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  struct stat info = {};
  if (file.get() < 0 || fstat(file.get(), &info) != 0) return FileError("open", path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat("datastore ", path, " is not a regular file"));
  }
  char head[16] = {};
  const ssize_t size = pread(file.get(), head, sizeof head, 0);
  if (size < 0) return FileError("read", path, errno);
  if (absl::string_view(head, static_cast<size_t>(size)) != kMagic) {
    return absl::DataLossError(absl::StrCat("datastore ", path, " is ", size == 0 ? "empty" : "no SQLite database",
                                            ": it was damaged or replaced, and was left as it is; restore a backup, or "
                                            "move it aside to start without data"));
  }
  if ((info.st_mode & 0077) != 0) {
    if (fchmod(file.get(), 0600) != 0) return FileError("chmod 600", path, errno);
    SIGNET_LOG(warn, "datastore was open to other users, now 0600", {{"path", path}});
  }
  return absl::OkStatus();
}

absl::Status Configure(SqliteConnection& connection) {
  return connection.ExecuteScript(
      "PRAGMA journal_mode=WAL;"
      "PRAGMA synchronous=FULL;"  // an acknowledged commit survives power loss
                                  // (sqlite.org/pragma.html#pragma_synchronous)
      "PRAGMA wal_autocheckpoint=4000;"
      "PRAGMA journal_size_limit=67108864;"
      "PRAGMA cell_size_check=ON;"
      "PRAGMA cache_size=-8192;"
      "PRAGMA temp_store=MEMORY;");
}

absl::Status Migrate(SqliteConnection& connection, int from) {
  for (int version = from + 1; version <= SqliteSchemaVersion(); ++version) {
    SIGNET_RETURN_IF_ERROR(connection.ExecuteScript("BEGIN IMMEDIATE"));
    absl::Status status = connection.ExecuteScript(kMigrations[version - 1]);
    if (status.ok()) status = connection.ExecuteScript(absl::StrCat("PRAGMA user_version=", version));
    if (status.ok()) status = connection.ExecuteScript("COMMIT");
    if (!status.ok()) {
      if (connection.in_transaction()) (void)connection.ExecuteScript("ROLLBACK");
      return WithContext(status, absl::StrCat("migration to schema ", version));
    }
    SIGNET_FAILPOINT_STATUS("sqlite.after_migration");
  }
  return absl::OkStatus();
}

absl::Status CreateFile(const std::string& path) {
  const std::string draft = path + ".new";
  for (const char* suffix : {"", "-wal", "-shm", "-journal"})
    unlink((draft + suffix).c_str());  // of a run that was killed
  {
    const Fd file(open(draft.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (file.get() < 0) return FileError("create", draft, errno);
  }
  {
    // A rollback journal, not WAL: closing leaves one file, complete and synced.
    SIGNET_ASSIGN_OR_RETURN(auto connection, SqliteConnection::Open(draft, SqliteConnection::Mode::kReadWrite));
    SIGNET_RETURN_IF_ERROR(
        connection->ExecuteScript(absl::StrCat("PRAGMA synchronous=EXTRA; PRAGMA application_id=", kApplicationId)));
    SIGNET_RETURN_IF_ERROR(Migrate(*connection, 0));
  }
  SIGNET_FAILPOINT_STATUS("sqlite.before_create");
  if (rename(draft.c_str(), path.c_str()) != 0) return FileError("rename into place", draft, errno);
  SIGNET_RETURN_IF_ERROR(SyncDirectoryOf(path));
  SIGNET_FAILPOINT_STATUS("sqlite.after_create");
  return absl::OkStatus();
}

absl::Status CheckSchema(SqliteConnection& connection) {
  SIGNET_ASSIGN_OR_RETURN(const int64_t application, connection.QueryInt("PRAGMA application_id"));
  if (application != kApplicationId) {
    return absl::FailedPreconditionError(absl::StrCat(
        "datastore ", connection.path(), " belongs to another program: give signet-server a path of its own"));
  }
  SIGNET_ASSIGN_OR_RETURN(const int64_t version, connection.QueryInt("PRAGMA user_version"));
  if (version > SqliteSchemaVersion()) {
    return absl::FailedPreconditionError(
        absl::StrCat("datastore ", connection.path(), " has schema ", version, ", this signet-server knows up to ",
                     SqliteSchemaVersion(), ": run the newer signet-server, or restore a backup made by this one"));
  }
  return Migrate(connection, static_cast<int>(version));
}

absl::Status EnsureEpoch(SqliteConnection& connection) {
  return connection.Run("INSERT OR IGNORE INTO meta (name, value) VALUES ('epoch', ?)", crypto::RandomUuid());
}

}  // namespace

int SqliteSchemaVersion() { return static_cast<int>(std::size(kMigrations)); }

absl::StatusOr<std::unique_ptr<SqliteConnection>> OpenSqliteDatabase(const std::string& path) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path, error);
  if (error) return FileError("look up", path, error.value());
  if (exists) {
    SIGNET_RETURN_IF_ERROR(CheckFile(path));
  } else {
    if (std::filesystem::exists(path + "-wal", error)) {
      return absl::DataLossError(
          absl::StrCat("datastore ", path, " is gone but its log ", path,
                       "-wal is there: restore the file, or move the log aside to start without data"));
    }
    SIGNET_RETURN_IF_ERROR(CreateFile(path));
  }
  SIGNET_ASSIGN_OR_RETURN(auto connection, SqliteConnection::Open(path, SqliteConnection::Mode::kReadWrite));
  SIGNET_RETURN_IF_ERROR(Configure(*connection));
  SIGNET_RETURN_IF_ERROR(CheckSchema(*connection));
  SIGNET_RETURN_IF_ERROR(EnsureEpoch(*connection));
  return connection;
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> OpenSqliteReader(const std::string& path) {
  SIGNET_ASSIGN_OR_RETURN(auto connection, SqliteConnection::Open(path, SqliteConnection::Mode::kReadOnly));
  SIGNET_RETURN_IF_ERROR(connection->ExecuteScript("PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;"));
  return connection;
}

}  // namespace signet::server
