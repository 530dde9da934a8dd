// Read-only connections beside the writer, opened when first needed. A caller waits while all are in use. Thread-safe.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/status/macros.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_schema.h"

namespace signet::server {

class SqliteReaders {
 public:
  SqliteReaders(std::string path, size_t limit) : path_(std::move(path)), limit_(limit) {}

  // Calls `read` with a connection of its own.
  template <typename F>
  auto With(const F& read) -> decltype(read(std::declval<SqliteConnection&>())) {
    SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<SqliteConnection> connection, Take());
    auto result = read(*connection);
    Return(std::move(connection));
    return result;
  }

 private:
  absl::StatusOr<std::unique_ptr<SqliteConnection>> Take() {
    {
      std::unique_lock lock(mutex_);
      returned_.wait(lock, [&] { return !idle_.empty() || opened_ < limit_; });
      if (!idle_.empty()) {
        std::unique_ptr<SqliteConnection> connection = std::move(idle_.back());
        idle_.pop_back();
        return connection;
      }
      ++opened_;
    }
    absl::StatusOr<std::unique_ptr<SqliteConnection>> connection = OpenSqliteReader(path_);
    if (!connection.ok()) {
      std::lock_guard lock(mutex_);
      --opened_;
      returned_.notify_one();
    }
    return connection;
  }
  void Return(std::unique_ptr<SqliteConnection> connection) {
    {
      std::lock_guard lock(mutex_);
      idle_.push_back(std::move(connection));
    }
    returned_.notify_one();
  }

  const std::string path_;
  const size_t limit_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<SqliteConnection>> idle_;  // guarded by mutex_, as is opened_
  size_t opened_ = 0;
};

}  // namespace signet::server
