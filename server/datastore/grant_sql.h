// Grants in SQL. Functions that write run inside a task of the SqliteWriter and add to the change feed.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"
#include "server/datastore/token_records.h"

namespace signet::server {

absl::StatusOr<GrantRecord> InsertGrant(WriteContext& context, GrantRecord record, absl::Time now);
absl::Status SetGrantState(WriteContext& context, const std::string& id, GrantState state);  // kNotFound
// Active grants with an atom of `resource` that `touched` says yes to need consent anew (T9).
absl::Status VoidGrants(WriteContext& context, const std::string& resource,
                        const std::function<bool(const oauth::Atom&)>& touched);

absl::StatusOr<GrantRecord> SelectGrant(SqliteConnection& db, const std::string& id);  // kNotFound
absl::StatusOr<Page<GrantRecord>> SelectGrants(SqliteConnection& db, const PageRequest& request);

// "g-" + 26 characters of 5 random bits each.
std::string NewRecordId(absl::string_view prefix);

}  // namespace signet::server
