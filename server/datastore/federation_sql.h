// Federation relationships in SQL. Functions that write run inside a task of the SqliteWriter.
#pragma once

#include "absl/status/statusor.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"
#include "server/datastore/sqlite_writer.h"

namespace signet::server {

// A status that is not OK of the function: the store failed. What is wrong with the item is in its result.
absl::StatusOr<FederationResult> InsertFederation(WriteContext& context, const FederationRelationship& wanted);
absl::StatusOr<FederationResult> UpdateFederation(WriteContext& context, const FederationRelationship& wanted,
                                                  const FederationFields& fields);
// The bundle stays. False: there was none.
absl::StatusOr<bool> DeleteFederation(WriteContext& context, const spiffe::TrustDomain& trust_domain);
// kNotFound: there is no relationship any more. True when it was not stored like this already.
absl::StatusOr<bool> StoreFetchedBundle(WriteContext& context, const spiffe::Bundle& bundle);

absl::StatusOr<FederationRelationship> SelectFederation(SqliteConnection& db,
                                                        const spiffe::TrustDomain& trust_domain);  // kNotFound
absl::StatusOr<Page<FederationRelationship>> SelectFederations(SqliteConnection& db, const PageRequest& request);

}  // namespace signet::server
