// What minting takes, in SQL: values used once, refresh tokens, the audit chains. Functions that write run inside a
// task of the SqliteWriter; none of them is of interest to the change feed but a task's binding.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"
#include "server/datastore/token_store.h"

namespace signet::server {

// kResourceExhausted with kNoCallsLeftUrl.
absl::Status NoCallsLeft(absl::string_view whose, absl::string_view message);
absl::Status WriteConsume(WriteContext& context, const Consume& consume, absl::Time now);
absl::StatusOr<size_t> DeleteExpiredUses(WriteContext& context, absl::Time now);

absl::StatusOr<RefreshRecord> SelectRefresh(SqliteConnection& db, const std::string& hash);  // kNotFound
absl::StatusOr<std::vector<AuditRecord>> SelectAudit(SqliteConnection& db, const std::string& server_id, uint64_t epoch,
                                                     uint64_t after_seq, size_t limit);
absl::StatusOr<std::vector<AuditRecord>> SelectAuditOfChain(SqliteConnection& db, const std::string& txn, size_t limit);
absl::StatusOr<AuditRecord> SelectLastAudit(SqliteConnection& db, const std::string& server_id);  // kNotFound
absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> SelectAuditChains(SqliteConnection& db);

}  // namespace signet::server
