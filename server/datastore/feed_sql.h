// The change feed as it is read. Rows are written by WriteContext::Changed, in the transaction of the change.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"

namespace signet::server {

absl::StatusOr<std::vector<Change>> SelectChanges(SqliteConnection& db, uint64_t after, size_t limit);  // kOutOfRange
absl::StatusOr<uint64_t> SelectLastSeq(SqliteConnection& db);
absl::StatusOr<std::string> SelectEpoch(SqliteConnection& db);

}  // namespace signet::server
