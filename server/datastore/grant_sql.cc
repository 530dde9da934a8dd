#include "server/datastore/grant_sql.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/crypto/random.h"
#include "common/status/macros.h"
#include "server/datastore/row_codec.h"
#include "server/datastore/row_list.h"
#include "server/datastore/token_codec.h"

namespace signet::server {
namespace {

#define SIGNET_GRANT_COLUMNS "n, id, state, rev, record"

struct StoredGrant {
  int64_t n;
  GrantRecord grant;
};

absl::StatusOr<GrantRecord> DecodeGrant(const SqliteRows& row) {
  GrantRecord record;
  SIGNET_RETURN_IF_ERROR(DecodeRecord(row.Text(4), record), absl::StrCat("grant ", row.Text(1)));
  record.id = row.String(1);
  record.state = static_cast<GrantState>(row.Int(2));
  record.rev = static_cast<uint64_t>(row.Int(3));
  return record;
}

absl::StatusOr<std::vector<StoredGrant>> ActiveGrantsOf(SqliteConnection& db, const std::string& resource) {
  SIGNET_ASSIGN_OR_RETURN(
      SqliteRows rows, db.Query("SELECT " SIGNET_GRANT_COLUMNS " FROM grants WHERE state = 1 AND n IN (SELECT n FROM "
                                "grant_resources WHERE resource = ?) ORDER BY n",
                                resource));
  std::vector<StoredGrant> found;
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return found;
    SIGNET_ASSIGN_OR_RETURN(GrantRecord grant, DecodeGrant(rows));
    found.push_back({rows.Int(0), std::move(grant)});
  }
}

}  // namespace

std::string NewRecordId(absl::string_view prefix) {
  constexpr absl::string_view kAlphabet = "0123456789abcdefghjkmnpqrstvwxyz";  // Crockford: nothing to misread
  std::string id(prefix);
  for (const char byte : crypto::RandomBytes(26)) id.push_back(kAlphabet[static_cast<unsigned char>(byte) & 31]);
  return id;
}

absl::StatusOr<GrantRecord> InsertGrant(WriteContext& context, GrantRecord record, absl::Time now) {
  if (record.id.empty()) record.id = NewRecordId("g-");
  record.state = GrantState::kActive;
  record.created_at = DecodeTime(EncodeTime(now));
  record.expires_at = DecodeMoment(EncodeMoment(record.expires_at));
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kGrant, record.id));
  record.rev = context.seq();
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("INSERT INTO grants (id, state, rev, record) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                     record.id, static_cast<int64_t>(record.state), record.rev, EncodeRecord(record)));
  if (context.db.changed_rows() == 0) {
    return absl::AlreadyExistsError(absl::StrCat("grant \"", record.id, "\" exists already"));
  }
  const int64_t n = context.db.last_insert_row();
  std::set<std::string> resources;
  for (const oauth::Atom& atom : record.atoms) resources.insert(atom.resource);
  for (const std::string& resource : resources) {
    SIGNET_RETURN_IF_ERROR(context.db.Run("INSERT INTO grant_resources (resource, n) VALUES (?, ?)", resource, n));
  }
  return record;
}

absl::Status SetGrantState(WriteContext& context, const std::string& id, GrantState state) {
  SIGNET_RETURN_IF_ERROR(context.db.Run("UPDATE grants SET state = ? WHERE id = ?", static_cast<int64_t>(state), id));
  if (context.db.changed_rows() == 0) return absl::NotFoundError(absl::StrCat("grant \"", id, "\" does not exist"));
  return context.Changed(Change::Kind::kGrant, id);
}

absl::Status VoidGrants(WriteContext& context, const std::string& resource,
                        const std::function<bool(const oauth::Atom&)>& touched) {
  SIGNET_ASSIGN_OR_RETURN(const std::vector<StoredGrant> grants, ActiveGrantsOf(context.db, resource));
  for (const auto& [n, grant] : grants) {
    const bool concerned = std::any_of(grant.atoms.begin(), grant.atoms.end(), [&](const oauth::Atom& atom) {
      return atom.resource == resource && touched(atom);
    });
    if (concerned) SIGNET_RETURN_IF_ERROR(SetGrantState(context, grant.id, GrantState::kVoid));
  }
  return absl::OkStatus();
}

absl::StatusOr<GrantRecord> SelectGrant(SqliteConnection& db, const std::string& id) {
  SIGNET_ASSIGN_OR_RETURN(
      std::optional<GrantRecord> record,
      FindRow<GrantRecord>(db, DecodeGrant, "SELECT " SIGNET_GRANT_COLUMNS " FROM grants WHERE id = ?", id));
  if (!record) return absl::NotFoundError(absl::StrCat("grant \"", id, "\" does not exist"));
  return *std::move(record);
}

absl::StatusOr<Page<GrantRecord>> SelectGrants(SqliteConnection& db, const PageRequest& request) {
  return SelectPage<GrantRecord>(db, DecodeGrant,
                                 "SELECT " SIGNET_GRANT_COLUMNS " FROM grants WHERE n > ? ORDER BY n LIMIT ?", request);
}

}  // namespace signet::server
