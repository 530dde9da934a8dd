// A thin RAII binding to SQLite: connections, statements (prepared once a connection), rows.
// Threads: a connection and what comes from it belong to one thread at a time.
// Errors name the database file: kUnavailable busy, full, read-only, I/O error: the advice says which; kDataLoss
// damaged; kAlreadyExists a UNIQUE or PRIMARY KEY constraint; kInternal a mistake in our SQL.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct sqlite3;
struct sqlite3_stmt;

namespace signet::server {

struct SqliteBlob {
  absl::string_view bytes;
};
using SqliteValue = std::variant<int64_t, std::string>;

class SqliteConnection;

// The rows of one running statement. Must not outlive its connection.
class SqliteRows {
 public:
  SqliteRows(SqliteRows&& other) noexcept;
  SqliteRows& operator=(SqliteRows&&) = delete;
  ~SqliteRows();

  absl::StatusOr<bool> Next();  // false: no further row

  // Of the present row, columns counted from 0.
  int64_t Int(int column) const;
  bool Bool(int column) const { return Int(column) != 0; }
  absl::string_view Text(int column) const;  // text or blob, valid until Next()
  std::string String(int column) const { return std::string(Text(column)); }

 private:
  friend class SqliteConnection;
  SqliteRows(SqliteConnection* connection, sqlite3_stmt* statement, bool owned)
      : connection_(connection), statement_(statement), owned_(owned) {}

  template <std::integral T>
  void Bind(int index, T value) {
    BindInt(index, static_cast<int64_t>(value));
  }
  void Bind(int index, absl::string_view text);
  void Bind(int index, SqliteBlob blob);
  void BindInt(int index, int64_t value);
  void BindValue(int index, const SqliteValue& value);

  SqliteConnection* connection_;
  sqlite3_stmt* statement_;
  bool owned_;  // not in the connection's cache: finalised at the end
  bool bind_failed_ = false;
};

class SqliteConnection {
 public:
  enum class Mode { kReadOnly, kReadWrite, kCreate };
  static absl::StatusOr<std::unique_ptr<SqliteConnection>> Open(const std::string& path, Mode mode);
  ~SqliteConnection();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  const std::string& path() const { return path_; }

  // Several statements without parameters: schema, pragmas.
  absl::Status ExecuteScript(const std::string& sql);

  // `sql` is kept prepared. Strings are copied when bound.
  template <typename... Args>
  absl::StatusOr<SqliteRows> Query(absl::string_view sql, const Args&... args) {
    absl::StatusOr<SqliteRows> rows = Prepare(sql);
    if (rows.ok()) {
      [[maybe_unused]] int index = 0;
      (rows->Bind(++index, args), ...);
    }
    return rows;
  }
  // For SQL put together at run time: not kept.
  absl::StatusOr<SqliteRows> QueryOnce(const std::string& sql, absl::Span<const SqliteValue> args);

  // Runs to the end; rows are dropped.
  template <typename... Args>
  absl::Status Run(absl::string_view sql, const Args&... args) {
    absl::StatusOr<SqliteRows> rows = Query(sql, args...);
    return rows.ok() ? Finish(*rows) : rows.status();
  }
  // The first column of the first row. kNotFound when there is none.
  template <typename... Args>
  absl::StatusOr<int64_t> QueryInt(absl::string_view sql, const Args&... args) {
    absl::StatusOr<SqliteRows> rows = Query(sql, args...);
    return rows.ok() ? FirstInt(*rows) : rows.status();
  }

  int64_t changed_rows() const;  // by the last statement
  int64_t last_insert_row() const;
  bool in_transaction() const;
  bool sync_failed() const { return sync_failed_; }  // an fsync has failed: what is on disk is not known any more

 private:
  friend class SqliteRows;
  SqliteConnection(std::string path, sqlite3* handle) : path_(std::move(path)), handle_(handle) {}
  absl::StatusOr<SqliteRows> Prepare(absl::string_view sql);
  absl::Status Finish(SqliteRows& rows);
  absl::StatusOr<int64_t> FirstInt(SqliteRows& rows);
  absl::Status Error(int code, absl::string_view doing);

  const std::string path_;
  sqlite3* handle_;
  absl::flat_hash_map<std::string, sqlite3_stmt*> statements_;
  bool sync_failed_ = false;
};

}  // namespace signet::server
