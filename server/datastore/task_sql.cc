#include "server/datastore/task_sql.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "server/datastore/grant_sql.h"
#include "server/datastore/row_codec.h"
#include "server/datastore/row_list.h"
#include "server/datastore/token_codec.h"
#include "server/datastore/token_use_sql.h"

namespace signet::server {
namespace {

#define SIGNET_TASK_COLUMNS "n, id, state, budget, reserved, instance, root_subject, reauth_at, rev, record"

absl::StatusOr<TaskRecord> DecodeTask(const SqliteRows& row) {
  TaskRecord record;
  SIGNET_RETURN_IF_ERROR(DecodeRecord(row.Text(9), record), absl::StrCat("task ", row.Text(1)));
  record.id = row.String(1);
  record.state = static_cast<TaskState>(row.Int(2));
  record.budget = row.Int(3);
  record.reserved = row.Int(4);
  record.instance = row.String(5);
  record.root_subject = row.String(6);
  record.reauth_at = DecodeMoment(row.Int(7));
  record.rev = static_cast<uint64_t>(row.Int(8));
  return record;
}

// Fills `bound` when it is empty; false when it names another.
bool Bind(std::string& bound, const std::string& wanted) {
  if (bound.empty()) bound = wanted;
  return wanted.empty() || bound == wanted;
}

}  // namespace

absl::StatusOr<TaskRecord> InsertTask(WriteContext& context, TaskRecord record, absl::Time now) {
  if (record.id.empty()) record.id = NewRecordId("task-");
  record.state = TaskState::kOpen;
  record.reserved = 0;
  record.created_at = DecodeTime(EncodeTime(now));
  record.deadline = DecodeMoment(EncodeMoment(record.deadline));
  record.reauth_at = DecodeMoment(EncodeMoment(record.reauth_at));
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kTask, record.id));
  record.rev = context.seq();
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("INSERT INTO tasks (id, state, budget, reserved, instance, root_subject, reauth_at, rev, record) "
                     "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                     record.id, static_cast<int64_t>(record.state), record.budget, record.reserved, record.instance,
                     record.root_subject, EncodeMoment(record.reauth_at), record.rev, EncodeRecord(record)));
  if (context.db.changed_rows() == 0) {
    return absl::AlreadyExistsError(absl::StrCat("task \"", record.id, "\" exists already"));
  }
  return record;
}

absl::Status CloseTaskRow(WriteContext& context, const std::string& id) {
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("UPDATE tasks SET state = ? WHERE id = ?", static_cast<int64_t>(TaskState::kClosed), id));
  if (context.db.changed_rows() == 0) return absl::NotFoundError(absl::StrCat("task \"", id, "\" does not exist"));
  return context.Changed(Change::Kind::kTask, id);
}

absl::Status ReserveCalls(WriteContext& context, const Consume::Budget& budget) {
  SIGNET_ASSIGN_OR_RETURN(const TaskRecord stored, SelectTask(context.db, budget.task));
  TaskRecord task = stored;
  if (task.state != TaskState::kOpen) {
    return absl::FailedPreconditionError(absl::StrCat("task \"", task.id, "\" is closed"));
  }
  if (budget.calls < 0) return absl::InvalidArgumentError("a reservation of less than no calls");
  if (!Bind(task.instance, budget.instance)) {
    return absl::PermissionDeniedError(absl::StrCat("task \"", task.id, "\" is bound to another instance"));
  }
  if (!Bind(task.root_subject, budget.root_subject)) {
    return absl::PermissionDeniedError(absl::StrCat("task \"", task.id, "\" is bound to another user"));
  }
  task.reauth_at = std::min(task.reauth_at, DecodeMoment(EncodeMoment(budget.reauth_at)));
  if (task.budget > 0 && budget.calls > task.budget - task.reserved) {
    return NoCallsLeft(kOfTask, absl::StrCat("task \"", task.id, "\" has ", task.budget - task.reserved,
                                             " calls left of ", task.budget));
  }
  task.reserved += budget.calls;
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("UPDATE tasks SET reserved = ?, instance = ?, root_subject = ?, reauth_at = ? WHERE id = ?",
                     task.reserved, task.instance, task.root_subject, EncodeMoment(task.reauth_at), task.id));
  if (task.instance == stored.instance && task.root_subject == stored.root_subject &&
      task.reauth_at == stored.reauth_at) {
    return absl::OkStatus();
  }
  return context.Changed(Change::Kind::kTask, task.id);
}

absl::StatusOr<TaskRecord> SelectTask(SqliteConnection& db, const std::string& id) {
  SIGNET_ASSIGN_OR_RETURN(
      std::optional<TaskRecord> record,
      FindRow<TaskRecord>(db, DecodeTask, "SELECT " SIGNET_TASK_COLUMNS " FROM tasks WHERE id = ?", id));
  if (!record) return absl::NotFoundError(absl::StrCat("task \"", id, "\" does not exist"));
  return *std::move(record);
}

absl::StatusOr<Page<TaskRecord>> SelectTasks(SqliteConnection& db, const PageRequest& request) {
  return SelectPage<TaskRecord>(db, DecodeTask,
                                "SELECT " SIGNET_TASK_COLUMNS " FROM tasks WHERE n > ? ORDER BY n LIMIT ?", request);
}

}  // namespace signet::server
