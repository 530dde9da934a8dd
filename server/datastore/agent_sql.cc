#include "server/datastore/agent_sql.h"

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "server/datastore/entry_sql.h"
#include "server/datastore/record_filter.h"
#include "server/datastore/row_codec.h"
#include "server/datastore/sql_candidates.h"

namespace signet::server {
namespace {

#define SIGNET_AGENT_COLUMNS                                                                                   \
  "n, id, attestation_type, serial, new_serial, expires_at, new_expires_at, selectors, banned, can_reattest, " \
  "agent_version"

struct StoredAgent {
  int64_t n;
  AgentRecord agent;
};

// A row of SIGNET_AGENT_COLUMNS.
absl::StatusOr<StoredAgent> DecodeAgent(const SqliteRows& row) {
  const std::string context = absl::StrCat("agent ", row.Text(1));
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, DecodeId(row.Text(1)), context);
  AgentRecord agent{.id = std::move(id),
                    .attestation_type = row.String(2),
                    .serial = row.String(3),
                    .new_serial = row.String(4),
                    .expires_at = DecodeTime(row.Int(5)),
                    .new_expires_at = DecodeTime(row.Int(6)),
                    .selectors = {},
                    .banned = row.Bool(8),
                    .can_reattest = row.Bool(9),
                    .agent_version = row.String(10)};
  SIGNET_ASSIGN_OR_RETURN(agent.selectors, DecodeSelectors(row.Text(7)), context);
  return StoredAgent{row.Int(0), std::move(agent)};
}

absl::StatusOr<std::optional<StoredAgent>> FindStored(SqliteConnection& db, const spiffe::Id& id) {
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                          db.Query("SELECT " SIGNET_AGENT_COLUMNS " FROM agents WHERE id = ?", id.string()));
  SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
  if (!found) return std::nullopt;
  return DecodeAgent(rows);
}

absl::Status NoAgent(const spiffe::Id& id) {
  return absl::NotFoundError(absl::StrCat("agent ", id.string(), " does not exist"));
}
absl::Status Banned(const spiffe::Id& id) {
  return absl::PermissionDeniedError(absl::StrCat("agent ", id.string(), " is banned"));
}

absl::StatusOr<StoredAgent> RequireStored(SqliteConnection& db, const spiffe::Id& id) {
  SIGNET_ASSIGN_OR_RETURN(std::optional<StoredAgent> stored, FindStored(db, id));
  if (!stored.has_value()) return NoAgent(id);
  return *std::move(stored);
}

absl::Status InsertSelectors(SqliteConnection& db, int64_t n, const AgentRecord& agent) {
  for (const spiffe::Selector& selector : agent.selectors) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("INSERT OR IGNORE INTO agent_selectors (selector, n) VALUES (?, ?)", selector.ToString(), n));
  }
  return absl::OkStatus();
}

absl::Status DeleteSelectors(SqliteConnection& db, const StoredAgent& stored) {
  for (const spiffe::Selector& selector : stored.agent.selectors) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("DELETE FROM agent_selectors WHERE selector = ? AND n = ?", selector.ToString(), stored.n));
  }
  return absl::OkStatus();
}

absl::Status DeleteStored(WriteContext& context, const StoredAgent& stored) {
  SIGNET_RETURN_IF_ERROR(DeleteSelectors(context.db, stored));
  SIGNET_RETURN_IF_ERROR(context.db.Run("DELETE FROM agents WHERE n = ?", stored.n));
  return context.Changed(Change::Kind::kAgent, stored.agent.id.string());
}

// One statement decides who has the token: of any number of racers one sees a row change.
absl::Status SpendToken(SqliteConnection& db, const std::string& token_sha256, const std::string& key_sha256,
                        bool agent_exists, absl::Time now) {
  if (key_sha256.empty()) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("DELETE FROM join_tokens WHERE token_sha256 = ? AND expires_at > ? AND spent_by = x''",
               SqliteBlob{token_sha256}, EncodeTime(now)));
  } else {
    SIGNET_RETURN_IF_ERROR(
        db.Run("UPDATE join_tokens SET spent_by = ?, expires_at = ? WHERE token_sha256 = ? AND expires_at > ? "
               "AND spent_by = x''",
               SqliteBlob{key_sha256}, EncodeTime(now + kSpentTokenLasts), SqliteBlob{token_sha256}, EncodeTime(now)));
  }
  if (db.changed_rows() == 1) return absl::OkStatus();
  if (agent_exists && !key_sha256.empty()) {
    SIGNET_ASSIGN_OR_RETURN(
        const int64_t its_own,
        db.QueryInt("SELECT count(*) FROM join_tokens WHERE token_sha256 = ? AND expires_at > ? AND spent_by = ?",
                    SqliteBlob{token_sha256}, EncodeTime(now), SqliteBlob{key_sha256}));
    if (its_own == 1) return absl::OkStatus();
  }
  return absl::NotFoundError("join token is unknown, spent or expired");
}

absl::Status Walk(SqliteConnection& db, const AgentFilter& filter, int64_t after,
                  const std::function<bool(int64_t n, AgentRecord agent)>& visit) {
  const auto pass = [&](SqliteRows& rows) -> absl::StatusOr<bool> {
    SIGNET_ASSIGN_OR_RETURN(StoredAgent stored, DecodeAgent(rows));
    return !Matches(stored.agent, filter) || visit(stored.n, std::move(stored.agent));
  };
  if (!filter.selectors) {
    SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                            db.Query("SELECT " SIGNET_AGENT_COLUMNS " FROM agents WHERE n > ? ORDER BY n", after));
    for (;;) {
      SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
      if (!more) return absl::OkStatus();
      SIGNET_ASSIGN_OR_RETURN(const bool go_on, pass(rows));
      if (!go_on) return absl::OkStatus();
    }
  }
  std::vector<std::string> wanted;
  for (const spiffe::Selector& selector : filter.selectors->selectors) wanted.push_back(selector.ToString());
  const SqlQuery query = CandidateQuery("agent_selectors", "selector", wanted, filter.selectors->match, after);
  SIGNET_ASSIGN_OR_RETURN(SqliteRows numbers, db.QueryOnce(query.sql, query.args));
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, numbers.Next());
    if (!more) return absl::OkStatus();
    SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                            db.Query("SELECT " SIGNET_AGENT_COLUMNS " FROM agents WHERE n = ?", numbers.Int(0)));
    SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
    if (!found) continue;
    SIGNET_ASSIGN_OR_RETURN(const bool go_on, pass(rows));
    if (!go_on) return absl::OkStatus();
  }
}

}  // namespace

absl::Status WriteAttestation(WriteContext& context, const Attestation& attestation, absl::Time now) {
  SqliteConnection& db = context.db;
  const AgentRecord& agent = attestation.agent;
  SIGNET_ASSIGN_OR_RETURN(const std::optional<StoredAgent> stored, FindStored(db, agent.id));
  if (stored.has_value() && stored->agent.banned) return Banned(agent.id);
  if (attestation.consume_token_sha256.has_value()) {
    SIGNET_RETURN_IF_ERROR(
        SpendToken(db, *attestation.consume_token_sha256, attestation.key_sha256, stored.has_value(), now));
  }
  if (stored.has_value()) SIGNET_RETURN_IF_ERROR(DeleteSelectors(db, *stored));
  SIGNET_RETURN_IF_ERROR(db.Run(
      "INSERT INTO agents (id, attestation_type, serial, new_serial, expires_at, new_expires_at, selectors, "
      "banned, can_reattest, agent_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
      "attestation_type = excluded.attestation_type, serial = excluded.serial, new_serial = excluded.new_serial, "
      "expires_at = excluded.expires_at, new_expires_at = excluded.new_expires_at, "
      "selectors = excluded.selectors, banned = excluded.banned, can_reattest = excluded.can_reattest, "
      "agent_version = excluded.agent_version",
      agent.id.string(), agent.attestation_type, agent.serial, agent.new_serial, EncodeTime(agent.expires_at),
      EncodeTime(agent.new_expires_at), SqliteBlob{EncodeSelectors(agent.selectors)}, agent.banned, agent.can_reattest,
      agent.agent_version));
  const int64_t n = stored.has_value() ? stored->n : db.last_insert_row();
  SIGNET_RETURN_IF_ERROR(InsertSelectors(db, n, agent));
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kAgent, agent.id.string()));
  if (attestation.alias.has_value()) {
    SIGNET_ASSIGN_OR_RETURN(const EntryResult alias, InsertEntry(context, *attestation.alias, now));
    if (!alias.status.ok() && !absl::IsAlreadyExists(alias.status)) return alias.status;
  }
  return absl::OkStatus();
}

absl::Status UpdateNewSerial(WriteContext& context, const spiffe::Id& id, const std::string& serial,
                             absl::Time expires_at) {
  SIGNET_ASSIGN_OR_RETURN(const StoredAgent stored, RequireStored(context.db, id));
  if (stored.agent.banned) return Banned(id);
  SIGNET_RETURN_IF_ERROR(context.db.Run("UPDATE agents SET new_serial = ?, new_expires_at = ? WHERE n = ?", serial,
                                        EncodeTime(expires_at), stored.n));
  return context.Changed(Change::Kind::kAgent, id.string());
}

absl::Status PromoteSerial(WriteContext& context, const spiffe::Id& id, const std::string& serial) {
  SIGNET_ASSIGN_OR_RETURN(const StoredAgent stored, RequireStored(context.db, id));
  if (stored.agent.banned) return Banned(id);
  if (stored.agent.serial == serial) return absl::OkStatus();
  if (serial.empty() || stored.agent.new_serial != serial) {
    return absl::FailedPreconditionError(absl::StrCat("agent ", id.string(), " has no SVID with serial ", serial));
  }
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("UPDATE agents SET serial = new_serial, expires_at = new_expires_at, "
                     "new_serial = '', new_expires_at = 0 WHERE n = ?",
                     stored.n));
  return context.Changed(Change::Kind::kAgent, id.string());
}

absl::Status UpdateAgentVersion(WriteContext& context, const spiffe::Id& id, const std::string& version) {
  SIGNET_ASSIGN_OR_RETURN(const StoredAgent stored, RequireStored(context.db, id));
  if (stored.agent.agent_version == version) return absl::OkStatus();
  SIGNET_RETURN_IF_ERROR(context.db.Run("UPDATE agents SET agent_version = ? WHERE n = ?", version, stored.n));
  return context.Changed(Change::Kind::kAgent, id.string());
}

absl::Status MarkBanned(WriteContext& context, const spiffe::Id& id) {
  SIGNET_ASSIGN_OR_RETURN(const StoredAgent stored, RequireStored(context.db, id));
  SIGNET_RETURN_IF_ERROR(
      context.db.Run("UPDATE agents SET banned = 1, serial = '', new_serial = '' WHERE n = ?", stored.n));
  return context.Changed(Change::Kind::kAgent, id.string());
}

absl::Status DeleteAgentRow(WriteContext& context, const spiffe::Id& id) {
  SIGNET_ASSIGN_OR_RETURN(const StoredAgent stored, RequireStored(context.db, id));
  return DeleteStored(context, stored);
}

absl::StatusOr<size_t> DeleteExpiredAgents(WriteContext& context, absl::Time expired_before, bool include_tofu,
                                           size_t limit) {
  std::vector<StoredAgent> expired;
  {
    // A renewal that was not used yet keeps the agent too.
    SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                            context.db.Query("SELECT " SIGNET_AGENT_COLUMNS " FROM agents WHERE expires_at < ?1 AND "
                                             "new_expires_at < ?1 AND banned = 0 AND (can_reattest = 1 OR ?2) LIMIT ?3",
                                             EncodeTime(expired_before), include_tofu, limit));
    for (;;) {
      SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
      if (!more) break;
      SIGNET_ASSIGN_OR_RETURN(StoredAgent stored, DecodeAgent(rows));
      expired.push_back(std::move(stored));
    }
  }
  for (const StoredAgent& stored : expired) SIGNET_RETURN_IF_ERROR(DeleteStored(context, stored));
  return expired.size();
}

absl::StatusOr<AgentRecord> SelectAgent(SqliteConnection& db, const spiffe::Id& id) {
  SIGNET_ASSIGN_OR_RETURN(StoredAgent stored, RequireStored(db, id));
  return std::move(stored.agent);
}

absl::StatusOr<Page<AgentRecord>> SelectAgents(SqliteConnection& db, const AgentFilter& filter,
                                               const PageRequest& request) {
  SIGNET_RETURN_IF_ERROR(CheckFilter(filter));
  SIGNET_ASSIGN_OR_RETURN(const int64_t after, ParsePageToken(request.after));
  Page<AgentRecord> page;
  int64_t last = 0;
  SIGNET_RETURN_IF_ERROR(Walk(db, filter, after, [&](int64_t n, AgentRecord agent) {
    if (request.limit != 0 && page.items.size() == request.limit) {
      page.next = absl::StrCat(last);
      return false;
    }
    last = n;
    page.items.push_back(std::move(agent));
    return true;
  }));
  return page;
}

absl::StatusOr<size_t> CountAgentRows(SqliteConnection& db, const AgentFilter& filter) {
  SIGNET_RETURN_IF_ERROR(CheckFilter(filter));
  if (!filter.attestation_type && !filter.selectors && !filter.banned && !filter.can_reattest &&
      !filter.expires_before) {
    SIGNET_ASSIGN_OR_RETURN(const int64_t count, db.QueryInt("SELECT count(*) FROM agents"));
    return static_cast<size_t>(count);
  }
  size_t count = 0;
  SIGNET_RETURN_IF_ERROR(Walk(db, filter, 0, [&](int64_t, const AgentRecord&) {
    ++count;
    return true;
  }));
  return count;
}

absl::Status InsertJoinToken(WriteContext& context, const JoinTokenRecord& token) {
  SIGNET_RETURN_IF_ERROR(context.db.Run(
      "INSERT INTO join_tokens (token_sha256, expires_at, alias_id) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET "
      "expires_at = excluded.expires_at, alias_id = excluded.alias_id, spent_by = x'' WHERE spent_by <> x''",
      SqliteBlob{token.token_sha256}, EncodeTime(token.expires_at), token.alias_id ? token.alias_id->string() : ""));
  if (context.db.changed_rows() == 0) return absl::AlreadyExistsError("a join token of this value exists already");
  return absl::OkStatus();
}

absl::StatusOr<JoinTokenRecord> SelectJoinToken(SqliteConnection& db, const std::string& token_sha256, absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(
      SqliteRows rows,
      db.Query("SELECT expires_at, alias_id, spent_by FROM join_tokens WHERE token_sha256 = ? AND expires_at > ?",
               SqliteBlob{token_sha256}, EncodeTime(now)));
  SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
  if (!found) return absl::NotFoundError("join token is unknown, spent or expired");
  JoinTokenRecord token{.token_sha256 = token_sha256,
                        .expires_at = DecodeTime(rows.Int(0)),
                        .alias_id = std::nullopt,
                        .spent_by = rows.String(2)};
  if (!rows.Text(1).empty()) {
    SIGNET_ASSIGN_OR_RETURN(token.alias_id, DecodeId(rows.Text(1)), "join token");
  }
  return token;
}

absl::StatusOr<size_t> DeleteExpiredJoinTokens(WriteContext& context, absl::Time now) {
  SIGNET_RETURN_IF_ERROR(context.db.Run("DELETE FROM join_tokens WHERE expires_at <= ?", EncodeTime(now)));
  return static_cast<size_t>(context.db.changed_rows());
}

}  // namespace signet::server
