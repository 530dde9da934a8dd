#include "server/datastore/federation_sql.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "server/datastore/bundle_sql.h"
#include "server/datastore/row_list.h"

namespace signet::server {
namespace {

constexpr absl::string_view kColumns =
    "SELECT n, trust_domain, bundle_endpoint_url, endpoint_spiffe_id FROM federation_relationships";

absl::StatusOr<FederationRelationship> Decode(const SqliteRows& row) {
  const absl::StatusOr<spiffe::TrustDomain> name = spiffe::TrustDomain::Parse(row.Text(1));
  if (!name.ok()) return absl::DataLossError("stored name of a federated trust domain is damaged");
  FederationRelationship record{.trust_domain = *name, .bundle_endpoint_url = row.String(2)};
  if (!row.Text(3).empty()) {
    absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(row.Text(3));
    if (!id.ok()) {
      return absl::DataLossError(absl::StrCat("stored endpoint ID of trust domain ", name->name(), " is damaged"));
    }
    record.endpoint_spiffe_id = *std::move(id);
  }
  return record;
}

absl::Status AddBundle(SqliteConnection& db, FederationRelationship& record) {
  absl::StatusOr<spiffe::Bundle> bundle = SelectBundle(db, record.trust_domain);
  if (absl::IsNotFound(bundle.status())) return absl::OkStatus();
  if (!bundle.ok()) return bundle.status();
  record.bundle = *std::move(bundle);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<FederationRelationship>> Find(SqliteConnection& db, const spiffe::TrustDomain& name) {
  return FindRow<FederationRelationship>(db, Decode, absl::StrCat(kColumns, " WHERE trust_domain = ?"), name.name());
}

absl::Status Missing(const spiffe::TrustDomain& name) {
  return absl::NotFoundError(absl::StrCat("no federation relationship with trust domain ", name.name()));
}

// What is stored now, with the bundle given, if one was given, in the place of the stored one.
absl::StatusOr<FederationResult> Finish(WriteContext& context, FederationRelationship record,
                                        const std::optional<spiffe::Bundle>& bundle) {
  if (bundle) SIGNET_RETURN_IF_ERROR(ReplaceBundle(context, *bundle).status());
  SIGNET_RETURN_IF_ERROR(AddBundle(context.db, record));
  return FederationResult{absl::OkStatus(), std::move(record)};
}

}  // namespace

absl::StatusOr<FederationResult> InsertFederation(WriteContext& context, const FederationRelationship& wanted) {
  const std::string& name = wanted.trust_domain.name();
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("INSERT OR IGNORE INTO federation_relationships (trust_domain, bundle_endpoint_url, "
                     "endpoint_spiffe_id) VALUES (?, ?, ?)",
                     name, wanted.bundle_endpoint_url,
                     wanted.endpoint_spiffe_id ? wanted.endpoint_spiffe_id->string() : std::string()));
  if (context.db.changed_rows() == 0) {
    return FederationResult{absl::AlreadyExistsError(
        absl::StrCat("a federation relationship with trust domain ", name, " exists already"))};
  }
  FederationRelationship record{wanted.trust_domain, wanted.bundle_endpoint_url, wanted.endpoint_spiffe_id};
  return Finish(context, std::move(record), wanted.bundle);
}

absl::StatusOr<FederationResult> UpdateFederation(WriteContext& context, const FederationRelationship& wanted,
                                                  const FederationFields& fields) {
  SIGNET_ASSIGN_OR_RETURN(std::optional<FederationRelationship> record, Find(context.db, wanted.trust_domain));
  if (!record) return FederationResult{Missing(wanted.trust_domain)};
  if (fields.bundle_endpoint_url) record->bundle_endpoint_url = wanted.bundle_endpoint_url;
  if (fields.bundle_endpoint_profile) record->endpoint_spiffe_id = wanted.endpoint_spiffe_id;
  SIGNET_RETURN_IF_ERROR(context.db.Run(
      "UPDATE federation_relationships SET bundle_endpoint_url = ?, endpoint_spiffe_id = ? WHERE trust_domain = ?",
      record->bundle_endpoint_url, record->endpoint_spiffe_id ? record->endpoint_spiffe_id->string() : std::string(),
      record->trust_domain.name()));
  return Finish(context, *std::move(record), fields.bundle ? wanted.bundle : std::nullopt);
}

absl::StatusOr<bool> DeleteFederation(WriteContext& context, const spiffe::TrustDomain& trust_domain) {
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("DELETE FROM federation_relationships WHERE trust_domain = ?", trust_domain.name()));
  return context.db.changed_rows() != 0;
}

absl::StatusOr<bool> StoreFetchedBundle(WriteContext& context, const spiffe::Bundle& bundle) {
  SIGNET_ASSIGN_OR_RETURN(const std::optional<FederationRelationship> record, Find(context.db, bundle.trust_domain));
  if (!record) return Missing(bundle.trust_domain);
  return ReplaceBundle(context, bundle);
}

absl::StatusOr<FederationRelationship> SelectFederation(SqliteConnection& db, const spiffe::TrustDomain& trust_domain) {
  SIGNET_ASSIGN_OR_RETURN(std::optional<FederationRelationship> record, Find(db, trust_domain));
  if (!record) return Missing(trust_domain);
  SIGNET_RETURN_IF_ERROR(AddBundle(db, *record));
  return *std::move(record);
}

absl::StatusOr<Page<FederationRelationship>> SelectFederations(SqliteConnection& db, const PageRequest& request) {
  SIGNET_ASSIGN_OR_RETURN(Page<FederationRelationship> page,
                          SelectPage<FederationRelationship>(
                              db, Decode, absl::StrCat(kColumns, " WHERE n > ? ORDER BY n LIMIT ?"), request));
  for (FederationRelationship& record : page.items) SIGNET_RETURN_IF_ERROR(AddBundle(db, record));
  return page;
}

}  // namespace signet::server
