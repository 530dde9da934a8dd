// The one writer of a database: a thread that commits whatever queued up during the last commit as one transaction
// (group commit: a caller alone waits for one fsync, sixty-four callers share one). No timer is needed for that. Each
// task runs in a savepoint of its own, so one may fail and the others stand. When COMMIT fails all of the batch is
// rolled back and every caller of it gets the error, those too whose own answer depended on what is undone.
// Thread-safe. Completions run on the writer's thread after COMMIT, in the order of submission.
// Errors: kResourceExhausted too much is waiting; kUnavailable stopped, or what sqlite.h says of COMMIT. After a failed
// fsync nothing more is written until the process starts anew: what the disk holds is not known.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "server/datastore/data_store.h"
#include "server/datastore/sqlite.h"

namespace signet::server {

// What a task works with.
class WriteContext {
 public:
  explicit WriteContext(SqliteConnection& connection) : db(connection) {}
  SqliteConnection& db;
  // Adds a row to the change feed.
  absl::Status Changed(Change::Kind kind, absl::string_view key);
  // The same for many: `insert` is an "INSERT INTO changes (kind, key) SELECT ...".
  template <typename... Args>
  absl::Status ChangedAll(absl::string_view insert, const Args&... args) {
    const absl::Status status = db.Run(insert, args...);
    if (status.ok() && db.changed_rows() > 0) {
      changes_ += db.changed_rows();
      seq_ = static_cast<uint64_t>(db.last_insert_row());
    }
    return status;
  }
  uint64_t seq() const { return seq_; }  // feed position of the last change
  int64_t entries_added = 0;             // less those deleted

 private:
  friend class SqliteWriter;
  int64_t changes_ = 0;
  uint64_t seq_ = 0;
};

class SqliteWriter {
 public:
  struct Options {
    size_t batch_tasks = 256;  // a transaction ends at either
    size_t batch_rows = 8192;
    size_t queue_limit = 65'536;   // waiting tasks
    size_t issued_limit = 65'536;  // waiting rows of the issuance log
    int64_t feed_rows = 65'536;    // kept of the change feed; older rows are pruned
  };

  SqliteWriter(std::unique_ptr<SqliteConnection> connection, int64_t entry_count, Options options);
  ~SqliteWriter();  // writes what is queued, then joins
  SqliteWriter(const SqliteWriter&) = delete;
  SqliteWriter& operator=(const SqliteWriter&) = delete;

  // `task` runs on the writer's thread; an error undoes what it wrote. `rows`: about how many it writes.
  template <typename T>
  void Write(size_t rows, absl::AnyInvocable<absl::StatusOr<T>(WriteContext&)> task, Completion<T> done) {
    struct Typed final : Task {
      absl::AnyInvocable<absl::StatusOr<T>(WriteContext&)> run;
      Completion<T> done;
      absl::StatusOr<T> result = absl::UnknownError("not run");
      absl::Status Run(WriteContext& context) override {
        result = run(context);
        return result.status();
      }
      void Finish(const absl::Status& batch) override { done(batch.ok() ? std::move(result) : batch); }
    };
    auto typed = std::make_unique<Typed>();
    typed->rows = rows;
    typed->run = std::move(task);
    typed->done = std::move(done);
    Submit(std::move(typed));
  }
  void Write(size_t rows, absl::AnyInvocable<absl::Status(WriteContext&)> task, StatusCompletion done);

  void Record(IssuedSvid issued);
  uint64_t dropped_issued() const;

  void SetWakeUp(std::function<void()> wake_up);
  int64_t entry_count() const;  // as committed
  absl::Status Check() const;   // not OK: writes fail now

 private:
  struct Task {
    virtual ~Task() = default;
    virtual absl::Status Run(WriteContext& context) = 0;
    virtual void Finish(const absl::Status& batch) = 0;
    size_t rows = 1;
  };
  using Batch = std::vector<std::unique_ptr<Task>>;

  void Submit(std::unique_ptr<Task> task);
  void Loop();
  Batch TakeBatch(std::vector<IssuedSvid>& issued);  // waits; both empty: stop
  absl::Status Commit(Batch& batch, const std::vector<IssuedSvid>& issued);
  absl::Status RunTasks(Batch& batch, const std::vector<IssuedSvid>& issued, WriteContext& total);
  absl::Status RunOne(Task& task, WriteContext& total);
  absl::Status PruneFeed();

  const Options options_;
  const std::unique_ptr<SqliteConnection> connection_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Task>> queue_;  // guarded by mutex_, as all below
  std::vector<IssuedSvid> issued_;
  std::chrono::steady_clock::time_point issued_since_;
  uint64_t dropped_issued_ = 0;
  bool stopping_ = false;
  int64_t entry_count_;
  absl::Status last_commit_;
  std::function<void()> wake_up_;

  std::thread thread_;
};

}  // namespace signet::server
