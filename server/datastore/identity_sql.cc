#include "server/datastore/identity_sql.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "server/datastore/entry_sql.h"
#include "server/datastore/row_codec.h"
#include "server/datastore/row_list.h"
#include "server/datastore/token_codec.h"

namespace signet::server {
namespace {

#define SIGNET_IDENTITY_COLUMNS "n, spiffe_id, state, version, rev, record"

absl::StatusOr<IdentityRecord> DecodeIdentity(const SqliteRows& row) {
  IdentityRecord record;
  SIGNET_RETURN_IF_ERROR(DecodeRecord(row.Text(5), record), absl::StrCat("identity ", row.Text(1)));
  record.spiffe_id = row.String(1);
  record.state = static_cast<IdentityState>(row.Int(2));
  record.version = row.Int(3);
  record.rev = static_cast<uint64_t>(row.Int(4));
  return record;
}

absl::Status Write(WriteContext& context, IdentityRecord& record) {
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kIdentity, record.spiffe_id));
  record.rev = context.seq();
  return context.db.Run(
      "INSERT INTO identities (spiffe_id, state, version, rev, record) VALUES (?, ?, ?, ?, ?) ON CONFLICT (spiffe_id) "
      "DO UPDATE SET state = excluded.state, version = excluded.version, rev = excluded.rev, record = excluded.record",
      record.spiffe_id, static_cast<int64_t>(record.state), record.version, record.rev, EncodeRecord(record));
}

bool MayBecome(IdentityState from, IdentityState to) {
  switch (from) {
    case IdentityState::kDraft:
      return to == IdentityState::kActive || to == IdentityState::kRetired;
    case IdentityState::kActive:
      return to == IdentityState::kSuspended || to == IdentityState::kRetired;
    case IdentityState::kSuspended:
      return to == IdentityState::kActive || to == IdentityState::kRetired;
    case IdentityState::kRetired:
      return false;
  }
  return false;
}

absl::string_view Name(IdentityState state) {
  switch (state) {
    case IdentityState::kDraft:
      return "a draft";
    case IdentityState::kActive:
      return "active";
    case IdentityState::kSuspended:
      return "suspended";
    case IdentityState::kRetired:
      return "retired";
  }
  return "damaged";
}

// Times as they are read back.
absl::Time Whole(absl::Time time) { return DecodeTime(EncodeTime(time)); }

}  // namespace

absl::StatusOr<IdentityRecord> InsertIdentity(WriteContext& context, IdentityRecord record, absl::Time now) {
  const absl::StatusOr<IdentityRecord> stored = SelectIdentity(context.db, record.spiffe_id);
  if (stored.ok()) {
    return absl::AlreadyExistsError(absl::StrCat("identity ", record.spiffe_id, " exists already and is ",
                                                 Name(stored->state), ": a SPIFFE ID is never given again"));
  }
  if (!absl::IsNotFound(stored.status())) return stored.status();
  if (record.state != IdentityState::kActive) record.state = IdentityState::kDraft;
  record.version = 1;
  record.created_at = record.updated_at = Whole(now);
  SIGNET_RETURN_IF_ERROR(Write(context, record));
  return record;
}

absl::StatusOr<IdentityRecord> ReplaceIdentity(WriteContext& context, IdentityRecord record, absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(const IdentityRecord stored, SelectIdentity(context.db, record.spiffe_id));
  if (stored.state == IdentityState::kRetired) {
    return absl::FailedPreconditionError(absl::StrCat("identity ", record.spiffe_id, " is retired"));
  }
  if (record.version != 0 && record.version != stored.version) {
    return absl::AbortedError(absl::StrCat("identity ", record.spiffe_id, " has version ", stored.version, ", not ",
                                           record.version, ": read it again, then change it"));
  }
  record.state = stored.state;
  record.version = stored.version + 1;
  record.created_at = stored.created_at;
  record.updated_at = Whole(now);
  SIGNET_RETURN_IF_ERROR(Write(context, record));
  return record;
}

absl::StatusOr<IdentityRecord> SetIdentityState(WriteContext& context, const std::string& spiffe_id,
                                                IdentityState state, absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(IdentityRecord record, SelectIdentity(context.db, spiffe_id));
  if (record.state == state) return record;
  if (!MayBecome(record.state, state)) {
    return absl::FailedPreconditionError(
        absl::StrCat("identity ", spiffe_id, " is ", Name(record.state), " and cannot become ", Name(state)));
  }
  record.state = state;
  record.updated_at = Whole(now);
  SIGNET_RETURN_IF_ERROR(Write(context, record));
  SIGNET_RETURN_IF_ERROR(UpdateWithdrawn(context, spiffe_id));
  return record;
}

absl::StatusOr<IdentityRecord> SelectIdentity(SqliteConnection& db, const std::string& spiffe_id) {
  SIGNET_ASSIGN_OR_RETURN(
      std::optional<IdentityRecord> record,
      FindRow<IdentityRecord>(db, DecodeIdentity,
                              "SELECT " SIGNET_IDENTITY_COLUMNS " FROM identities WHERE spiffe_id = ?", spiffe_id));
  if (!record) return absl::NotFoundError(absl::StrCat("identity ", spiffe_id, " does not exist"));
  return *std::move(record);
}

absl::StatusOr<Page<IdentityRecord>> SelectIdentities(SqliteConnection& db, const PageRequest& request) {
  return SelectPage<IdentityRecord>(
      db, DecodeIdentity, "SELECT " SIGNET_IDENTITY_COLUMNS " FROM identities WHERE n > ? ORDER BY n LIMIT ?", request);
}

absl::StatusOr<bool> IsStopped(SqliteConnection& db, const std::string& spiffe_id) {
  // Nothing is, nearly always; then one look at an empty index is all it costs.
  SIGNET_ASSIGN_OR_RETURN(const int64_t any, db.QueryInt("SELECT EXISTS (SELECT 1 FROM identities WHERE state >= 3)"));
  if (any == 0) return false;
  for (std::string above = spiffe_id;;) {
    SIGNET_ASSIGN_OR_RETURN(
        const int64_t stopped,
        db.QueryInt("SELECT EXISTS (SELECT 1 FROM identities WHERE state >= 3 AND spiffe_id = ?)", above));
    if (stopped != 0) return true;
    const size_t slash = above.rfind('/');
    if (slash == std::string::npos || above[slash - 1] == '/') return false;  // that was the trust domain
    above.resize(slash);
  }
}

}  // namespace signet::server
