#include "server/datastore/token_use_sql.h"

#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/status/macros.h"
#include "server/datastore/row_codec.h"
#include "server/datastore/row_list.h"
#include "server/datastore/task_sql.h"

namespace signet::server {
namespace {

#define SIGNET_AUDIT_COLUMNS "n, server_id, epoch, seq, body, hash, txn"

// Rounded up: a value is not free again before its time.
int64_t Until(absl::Time time) { return EncodeTime(time + absl::Seconds(1) - absl::Nanoseconds(1)); }

// One statement decides: of any number of racers one sees its row written.
absl::Status UseOnce(SqliteConnection& db, const std::string& value, absl::Time until, absl::Time now) {
  SIGNET_RETURN_IF_ERROR(
      db.Run("INSERT INTO once_values (value, until_time) VALUES (?1, ?2) ON CONFLICT (value) DO UPDATE SET "
             "until_time = excluded.until_time WHERE until_time <= ?3",
             value, Until(until), EncodeTime(now)));
  if (db.changed_rows() != 0) return absl::OkStatus();
  absl::Status used = absl::AlreadyExistsError("a value that is good once was used before");
  used.SetPayload(kUsedBeforeUrl, absl::Cord(value));
  return used;
}

// T8: one statement decides, as above. A parent without a row has given nothing yet.
absl::Status TakeFromParent(SqliteConnection& db, const Consume::ParentCalls& parent) {
  if (parent.calls < 0) return absl::InvalidArgumentError("a reservation of less than no calls");
  if (parent.calls <= parent.quota) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("INSERT INTO token_calls (token, given, expires_at) VALUES (?1, ?2, ?3) ON CONFLICT (token) DO UPDATE "
               "SET given = given + excluded.given WHERE given <= ?4 - excluded.given",
               parent.token, parent.calls, Until(parent.expires_at), parent.quota));
    if (db.changed_rows() != 0) return absl::OkStatus();
  }
  return NoCallsLeft(kOfParent,
                     absl::StrCat("the subject token has fewer than ", parent.calls, " calls left of ", parent.quota));
}

absl::Status SpendRefresh(SqliteConnection& db, const Consume& consume, absl::Time now) {
  SIGNET_RETURN_IF_ERROR(db.Run(
      "UPDATE refresh_tokens SET used = 1, used_at = ?1, successor = ?2, successor_for = ?3 WHERE hash = ?4 AND "
      "used = 0 AND expires_at > ?1",
      EncodeTime(now), SqliteBlob{consume.successor}, consume.successor_for, SqliteBlob{*consume.spend_refresh}));
  if (db.changed_rows() == 1) return absl::OkStatus();
  SIGNET_ASSIGN_OR_RETURN(const RefreshRecord stored, SelectRefresh(db, *consume.spend_refresh));
  if (stored.used) return absl::AbortedError("the refresh token was used before");
  return absl::NotFoundError("the refresh token has expired");
}

absl::Status InsertRefresh(SqliteConnection& db, const RefreshRecord& refresh) {
  SIGNET_RETURN_IF_ERROR(
      db.Run("INSERT INTO refresh_tokens (hash, family, instance, task, state, expires_at, used, used_at, successor, "
             "successor_for) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING",
             SqliteBlob{refresh.hash}, refresh.family, refresh.instance, refresh.task, refresh.state,
             EncodeTime(refresh.expires_at), refresh.used, EncodeTime(refresh.used_at), SqliteBlob{refresh.successor},
             refresh.successor_for));
  if (db.changed_rows() == 0) return absl::AlreadyExistsError("a refresh token of this value exists already");
  return absl::OkStatus();
}

absl::StatusOr<AuditRecord> DecodeAudit(const SqliteRows& row) {
  return AuditRecord{.server_id = row.String(1),
                     .epoch = static_cast<uint64_t>(row.Int(2)),
                     .seq = static_cast<uint64_t>(row.Int(3)),
                     .body = row.String(4),
                     .hash = row.String(5),
                     .txn = row.String(6)};
}

// Only the newest epoch of a server grows: an older one is of a process that has been replaced.
absl::Status AppendAudit(SqliteConnection& db, const AuditAppend& append) {
  uint64_t seq = 0;
  std::string previous;
  {
    SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                            db.Query("SELECT epoch, seq, hash FROM audit_records WHERE server_id = ? ORDER BY epoch "
                                     "DESC, seq DESC LIMIT 1",
                                     append.server_id));
    SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
    const uint64_t epoch = found ? static_cast<uint64_t>(rows.Int(0)) : 0;
    if (found && epoch > append.epoch) {
      return absl::FailedPreconditionError(absl::StrCat("the audit chain of server ", append.server_id, " has epoch ",
                                                        epoch, ", newer than ", append.epoch,
                                                        ": another process writes it"));
    }
    if (found && epoch == append.epoch) {
      seq = static_cast<uint64_t>(rows.Int(1));
      previous = rows.String(2);
    }
  }
  const std::string body = append.body(seq + 1, previous);
  return db.Run("INSERT INTO audit_records (server_id, epoch, seq, body, hash, txn) VALUES (?, ?, ?, ?, ?, ?)",
                append.server_id, append.epoch, seq + 1, body, SqliteBlob{crypto::Sha256(body)}, append.txn);
}

template <typename... Args>
absl::StatusOr<std::vector<AuditRecord>> AuditRows(SqliteConnection& db, absl::string_view sql, const Args&... args) {
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.Query(sql, args...));
  std::vector<AuditRecord> records;
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return records;
    SIGNET_ASSIGN_OR_RETURN(AuditRecord record, DecodeAudit(rows));
    records.push_back(std::move(record));
  }
}

int64_t Limit(size_t limit) { return limit == 0 ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(limit); }

}  // namespace

absl::Status NoCallsLeft(absl::string_view whose, absl::string_view message) {
  absl::Status status = absl::ResourceExhaustedError(message);
  status.SetPayload(kNoCallsLeftUrl, absl::Cord(whose));
  return status;
}

// The audit record last: it has its place only when nothing else is refused.
absl::Status WriteConsume(WriteContext& context, const Consume& consume, absl::Time now) {
  SqliteConnection& db = context.db;
  for (const auto& [value, until] : consume.once) SIGNET_RETURN_IF_ERROR(UseOnce(db, value, until, now));
  if (consume.spend_refresh) SIGNET_RETURN_IF_ERROR(SpendRefresh(db, consume, now));
  if (consume.budget) SIGNET_RETURN_IF_ERROR(ReserveCalls(context, *consume.budget));
  if (consume.parent_calls) SIGNET_RETURN_IF_ERROR(TakeFromParent(db, *consume.parent_calls));
  if (consume.new_refresh) SIGNET_RETURN_IF_ERROR(InsertRefresh(db, *consume.new_refresh));
  return consume.audit ? AppendAudit(db, *consume.audit) : absl::OkStatus();
}

absl::StatusOr<size_t> DeleteExpiredUses(WriteContext& context, absl::Time now) {
  SIGNET_RETURN_IF_ERROR(context.db.Run("DELETE FROM once_values WHERE until_time <= ?", EncodeTime(now)));
  int64_t deleted = context.db.changed_rows();
  SIGNET_RETURN_IF_ERROR(context.db.Run("DELETE FROM refresh_tokens WHERE expires_at <= ?", EncodeTime(now)));
  deleted += context.db.changed_rows();
  SIGNET_RETURN_IF_ERROR(context.db.Run("DELETE FROM token_calls WHERE expires_at <= ?", EncodeTime(now)));
  deleted += context.db.changed_rows();
  return static_cast<size_t>(deleted);
}

absl::StatusOr<RefreshRecord> SelectRefresh(SqliteConnection& db, const std::string& hash) {
  const auto decode = [&](const SqliteRows& row) -> absl::StatusOr<RefreshRecord> {
    return RefreshRecord{.hash = hash,
                         .family = row.String(0),
                         .instance = row.String(1),
                         .task = row.String(2),
                         .state = row.String(3),
                         .expires_at = DecodeTime(row.Int(4)),
                         .used = row.Bool(5),
                         .used_at = DecodeTime(row.Int(6)),
                         .successor = row.String(7),
                         .successor_for = row.String(8)};
  };
  SIGNET_ASSIGN_OR_RETURN(
      std::optional<RefreshRecord> record,
      FindRow<RefreshRecord>(
          db, decode,
          "SELECT family, instance, task, state, expires_at, used, used_at, successor, successor_for "
          "FROM refresh_tokens WHERE hash = ?",
          SqliteBlob{hash}));
  if (!record) return absl::NotFoundError("the refresh token is unknown");
  return *std::move(record);
}

absl::StatusOr<std::vector<AuditRecord>> SelectAudit(SqliteConnection& db, const std::string& server_id, uint64_t epoch,
                                                     uint64_t after_seq, size_t limit) {
  return AuditRows(db,
                   "SELECT " SIGNET_AUDIT_COLUMNS
                   " FROM audit_records WHERE server_id = ? AND epoch = ? AND seq > ? "
                   "ORDER BY seq LIMIT ?",
                   server_id, epoch, after_seq, Limit(limit));
}

absl::StatusOr<std::vector<AuditRecord>> SelectAuditOfChain(SqliteConnection& db, const std::string& txn,
                                                            size_t limit) {
  return AuditRows(db,
                   "SELECT " SIGNET_AUDIT_COLUMNS " FROM audit_records WHERE txn = ? AND txn <> '' ORDER BY n LIMIT ?",
                   txn, Limit(limit));
}

absl::StatusOr<AuditRecord> SelectLastAudit(SqliteConnection& db, const std::string& server_id) {
  SIGNET_ASSIGN_OR_RETURN(std::optional<AuditRecord> record,
                          FindRow<AuditRecord>(db, DecodeAudit,
                                               "SELECT " SIGNET_AUDIT_COLUMNS
                                               " FROM audit_records WHERE server_id = ? ORDER BY epoch DESC, "
                                               "seq DESC LIMIT 1",
                                               server_id));
  if (!record) return absl::NotFoundError(absl::StrCat("server ", server_id, " has no audit record"));
  return *std::move(record);
}

absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> SelectAuditChains(SqliteConnection& db) {
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                          db.Query("SELECT DISTINCT server_id, epoch FROM audit_records ORDER BY server_id, epoch"));
  std::vector<std::pair<std::string, uint64_t>> chains;
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return chains;
    chains.emplace_back(rows.String(0), static_cast<uint64_t>(rows.Int(1)));
  }
}

}  // namespace signet::server
