#include "server/datastore/issuer_sql.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "server/datastore/row_list.h"
#include "server/datastore/token_codec.h"

namespace signet::server {
namespace {

absl::StatusOr<IssuerRecord> DecodeIssuer(const SqliteRows& row) {
  IssuerRecord record;
  SIGNET_RETURN_IF_ERROR(DecodeRecord(row.Text(3), record), absl::StrCat("issuer ", row.Text(1)));
  record.url = row.String(1);
  record.rev = static_cast<uint64_t>(row.Int(2));
  return record;
}

absl::StatusOr<UserRightsRecord> DecodeUserRights(const SqliteRows& row) {
  UserRightsRecord record;
  SIGNET_RETURN_IF_ERROR(DecodeRecord(row.Text(2), record), "rights of a user");
  record.rev = static_cast<uint64_t>(row.Int(1));
  return record;
}

}  // namespace

absl::StatusOr<IssuerRecord> WriteIssuer(WriteContext& context, IssuerRecord record) {
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kIssuer, record.url));
  record.rev = context.seq();
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("INSERT INTO issuers (url, rev, record) VALUES (?, ?, ?) ON CONFLICT (url) DO UPDATE SET "
                     "rev = excluded.rev, record = excluded.record",
                     record.url, record.rev, EncodeRecord(record)));
  return record;
}

absl::Status DeleteIssuerRow(WriteContext& context, const std::string& url) {
  SIGNET_RETURN_IF_ERROR(context.db.Run("DELETE FROM issuers WHERE url = ?", url));
  if (context.db.changed_rows() == 0) return absl::NotFoundError(absl::StrCat("issuer ", url, " does not exist"));
  return context.Changed(Change::Kind::kIssuer, url);
}

absl::StatusOr<IssuerRecord> SelectIssuer(SqliteConnection& db, const std::string& url) {
  SIGNET_ASSIGN_OR_RETURN(
      std::optional<IssuerRecord> record,
      FindRow<IssuerRecord>(db, DecodeIssuer, "SELECT n, url, rev, record FROM issuers WHERE url = ?", url));
  if (!record) return absl::NotFoundError(absl::StrCat("issuer ", url, " does not exist"));
  return *std::move(record);
}

absl::StatusOr<Page<IssuerRecord>> SelectIssuers(SqliteConnection& db, const PageRequest& request) {
  return SelectPage<IssuerRecord>(db, DecodeIssuer,
                                  "SELECT n, url, rev, record FROM issuers WHERE n > ? ORDER BY n LIMIT ?", request);
}

absl::StatusOr<UserRightsRecord> WriteUserRights(WriteContext& context, UserRightsRecord record) {
  const std::string user = oauth::UserKey(record.issuer, record.subject);
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kUserRights, user));
  record.rev = context.seq();
  record.at = DecodeMoment(EncodeMoment(record.at));
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("INSERT INTO user_rights (user, rev, record) VALUES (?, ?, ?) ON CONFLICT (user) DO UPDATE SET "
                     "rev = excluded.rev, record = excluded.record",
                     user, record.rev, EncodeRecord(record)));
  return record;
}

absl::StatusOr<UserRightsRecord> SelectUserRights(SqliteConnection& db, const std::string& issuer,
                                                  const std::string& subject) {
  SIGNET_ASSIGN_OR_RETURN(
      std::optional<UserRightsRecord> record,
      FindRow<UserRightsRecord>(db, DecodeUserRights, "SELECT n, rev, record FROM user_rights WHERE user = ?",
                                oauth::UserKey(issuer, subject)));
  if (!record) return absl::NotFoundError("no rights of this user are stored");
  return *std::move(record);
}

absl::StatusOr<Page<UserRightsRecord>> SelectAllUserRights(SqliteConnection& db, const PageRequest& request) {
  return SelectPage<UserRightsRecord>(db, DecodeUserRights,
                                      "SELECT n, rev, record FROM user_rights WHERE n > ? ORDER BY n LIMIT ?", request);
}

}  // namespace signet::server
