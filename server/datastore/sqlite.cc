#include "server/datastore/sqlite.h"

#include <sqlite3.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

// How long a statement waits for another process that holds the database (a backup, a shell).
constexpr int kBusyTimeoutMs = 5000;

absl::Status ErrorStatus(int extended_code, const std::string& path, absl::string_view doing, absl::string_view text) {
  const std::string message = absl::StrCat("datastore ", path, ": ", doing, ": ", text);
  switch (extended_code & 0xff) {
    case SQLITE_CONSTRAINT:
      return absl::AlreadyExistsError(message);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(
          absl::StrCat(message, "; the file is damaged and was left as it is: move it aside and restore a backup"));
    case SQLITE_FULL:
      return absl::UnavailableError(absl::StrCat(message, "; free space on its file system"));
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
      return absl::UnavailableError(
          absl::StrCat(message, "; the file and its directory must be writable by this process"));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(absl::StrCat(message, "; another process holds it"));
    case SQLITE_IOERR:
      return absl::UnavailableError(absl::StrCat(message, "; check the disk"));
    case SQLITE_NOMEM:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace

SqliteRows::SqliteRows(SqliteRows&& other) noexcept
    : connection_(other.connection_),
      statement_(std::exchange(other.statement_, nullptr)),
      owned_(other.owned_),
      bind_failed_(other.bind_failed_) {}

SqliteRows::~SqliteRows() {
  if (statement_ == nullptr) return;
  if (owned_) {
    sqlite3_finalize(statement_);
  } else {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
}

absl::StatusOr<bool> SqliteRows::Next() {
  if (bind_failed_) return absl::InternalError(absl::StrCat("cannot bind a parameter of ", sqlite3_sql(statement_)));
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return connection_->Error(code, sqlite3_sql(statement_));
}

int64_t SqliteRows::Int(int column) const { return sqlite3_column_int64(statement_, column); }

absl::string_view SqliteRows::Text(int column) const {
  // The type is as stored: asking for a blob converts nothing.
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes == nullptr ? absl::string_view() : absl::string_view(bytes, static_cast<size_t>(size));
}

void SqliteRows::BindInt(int index, int64_t value) {
  bind_failed_ |= sqlite3_bind_int64(statement_, index, value) != SQLITE_OK;
}

void SqliteRows::Bind(int index, absl::string_view text) {
  // An empty view may have a null pointer, which would bind NULL.
  const char* bytes = text.data() == nullptr ? "" : text.data();
  bind_failed_ |=
      sqlite3_bind_text64(statement_, index, bytes, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8) != SQLITE_OK;
}

void SqliteRows::Bind(int index, SqliteBlob blob) {
  const char* bytes = blob.bytes.data() == nullptr ? "" : blob.bytes.data();
  bind_failed_ |= sqlite3_bind_blob64(statement_, index, bytes, blob.bytes.size(), SQLITE_TRANSIENT) != SQLITE_OK;
}

void SqliteRows::BindValue(int index, const SqliteValue& value) {
  if (const auto* number = std::get_if<int64_t>(&value)) {
    BindInt(index, *number);
  } else {
    Bind(index, absl::string_view(std::get<std::string>(value)));
  }
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(const std::string& path, Mode mode) {
  // Counting every allocation costs a lock each, and nobody reads the count (sqlite.org/malloc.html 3.2).
  static const int configured = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  if (configured != SQLITE_OK) return absl::InternalError("SQLite was in use before the datastore");
  int flags = SQLITE_OPEN_NOMUTEX;
  if (mode == Mode::kReadOnly) flags |= SQLITE_OPEN_READONLY;
  if (mode == Mode::kReadWrite) flags |= SQLITE_OPEN_READWRITE;
  if (mode == Mode::kCreate) flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  if (code != SQLITE_OK) {
    absl::Status status = ErrorStatus(code, path, "open", handle != nullptr ? sqlite3_errmsg(handle) : "out of memory");
    sqlite3_close(handle);
    return status;
  }
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, kBusyTimeoutMs);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  return std::unique_ptr<SqliteConnection>(new SqliteConnection(path, handle));
}

SqliteConnection::~SqliteConnection() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(handle_);
}

absl::Status SqliteConnection::ExecuteScript(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql.substr(0, sql.find('\n')));
}

absl::StatusOr<SqliteRows> SqliteConnection::Prepare(absl::string_view sql) {
  auto cached = statements_.find(sql);
  if (cached != statements_.end() && !sqlite3_stmt_busy(cached->second)) return SqliteRows(this, cached->second, false);
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                      &statement, nullptr);
  if (code != SQLITE_OK) return Error(code, sql);
  const bool owned = cached != statements_.end();  // the one in the cache is running: this one is for this use alone
  if (!owned) statements_.emplace(sql, statement);
  return SqliteRows(this, statement, owned);
}

absl::StatusOr<SqliteRows> SqliteConnection::QueryOnce(const std::string& sql, absl::Span<const SqliteValue> args) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()), 0, &statement, nullptr);
  if (code != SQLITE_OK) return Error(code, sql);
  SqliteRows rows(this, statement, true);
  int index = 0;
  for (const SqliteValue& value : args) rows.BindValue(++index, value);
  return rows;
}

absl::Status SqliteConnection::Finish(SqliteRows& rows) {
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return absl::OkStatus();
  }
}

absl::StatusOr<int64_t> SqliteConnection::FirstInt(SqliteRows& rows) {
  SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
  if (!found) return absl::NotFoundError("no row");
  return rows.Int(0);
}

int64_t SqliteConnection::changed_rows() const { return sqlite3_changes64(handle_); }
int64_t SqliteConnection::last_insert_row() const { return sqlite3_last_insert_rowid(handle_); }
bool SqliteConnection::in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }

absl::Status SqliteConnection::Error(int code, absl::string_view doing) {
  if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC) sync_failed_ = true;
  return ErrorStatus(code, path_, doing, sqlite3_errmsg(handle_));
}

}  // namespace signet::server
