#include "server/datastore/bundle_sql.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "server/datastore/bundle_change.h"
#include "server/datastore/row_codec.h"

namespace signet::server {
namespace {

absl::Status Damaged(const absl::Status& why, const spiffe::TrustDomain& trust_domain) {
  return absl::DataLossError(absl::StrCat("stored bundle of ", trust_domain.name(), ": ", why.message()));
}

absl::Status ReadAuthorities(SqliteConnection& db, spiffe::Bundle& bundle) {
  const std::string& name = bundle.trust_domain.name();
  {
    SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.Query("SELECT certificate, tainted FROM bundle_x509_authorities WHERE "
                                                      "trust_domain = ? ORDER BY position",
                                                      name));
    for (;;) {
      SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
      if (!more) break;
      absl::StatusOr<crypto::Certificate> certificate = crypto::Certificate::Parse(rows.Text(0));
      if (!certificate.ok()) return Damaged(certificate.status(), bundle.trust_domain);
      bundle.x509_authorities.push_back({*std::move(certificate), rows.Bool(1)});
    }
  }
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.Query("SELECT key_id, public_key, expires_at, tainted FROM "
                                                    "bundle_jwt_authorities WHERE trust_domain = ? ORDER BY position",
                                                    name));
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return absl::OkStatus();
    absl::StatusOr<crypto::PublicKey> key = crypto::PublicKey::ParseSpki(rows.Text(1));
    if (!key.ok()) return Damaged(key.status(), bundle.trust_domain);
    bundle.jwt_authorities.push_back({rows.String(0), *std::move(key), DecodeTime(rows.Int(2)), rows.Bool(3)});
  }
}

absl::Status WriteBundle(WriteContext& context, const spiffe::Bundle& bundle) {
  SqliteConnection& db = context.db;
  const std::string& name = bundle.trust_domain.name();
  SIGNET_RETURN_IF_ERROR(
      db.Run("INSERT OR REPLACE INTO bundles (trust_domain, sequence_number, refresh_hint) VALUES (?, ?, ?)", name,
             bundle.sequence_number, absl::ToInt64Seconds(bundle.refresh_hint)));
  SIGNET_RETURN_IF_ERROR(db.Run("DELETE FROM bundle_x509_authorities WHERE trust_domain = ?", name));
  int64_t position = 0;
  for (const spiffe::X509Authority& authority : bundle.x509_authorities) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("INSERT INTO bundle_x509_authorities (trust_domain, position, certificate, tainted) VALUES (?, ?, ?, ?)",
               name, position++, SqliteBlob{authority.certificate.der()}, authority.tainted));
  }
  SIGNET_RETURN_IF_ERROR(db.Run("DELETE FROM bundle_jwt_authorities WHERE trust_domain = ?", name));
  position = 0;
  for (const spiffe::JwtAuthority& authority : bundle.jwt_authorities) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("INSERT INTO bundle_jwt_authorities (trust_domain, position, key_id, public_key, "
               "expires_at, tainted) VALUES (?, ?, ?, ?, ?, ?)",
               name, position++, authority.key_id, SqliteBlob{authority.key.spki_der()},
               EncodeTime(authority.expires_at), authority.tainted));
  }
  return context.Changed(Change::Kind::kBundle, name);
}

}  // namespace

absl::StatusOr<spiffe::Bundle> SelectBundle(SqliteConnection& db, const spiffe::TrustDomain& trust_domain) {
  spiffe::Bundle bundle{.trust_domain = trust_domain};
  {
    SIGNET_ASSIGN_OR_RETURN(
        SqliteRows rows,
        db.Query("SELECT sequence_number, refresh_hint FROM bundles WHERE trust_domain = ?", trust_domain.name()));
    SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
    if (!found) return absl::NotFoundError(absl::StrCat("there is no bundle of trust domain ", trust_domain.name()));
    bundle.sequence_number = static_cast<uint64_t>(rows.Int(0));
    bundle.refresh_hint = absl::Seconds(rows.Int(1));
  }
  SIGNET_RETURN_IF_ERROR(ReadAuthorities(db, bundle));
  return bundle;
}

absl::StatusOr<std::vector<spiffe::Bundle>> SelectBundles(SqliteConnection& db) {
  std::vector<spiffe::Bundle> bundles;
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                          db.Query("SELECT trust_domain, sequence_number, refresh_hint FROM bundles ORDER BY 1"));
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return bundles;
    absl::StatusOr<spiffe::TrustDomain> name = spiffe::TrustDomain::Parse(rows.Text(0));
    if (!name.ok()) return absl::DataLossError("stored name of a trust domain is damaged");
    spiffe::Bundle bundle{.trust_domain = *std::move(name)};
    bundle.sequence_number = static_cast<uint64_t>(rows.Int(1));
    bundle.refresh_hint = absl::Seconds(rows.Int(2));
    SIGNET_RETURN_IF_ERROR(ReadAuthorities(db, bundle));
    bundles.push_back(std::move(bundle));
  }
}

absl::StatusOr<spiffe::Bundle> ApplyBundleChange(WriteContext& context, const spiffe::TrustDomain& trust_domain,
                                                 const BundleChange& change) {
  absl::StatusOr<spiffe::Bundle> stored = SelectBundle(context.db, trust_domain);
  if (!stored.ok() && !absl::IsNotFound(stored.status())) return stored.status();
  const bool existed = stored.ok();
  spiffe::Bundle bundle = existed ? *std::move(stored) : spiffe::Bundle{.trust_domain = trust_domain};
  const bool changed = Apply(change, bundle);
  if (changed || !existed) SIGNET_RETURN_IF_ERROR(WriteBundle(context, bundle));
  return bundle;
}

absl::StatusOr<bool> ReplaceBundle(WriteContext& context, const spiffe::Bundle& bundle) {
  const absl::StatusOr<spiffe::Bundle> stored = SelectBundle(context.db, bundle.trust_domain);
  if (!stored.ok() && !absl::IsNotFound(stored.status())) return stored.status();
  if (stored.ok() && *stored == bundle) return false;
  SIGNET_RETURN_IF_ERROR(WriteBundle(context, bundle));
  return true;
}

absl::Status WriteJournal(WriteContext& context, const std::string& server_id, const std::string& journal) {
  return context.db.Run("INSERT OR REPLACE INTO journals (server_id, journal) VALUES (?, ?)", server_id,
                        SqliteBlob{journal});
}

absl::StatusOr<std::string> SelectJournal(SqliteConnection& db, const std::string& server_id) {
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.Query("SELECT journal FROM journals WHERE server_id = ?", server_id));
  SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
  if (!found) return absl::NotFoundError(absl::StrCat("there is no journal of server ", server_id));
  return rows.String(0);
}

}  // namespace signet::server
