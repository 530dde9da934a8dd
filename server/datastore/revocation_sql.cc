#include "server/datastore/revocation_sql.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "server/datastore/grant_sql.h"
#include "server/datastore/identity_sql.h"
#include "server/datastore/row_codec.h"
#include "server/datastore/row_list.h"
#include "server/datastore/task_sql.h"

namespace signet::server {
namespace {

#define SIGNET_REVOCATION_COLUMNS "n, kind, entity, seq, not_before, reason, reinstated"

using oauth::EntityKind;

absl::StatusOr<oauth::Revocation> DecodeRevocation(const SqliteRows& row) {
  return oauth::Revocation{.kind = static_cast<EntityKind>(row.Int(1)),
                           .entity = row.String(2),
                           .seq = static_cast<uint64_t>(row.Int(3)),
                           .not_before = DecodeTime(row.Int(4)),
                           .reason = row.String(5),
                           .reinstated = row.Bool(6)};
}

absl::Status Note(WriteContext& context, EntityKind kind, const std::string& entity) {
  return context.Changed(Change::Kind::kRevocation, absl::StrCat(static_cast<int>(kind), "/", entity));
}

}  // namespace

absl::StatusOr<uint64_t> WriteRevocation(WriteContext& context, const RevokeChange& change, absl::Time now) {
  const oauth::Revocation& revocation = change.revocation;
  // The revocation first: memory kills what lives before it has gone through a hundred thousand entries.
  SIGNET_RETURN_IF_ERROR(Note(context, revocation.kind, revocation.entity));
  SIGNET_RETURN_IF_ERROR(context.db.Run(
      "INSERT INTO revocations (kind, entity, seq, not_before, reason, reinstated) VALUES (?, ?, ?, ?, ?, 0) "
      "ON CONFLICT (kind, entity) DO UPDATE SET seq = excluded.seq, not_before = excluded.not_before, "
      "reason = excluded.reason, reinstated = 0",
      static_cast<int64_t>(revocation.kind), revocation.entity, context.seq(), EncodeTime(revocation.not_before),
      revocation.reason));
  switch (revocation.kind) {
    case EntityKind::kGrant:
      SIGNET_RETURN_IF_ERROR(SetGrantState(context, revocation.entity, GrantState::kRevoked));
      break;
    case EntityKind::kTask:
      SIGNET_RETURN_IF_ERROR(CloseTaskRow(context, revocation.entity));
      break;
    case EntityKind::kIdentity:
      if (change.identity_state) {
        SIGNET_RETURN_IF_ERROR(SetIdentityState(context, revocation.entity, *change.identity_state, now).status());
      }
      break;
    default:
      break;
  }
  return context.seq();
}

absl::StatusOr<uint64_t> UndoRevocation(WriteContext& context, EntityKind kind, const std::string& entity,
                                        absl::Time now) {
  if (oauth::IsAbsolute(kind)) {
    return absl::FailedPreconditionError(
        absl::StrCat("what is revoked of kind ", oauth::EntityKindName(kind), " stays revoked: make a new one"));
  }
  SIGNET_ASSIGN_OR_RETURN(const oauth::Revocation stored, SelectRevocation(context.db, kind, entity));
  if (stored.reinstated) {
    return absl::NotFoundError(absl::StrCat(oauth::EntityKindName(kind), " ", entity, " was reinstated before"));
  }
  if (kind == EntityKind::kIdentity) {
    const absl::StatusOr<IdentityRecord> identity = SelectIdentity(context.db, entity);
    if (identity.ok()) {
      SIGNET_RETURN_IF_ERROR(SetIdentityState(context, entity, IdentityState::kActive, now).status());
    } else if (!absl::IsNotFound(identity.status())) {
      return identity.status();
    }
  }
  SIGNET_RETURN_IF_ERROR(context.db.Run("UPDATE revocations SET reinstated = 1 WHERE kind = ? AND entity = ?",
                                        static_cast<int64_t>(kind), entity));
  SIGNET_RETURN_IF_ERROR(Note(context, kind, entity));
  return context.seq();
}

absl::StatusOr<size_t> DeleteOldRevocations(WriteContext& context, absl::Time older_than, absl::Time tokens_older_than,
                                            size_t limit) {
  std::vector<std::pair<EntityKind, std::string>> old;
  {
    SIGNET_ASSIGN_OR_RETURN(
        SqliteRows rows,
        context.db.Query("SELECT kind, entity FROM revocations WHERE (not_before < ?1 AND kind <= ?2) OR "
                         "(not_before < ?3 AND kind = ?4) ORDER BY not_before LIMIT ?5",
                         EncodeTime(older_than), static_cast<int64_t>(EntityKind::kFamily),
                         EncodeTime(tokens_older_than), static_cast<int64_t>(EntityKind::kToken), limit));
    for (;;) {
      SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
      if (!more) break;
      old.emplace_back(static_cast<EntityKind>(rows.Int(0)), rows.String(1));
    }
  }
  for (const auto& [kind, entity] : old) {
    SIGNET_RETURN_IF_ERROR(
        context.db.Run("DELETE FROM revocations WHERE kind = ? AND entity = ?", static_cast<int64_t>(kind), entity));
    SIGNET_RETURN_IF_ERROR(Note(context, kind, entity));
  }
  return old.size();
}

absl::StatusOr<oauth::Revocation> SelectRevocation(SqliteConnection& db, EntityKind kind, const std::string& entity) {
  SIGNET_ASSIGN_OR_RETURN(
      std::optional<oauth::Revocation> revocation,
      FindRow<oauth::Revocation>(db, DecodeRevocation,
                                 "SELECT " SIGNET_REVOCATION_COLUMNS " FROM revocations WHERE kind = ? AND entity = ?",
                                 static_cast<int64_t>(kind), entity));
  if (!revocation)
    return absl::NotFoundError(absl::StrCat(oauth::EntityKindName(kind), " ", entity, " is not revoked"));
  return *std::move(revocation);
}

absl::StatusOr<Page<oauth::Revocation>> SelectRevocations(SqliteConnection& db, const PageRequest& request) {
  return SelectPage<oauth::Revocation>(
      db, DecodeRevocation, "SELECT " SIGNET_REVOCATION_COLUMNS " FROM revocations WHERE n > ? ORDER BY n LIMIT ?",
      request);
}

}  // namespace signet::server
