// A real store (SQLite in a folder of its own) and blocking calls over the asynchronous seam.
#pragma once

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/datastore/data_store.h"
#include "server/datastore/sqlite_data_store.h"
#include "tests/testing/temp_dir.h"

namespace signet::testing {

// Await<size_t>([&](auto done) { store.PruneJoinTokens(now, std::move(done)); }): what the completion was given.
template <typename T, typename F>
absl::StatusOr<T> Await(F start) {
  std::promise<absl::StatusOr<T>> promise;
  start([&promise](absl::StatusOr<T> result) { promise.set_value(std::move(result)); });
  return promise.get_future().get();
}
template <typename F>
absl::Status AwaitStatus(F start) {
  std::promise<absl::Status> promise;
  start([&promise](absl::Status status) { promise.set_value(std::move(status)); });
  return promise.get_future().get();
}

inline absl::StatusOr<std::vector<server::EntryResult>> CreateEntries(server::EntryStore& store,
                                                                      std::vector<spiffe::Entry> entries,
                                                                      absl::Time now) {
  return Await<std::vector<server::EntryResult>>(
      [&](auto done) { store.CreateEntries(std::move(entries), now, std::move(done)); });
}

// Aborts when it cannot be opened.
class TestStore {
 public:
  TestStore() { Reopen(); }
  server::DataStore& operator*() { return *store_; }
  server::DataStore* operator->() { return store_.get(); }
  std::string path() const { return dir_.file("server.db"); }
  void Reopen() {
    store_.reset();
    store_ = server::SqliteDataStore::Open({.path = path()}).value();
  }

 private:
  TempDir dir_;
  std::unique_ptr<server::SqliteDataStore> store_;
};

}  // namespace signet::testing
