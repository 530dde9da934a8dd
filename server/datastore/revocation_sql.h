// Revocations in SQL, with what they take along. Functions that write run inside a task of the SqliteWriter.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/oauth/revocation.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"
#include "server/datastore/token_store.h"

namespace signet::server {

absl::StatusOr<uint64_t> WriteRevocation(WriteContext& context, const RevokeChange& change, absl::Time now);
absl::StatusOr<uint64_t> UndoRevocation(WriteContext& context, oauth::EntityKind kind, const std::string& entity,
                                        absl::Time now);
absl::StatusOr<size_t> DeleteOldRevocations(WriteContext& context, absl::Time older_than, absl::Time tokens_older_than,
                                            size_t limit);

absl::StatusOr<oauth::Revocation> SelectRevocation(SqliteConnection& db, oauth::EntityKind kind,
                                                   const std::string& entity);  // kNotFound
absl::StatusOr<Page<oauth::Revocation>> SelectRevocations(SqliteConnection& db, const PageRequest& request);

}  // namespace signet::server
