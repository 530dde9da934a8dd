// Issuers of users, and what users may do, in SQL. Functions that write run inside a task of the SqliteWriter.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"
#include "server/datastore/token_records.h"

namespace signet::server {

absl::StatusOr<IssuerRecord> WriteIssuer(WriteContext& context, IssuerRecord record);
absl::Status DeleteIssuerRow(WriteContext& context, const std::string& url);
absl::StatusOr<IssuerRecord> SelectIssuer(SqliteConnection& db, const std::string& url);  // kNotFound
absl::StatusOr<Page<IssuerRecord>> SelectIssuers(SqliteConnection& db, const PageRequest& request);

absl::StatusOr<UserRightsRecord> WriteUserRights(WriteContext& context, UserRightsRecord record);
absl::StatusOr<UserRightsRecord> SelectUserRights(SqliteConnection& db, const std::string& issuer,
                                                  const std::string& subject);  // kNotFound
absl::StatusOr<Page<UserRightsRecord>> SelectAllUserRights(SqliteConnection& db, const PageRequest& request);

}  // namespace signet::server
