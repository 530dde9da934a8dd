// The issuance log in SQL: what was signed, for whom, until when.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "server/datastore/data_store.h"
#include "server/datastore/sqlite.h"

namespace signet::server {

// Within a transaction of the writer. Rows issued more than 30 days before the newest are dropped on the way.
absl::Status InsertIssued(SqliteConnection& db, const std::vector<IssuedSvid>& issued);

}  // namespace signet::server
