#include "server/datastore/sqlite_writer.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/macros.h"
#include "server/datastore/issued_sql.h"

namespace signet::server {
namespace {

// The issuance log is written with the next commit, or by itself after this time or this many rows.
constexpr std::chrono::seconds kIssuedDelay{1};
constexpr size_t kIssuedRows = 2048;
constexpr int64_t kFeedPruneStep = 4096;

absl::Status BeforeCommit() {
  SIGNET_FAILPOINT_STATUS("sqlite.before_commit");
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteContext::Changed(Change::Kind kind, absl::string_view key) {
  ++changes_;
  SIGNET_RETURN_IF_ERROR(db.Run("INSERT INTO changes (kind, key) VALUES (?, ?)", static_cast<int64_t>(kind), key));
  seq_ = static_cast<uint64_t>(db.last_insert_row());
  return absl::OkStatus();
}

SqliteWriter::SqliteWriter(std::unique_ptr<SqliteConnection> connection, int64_t entry_count, Options options)
    : options_(options), connection_(std::move(connection)), entry_count_(entry_count), thread_([this] {
        pthread_setname_np(pthread_self(), "sqlite-writer");
        Loop();
      }) {}

SqliteWriter::~SqliteWriter() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void SqliteWriter::Write(size_t rows, absl::AnyInvocable<absl::Status(WriteContext&)> task, StatusCompletion done) {
  Write<std::monostate>(
      rows,
      [task = std::move(task)](WriteContext& context) mutable -> absl::StatusOr<std::monostate> {
        SIGNET_RETURN_IF_ERROR(task(context));
        return std::monostate();
      },
      [done = std::move(done)](const absl::StatusOr<std::monostate>& result) mutable { done(result.status()); });
}

void SqliteWriter::Submit(std::unique_ptr<Task> task) {
  absl::Status refused;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) {
      refused = absl::UnavailableError("the datastore is stopping");
    } else if (queue_.size() >= options_.queue_limit) {
      refused = absl::ResourceExhaustedError("too many writes wait for the datastore: retry later");
    } else {
      queue_.push_back(std::move(task));
      lock.unlock();
      wake_.notify_one();
      return;
    }
  }
  task->Finish(refused);
}

void SqliteWriter::Record(IssuedSvid issued) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    if (issued_.size() >= options_.issued_limit) {
      if (dropped_issued_++ % options_.issued_limit == 0) {
        SIGNET_LOG(error, "issuance log falls behind: records are dropped", {{"dropped", dropped_issued_}});
      }
      return;
    }
    if (issued_.empty()) issued_since_ = std::chrono::steady_clock::now();
    issued_.push_back(std::move(issued));
    wake = issued_.size() == 1 || issued_.size() == kIssuedRows;
  }
  if (wake) wake_.notify_one();
}

uint64_t SqliteWriter::dropped_issued() const {
  std::lock_guard lock(mutex_);
  return dropped_issued_;
}

void SqliteWriter::SetWakeUp(std::function<void()> wake_up) {
  std::lock_guard lock(mutex_);
  wake_up_ = std::move(wake_up);
}

int64_t SqliteWriter::entry_count() const {
  std::lock_guard lock(mutex_);
  return entry_count_;
}

absl::Status SqliteWriter::Check() const {
  std::lock_guard lock(mutex_);
  return last_commit_;
}

SqliteWriter::Batch SqliteWriter::TakeBatch(std::vector<IssuedSvid>& issued) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return stopping_ || !queue_.empty() || issued_.size() >= kIssuedRows; };
  while (!ready()) {
    if (issued_.empty()) {
      wake_.wait(lock);
    } else if (wake_.wait_until(lock, issued_since_ + kIssuedDelay) == std::cv_status::timeout) {
      break;
    }
  }
  Batch batch;
  for (size_t rows = 0; !queue_.empty() && batch.size() < options_.batch_tasks; queue_.pop_front()) {
    rows += queue_.front()->rows;
    if (!batch.empty() && rows > options_.batch_rows) break;
    batch.push_back(std::move(queue_.front()));
  }
  const size_t take = std::min(issued_.size(), options_.batch_rows);
  issued.assign(std::make_move_iterator(issued_.begin()), std::make_move_iterator(issued_.begin() + take));
  issued_.erase(issued_.begin(), issued_.begin() + take);
  return batch;
}

void SqliteWriter::Loop() {
  for (;;) {
    std::vector<IssuedSvid> issued;
    Batch batch = TakeBatch(issued);
    if (batch.empty() && issued.empty()) return;
    const absl::Status status = Commit(batch, issued);
    for (std::unique_ptr<Task>& task : batch) task->Finish(status);
  }
}

absl::Status SqliteWriter::Commit(Batch& batch, const std::vector<IssuedSvid>& issued) {
  WriteContext total(*connection_);
  absl::Status status = RunTasks(batch, issued, total);
  if (status.ok()) {
    SIGNET_FAILPOINT("sqlite.after_commit");
  } else {
    if (connection_->in_transaction()) (void)connection_->ExecuteScript("ROLLBACK");
    SIGNET_LOG(error, "datastore commit failed", {{"tasks", batch.size()}, {"error", status.message()}});
  }
  std::function<void()> wake_up;
  {
    std::lock_guard lock(mutex_);
    last_commit_ = status;
    if (status.ok()) {
      entry_count_ += total.entries_added;
      if (total.changes_ > 0) wake_up = wake_up_;
    } else {
      dropped_issued_ += issued.size();
    }
  }
  if (wake_up) wake_up();
  return status;
}

absl::Status SqliteWriter::RunTasks(Batch& batch, const std::vector<IssuedSvid>& issued, WriteContext& total) {
  if (connection_->sync_failed()) {
    return absl::UnavailableError(absl::StrCat(
        "datastore ", connection_->path(), ": a sync to disk has failed: check the disk, then restart signet-server"));
  }
  SIGNET_RETURN_IF_ERROR(connection_->Run("BEGIN IMMEDIATE"));
  for (std::unique_ptr<Task>& task : batch) SIGNET_RETURN_IF_ERROR(RunOne(*task, total));
  SIGNET_RETURN_IF_ERROR(InsertIssued(*connection_, issued));
  if (total.changes_ > 0) SIGNET_RETURN_IF_ERROR(PruneFeed());
  SIGNET_RETURN_IF_ERROR(BeforeCommit());
  return connection_->Run("COMMIT");
}

// An error here is one of the batch; an error of the task alone is its own affair.
absl::Status SqliteWriter::RunOne(Task& task, WriteContext& total) {
  WriteContext own(*connection_);
  SIGNET_RETURN_IF_ERROR(connection_->Run("SAVEPOINT task"));
  const absl::Status status = task.Run(own);
  // Some errors (disk full, I/O) end the whole transaction (sqlite.org/lang_transaction.html 3.1).
  if (!connection_->in_transaction()) return status.ok() ? absl::InternalError("transaction ended by itself") : status;
  if (!status.ok()) SIGNET_RETURN_IF_ERROR(connection_->Run("ROLLBACK TO task"));
  SIGNET_RETURN_IF_ERROR(connection_->Run("RELEASE task"));
  if (status.ok()) {
    total.entries_added += own.entries_added;
    total.changes_ += own.changes_;
  }
  return absl::OkStatus();
}

// In steps, so that it costs about one deleted row for each new one.
absl::Status SqliteWriter::PruneFeed() {
  SIGNET_ASSIGN_OR_RETURN(const int64_t last, connection_->QueryInt("SELECT max(seq) FROM changes"));
  SIGNET_ASSIGN_OR_RETURN(const int64_t first, connection_->QueryInt("SELECT min(seq) FROM changes"));
  if (last - first < options_.feed_rows + kFeedPruneStep) return absl::OkStatus();
  return connection_->Run("DELETE FROM changes WHERE seq <= ?", last - options_.feed_rows);
}

}  // namespace signet::server
