// Registration entries in SQL. Functions that write run inside a task of the SqliteWriter and add to the change feed.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"

namespace signet::server {

// Statuses of the record stand in the result; an error of the call is one of the database.
absl::StatusOr<EntryResult> InsertEntry(WriteContext& context, spiffe::Entry entry, absl::Time now);
absl::StatusOr<EntryResult> UpdateEntry(WriteContext& context, const spiffe::Entry& entry, const EntryFields& fields);
absl::StatusOr<bool> DeleteEntry(WriteContext& context, const std::string& id);  // false: there is none
absl::StatusOr<size_t> DeleteExpiredEntries(WriteContext& context, absl::Time now, size_t limit);
// Withdraws from agents, or gives back, the entries of this SPIFFE ID and of those below its path, as the identities
// stand now.
absl::Status UpdateWithdrawn(WriteContext& context, const std::string& spiffe_id);

absl::StatusOr<spiffe::Entry> SelectEntry(SqliteConnection& db, const std::string& id);  // kNotFound
absl::StatusOr<Page<spiffe::Entry>> SelectEntries(SqliteConnection& db, const EntryFilter& filter,
                                                  const PageRequest& page);
absl::StatusOr<size_t> CountEntryRows(SqliteConnection& db, const EntryFilter& filter);

}  // namespace signet::server
