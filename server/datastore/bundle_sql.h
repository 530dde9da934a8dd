// Trust bundles and the CA's journal in SQL. Functions that write run inside a task of the SqliteWriter.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"

namespace signet::server {

absl::StatusOr<spiffe::Bundle> ApplyBundleChange(WriteContext& context, const spiffe::TrustDomain& trust_domain,
                                                 const BundleChange& change);
// True when it was not stored like this already.
absl::StatusOr<bool> ReplaceBundle(WriteContext& context, const spiffe::Bundle& bundle);
absl::Status WriteJournal(WriteContext& context, const std::string& server_id, const std::string& journal);

absl::StatusOr<spiffe::Bundle> SelectBundle(SqliteConnection& db,
                                            const spiffe::TrustDomain& trust_domain);  // kNotFound
absl::StatusOr<std::vector<spiffe::Bundle>> SelectBundles(SqliteConnection& db);
absl::StatusOr<std::string> SelectJournal(SqliteConnection& db, const std::string& server_id);  // kNotFound

}  // namespace signet::server
