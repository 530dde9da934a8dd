// Identities of AI agents in SQL. Functions that write run inside a task of the SqliteWriter and add to the change
// feed.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"
#include "server/datastore/token_records.h"

namespace signet::server {

absl::StatusOr<IdentityRecord> InsertIdentity(WriteContext& context, IdentityRecord record, absl::Time now);
absl::StatusOr<IdentityRecord> ReplaceIdentity(WriteContext& context, IdentityRecord record, absl::Time now);
// The one place where a state changes: draft -> active <-> suspended -> retired, draft and active -> retired. The state
// it has already is fine. Withdraws or gives back the registration entries.
absl::StatusOr<IdentityRecord> SetIdentityState(WriteContext& context, const std::string& spiffe_id,
                                                IdentityState state, absl::Time now);

absl::StatusOr<IdentityRecord> SelectIdentity(SqliteConnection& db, const std::string& spiffe_id);  // kNotFound
absl::StatusOr<Page<IdentityRecord>> SelectIdentities(SqliteConnection& db, const PageRequest& request);
// Whether a suspended or retired identity is this SPIFFE ID or stands above it, on path segments.
absl::StatusOr<bool> IsStopped(SqliteConnection& db, const std::string& spiffe_id);

}  // namespace signet::server
