// The database file: made whole or not at all, checked before use, brought forward to this program's schema.
// Never replaces what is there. Errors: kDataLoss the file is damaged or has been emptied; kFailedPrecondition it
// belongs to another program or to a newer signet-server; all name the file and the next step.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/datastore/sqlite.h"

namespace signet::server {

// The newest schema this program knows: migrations are numbered from 1.
int SqliteSchemaVersion();

// Opens for writing, creating file and tables when there is no file. The connection is in WAL mode, synchronous=FULL.
// A new file is built beside its place and renamed into it, so a file without tables is never ours.
absl::StatusOr<std::unique_ptr<SqliteConnection>> OpenSqliteDatabase(const std::string& path);

// For reads beside the writer.
absl::StatusOr<std::unique_ptr<SqliteConnection>> OpenSqliteReader(const std::string& path);

}  // namespace signet::server
