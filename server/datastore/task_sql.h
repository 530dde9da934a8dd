// Tasks and their budgets in SQL. Functions that write run inside a task of the SqliteWriter.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"
#include "server/datastore/token_records.h"
#include "server/datastore/token_store.h"

namespace signet::server {

absl::StatusOr<TaskRecord> InsertTask(WriteContext& context, TaskRecord record, absl::Time now);
absl::Status CloseTaskRow(WriteContext& context, const std::string& id);  // kNotFound
// T8: reserves calls and binds at first use. The feed hears of a binding, not of every reservation: who reads
// `reserved` from memory reads what it was when the task was bound.
absl::Status ReserveCalls(WriteContext& context, const Consume::Budget& budget);

absl::StatusOr<TaskRecord> SelectTask(SqliteConnection& db, const std::string& id);  // kNotFound
absl::StatusOr<Page<TaskRecord>> SelectTasks(SqliteConnection& db, const PageRequest& request);

}  // namespace signet::server
