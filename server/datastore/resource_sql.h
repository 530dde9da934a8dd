// Resources and their tools in SQL. Functions that write run inside a task of the SqliteWriter and add to the feed.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"
#include "server/datastore/token_records.h"

namespace signet::server {

absl::StatusOr<ResourceRecord> WriteResource(WriteContext& context, ResourceRecord record);
absl::Status BuryResource(WriteContext& context, const std::string& uri);
absl::StatusOr<ResourceRecord> SelectResource(SqliteConnection& db, const std::string& uri);  // kNotFound
absl::StatusOr<Page<ResourceRecord>> SelectResources(SqliteConnection& db, const PageRequest& request);

}  // namespace signet::server
