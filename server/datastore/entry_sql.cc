#include "server/datastore/entry_sql.h"

#include <functional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/random.h"
#include "common/status/macros.h"
#include "server/datastore/identity_sql.h"
#include "server/datastore/record_filter.h"
#include "server/datastore/row_codec.h"
#include "server/datastore/sql_candidates.h"

namespace signet::server {
namespace {

#define SIGNET_ENTRY_COLUMNS                                                                                      \
  "n, id, spiffe_id, parent_id, selectors, federates_with, dns_names, hint, x509_svid_ttl, jwt_svid_ttl, admin, " \
  "downstream, store_svid, disable_x509_svid_prefetch, jwt_svid_include_jti, expires_at, created_at, revision, "  \
  "withdrawn"

// A row of SIGNET_ENTRY_COLUMNS.
absl::StatusOr<spiffe::Entry> DecodeEntry(const SqliteRows& row) {
  const std::string context = absl::StrCat("entry \"", row.Text(1), "\"");
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id spiffe_id, DecodeId(row.Text(2)), context);
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id parent_id, DecodeId(row.Text(3)), context);
  spiffe::Entry entry{.id = row.String(1), .spiffe_id = std::move(spiffe_id), .parent_id = std::move(parent_id)};
  SIGNET_ASSIGN_OR_RETURN(entry.selectors, DecodeSelectors(row.Text(4)), context);
  SIGNET_ASSIGN_OR_RETURN(entry.federates_with, DecodeStrings(row.Text(5)), context);
  SIGNET_ASSIGN_OR_RETURN(entry.dns_names, DecodeStrings(row.Text(6)), context);
  entry.hint = row.String(7);
  entry.x509_svid_ttl = absl::Seconds(row.Int(8));
  entry.jwt_svid_ttl = absl::Seconds(row.Int(9));
  entry.admin = row.Bool(10);
  entry.downstream = row.Bool(11);
  entry.store_svid = row.Bool(12);
  entry.disable_x509_svid_prefetch = row.Bool(13);
  entry.jwt_svid_include_jti = row.Bool(14);
  entry.expires_at = DecodeTime(row.Int(15));
  entry.created_at = DecodeTime(row.Int(16));
  entry.revision = row.Int(17);
  entry.withdrawn = row.Bool(18);
  return entry;
}

struct StoredEntry {
  int64_t n;
  spiffe::Entry entry;
};

template <typename... Args>
absl::StatusOr<std::optional<StoredEntry>> FindOne(SqliteConnection& db, absl::string_view sql, const Args&... args) {
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.Query(sql, args...));
  SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
  if (!found) return std::nullopt;
  SIGNET_ASSIGN_OR_RETURN(spiffe::Entry entry, DecodeEntry(rows));
  return StoredEntry{rows.Int(0), std::move(entry)};
}

absl::StatusOr<std::optional<StoredEntry>> FindById(SqliteConnection& db, const std::string& id) {
  return FindOne(db, "SELECT " SIGNET_ENTRY_COLUMNS " FROM entries WHERE id = ?", id);
}

absl::StatusOr<std::optional<StoredEntry>> FindSame(SqliteConnection& db, const spiffe::Entry& entry,
                                                    absl::string_view identity) {
  return FindOne(db, "SELECT " SIGNET_ENTRY_COLUMNS " FROM entries WHERE spiffe_id = ? AND identity = ?",
                 entry.spiffe_id.string(), SqliteBlob{identity});
}

// A UUID of version 7 (RFC 9562 5.7): milliseconds first, so that entries made together stand together in the index and
// a large import writes few pages.
std::string NewEntryId(absl::Time now) {
  const std::string random = crypto::RandomUuid();  // its version digit stands at 14
  const std::string time = absl::StrCat(absl::Hex(absl::ToUnixMillis(now) & 0xffffffffffff, absl::kZeroPad12));
  return absl::StrCat(time.substr(0, 8), "-", time.substr(8), "-7", random.substr(15));
}

absl::Status InsertSets(SqliteConnection& db, int64_t n, const spiffe::Entry& entry) {
  for (const spiffe::Selector& selector : entry.selectors) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("INSERT OR IGNORE INTO entry_selectors (selector, n) VALUES (?, ?)", selector.ToString(), n));
  }
  for (const std::string& trust_domain : entry.federates_with) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("INSERT OR IGNORE INTO entry_federates_with (trust_domain, n) VALUES (?, ?)", trust_domain, n));
  }
  return absl::OkStatus();
}

absl::Status DeleteSets(SqliteConnection& db, int64_t n, const spiffe::Entry& entry) {
  for (const spiffe::Selector& selector : entry.selectors) {
    SIGNET_RETURN_IF_ERROR(db.Run("DELETE FROM entry_selectors WHERE selector = ? AND n = ?", selector.ToString(), n));
  }
  for (const std::string& trust_domain : entry.federates_with) {
    SIGNET_RETURN_IF_ERROR(
        db.Run("DELETE FROM entry_federates_with WHERE trust_domain = ? AND n = ?", trust_domain, n));
  }
  return absl::OkStatus();
}

EntryResult Duplicate(StoredEntry existing, absl::string_view why) {
  absl::Status status = absl::AlreadyExistsError(absl::StrCat("entry \"", existing.entry.id, "\" ", why));
  return {std::move(status), std::move(existing.entry)};
}

absl::Status DeleteStored(WriteContext& context, const StoredEntry& stored) {
  SIGNET_RETURN_IF_ERROR(DeleteSets(context.db, stored.n, stored.entry));
  SIGNET_RETURN_IF_ERROR(context.db.Run("DELETE FROM entries WHERE n = ?", stored.n));
  context.entries_added -= 1;
  return context.Changed(Change::Kind::kEntry, stored.entry.id);
}

// The plain columns of the filter as SQL; sets are left to CandidateQuery().
void AppendConditions(const EntryFilter& filter, SqlQuery& query) {
  const auto equals = [&](absl::string_view column, const std::string& value) {
    absl::StrAppend(&query.sql, " AND ", column, " = ?");
    query.args.emplace_back(value);
  };
  if (filter.spiffe_id) equals("spiffe_id", filter.spiffe_id->string());
  if (filter.parent_id) equals("parent_id", filter.parent_id->string());
  if (filter.hint) {
    if (!filter.hint->empty()) absl::StrAppend(&query.sql, " AND hint <> ''");  // lets the partial index be used
    equals("hint", *filter.hint);
  }
  // Literals, again for the partial index.
  if (filter.downstream) absl::StrAppend(&query.sql, " AND downstream = ", *filter.downstream ? "1" : "0");
}

std::vector<std::string> SelectorTexts(const spiffe::Selectors& selectors) {
  std::vector<std::string> texts;
  for (const spiffe::Selector& selector : selectors) texts.push_back(selector.ToString());
  return texts;
}

std::optional<SqlQuery> Candidates(const EntryFilter& filter, int64_t after) {
  if (filter.selectors) {
    return CandidateQuery("entry_selectors", "selector", SelectorTexts(filter.selectors->selectors),
                          filter.selectors->match, after);
  }
  if (filter.federates_with) {
    return CandidateQuery("entry_federates_with", "trust_domain", filter.federates_with->trust_domains,
                          filter.federates_with->match, after);
  }
  return std::nullopt;
}

// Calls `visit` for each entry that the filter lets through, in order of n, until it returns false.
absl::Status Walk(SqliteConnection& db, const EntryFilter& filter, int64_t after, int64_t limit,
                  const std::function<bool(int64_t n, spiffe::Entry entry)>& visit) {
  const std::optional<SqlQuery> candidates = Candidates(filter, after);
  if (!candidates.has_value()) {
    SqlQuery query{"SELECT " SIGNET_ENTRY_COLUMNS " FROM entries WHERE n > ?", {after}};
    AppendConditions(filter, query);
    absl::StrAppend(&query.sql, " ORDER BY n LIMIT ?");
    query.args.emplace_back(limit);
    SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.QueryOnce(query.sql, query.args));
    for (;;) {
      SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
      if (!more) return absl::OkStatus();
      SIGNET_ASSIGN_OR_RETURN(spiffe::Entry entry, DecodeEntry(rows));
      if (!visit(rows.Int(0), std::move(entry))) return absl::OkStatus();
    }
  }
  SIGNET_ASSIGN_OR_RETURN(SqliteRows numbers, db.QueryOnce(candidates->sql, candidates->args));
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, numbers.Next());
    if (!more) return absl::OkStatus();
    SIGNET_ASSIGN_OR_RETURN(std::optional<StoredEntry> stored,
                            FindOne(db, "SELECT " SIGNET_ENTRY_COLUMNS " FROM entries WHERE n = ?", numbers.Int(0)));
    if (!stored.has_value() || !Matches(stored->entry, filter)) continue;
    if (!visit(stored->n, std::move(stored->entry))) return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<EntryResult> InsertEntry(WriteContext& context, spiffe::Entry entry, absl::Time now) {
  SqliteConnection& db = context.db;
  const std::string identity = EntryIdentity(entry);
  if (entry.id.empty()) {
    entry.id = NewEntryId(now);
  } else {
    SIGNET_ASSIGN_OR_RETURN(std::optional<StoredEntry> same_id, FindById(db, entry.id));
    if (same_id.has_value()) return Duplicate(*std::move(same_id), "exists already");
  }
  entry.created_at = DecodeTime(EncodeTime(now));
  entry.revision = 0;
  SIGNET_ASSIGN_OR_RETURN(entry.withdrawn, IsStopped(db, entry.spiffe_id.string()));
  SIGNET_RETURN_IF_ERROR(db.Run(
      "INSERT INTO entries (id, identity, spiffe_id, parent_id, selectors, federates_with, dns_names, hint, "
      "x509_svid_ttl, jwt_svid_ttl, admin, downstream, store_svid, disable_x509_svid_prefetch, "
      "jwt_svid_include_jti, expires_at, created_at, revision, withdrawn) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (spiffe_id, identity) DO NOTHING",
      entry.id, SqliteBlob{identity}, entry.spiffe_id.string(), entry.parent_id.string(),
      SqliteBlob{EncodeSelectors(entry.selectors)}, SqliteBlob{EncodeStrings(entry.federates_with)},
      SqliteBlob{EncodeStrings(entry.dns_names)}, entry.hint, absl::ToInt64Seconds(entry.x509_svid_ttl),
      absl::ToInt64Seconds(entry.jwt_svid_ttl), entry.admin, entry.downstream, entry.store_svid,
      entry.disable_x509_svid_prefetch, entry.jwt_svid_include_jti, EncodeTime(entry.expires_at),
      EncodeTime(entry.created_at), entry.revision, entry.withdrawn));
  if (db.changed_rows() == 0) {
    SIGNET_ASSIGN_OR_RETURN(std::optional<StoredEntry> same, FindSame(db, entry, identity));
    if (same.has_value()) return Duplicate(*std::move(same), "has the same parent, SPIFFE ID and selectors");
    return absl::InternalError("an entry was neither stored nor found");
  }
  SIGNET_RETURN_IF_ERROR(InsertSets(db, db.last_insert_row(), entry));
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kEntry, entry.id));
  context.entries_added += 1;
  return EntryResult{absl::OkStatus(), std::move(entry)};
}

absl::StatusOr<EntryResult> UpdateEntry(WriteContext& context, const spiffe::Entry& entry, const EntryFields& fields) {
  SqliteConnection& db = context.db;
  SIGNET_ASSIGN_OR_RETURN(std::optional<StoredEntry> stored, FindById(db, entry.id));
  if (!stored.has_value()) {
    return EntryResult{absl::NotFoundError(absl::StrCat("entry \"", entry.id, "\" does not exist")), std::nullopt};
  }
  spiffe::Entry updated = stored->entry;
  if (fields.spiffe_id) updated.spiffe_id = entry.spiffe_id;
  if (fields.parent_id) updated.parent_id = entry.parent_id;
  if (fields.selectors) updated.selectors = entry.selectors;
  if (fields.x509_svid_ttl) updated.x509_svid_ttl = entry.x509_svid_ttl;
  if (fields.jwt_svid_ttl) updated.jwt_svid_ttl = entry.jwt_svid_ttl;
  if (fields.federates_with) updated.federates_with = entry.federates_with;
  if (fields.dns_names) updated.dns_names = entry.dns_names;
  if (fields.hint) updated.hint = entry.hint;
  if (fields.admin) updated.admin = entry.admin;
  if (fields.downstream) updated.downstream = entry.downstream;
  if (fields.store_svid) updated.store_svid = entry.store_svid;
  if (fields.expires_at) updated.expires_at = DecodeTime(EncodeTime(entry.expires_at));
  if (fields.additional_attributes) {
    updated.disable_x509_svid_prefetch = entry.disable_x509_svid_prefetch;
    updated.jwt_svid_include_jti = entry.jwt_svid_include_jti;
  }
  updated.revision += 1;
  SIGNET_ASSIGN_OR_RETURN(updated.withdrawn, IsStopped(db, updated.spiffe_id.string()));

  const std::string identity = EntryIdentity(updated);
  SIGNET_ASSIGN_OR_RETURN(std::optional<StoredEntry> same, FindSame(db, updated, identity));
  if (same.has_value() && same->n != stored->n) {
    return Duplicate(*std::move(same), "has the same parent, SPIFFE ID and selectors");
  }
  SIGNET_RETURN_IF_ERROR(DeleteSets(db, stored->n, stored->entry));
  SIGNET_RETURN_IF_ERROR(InsertSets(db, stored->n, updated));
  SIGNET_RETURN_IF_ERROR(
      db.Run("UPDATE entries SET identity = ?, spiffe_id = ?, parent_id = ?, selectors = ?, federates_with = ?, "
             "dns_names = ?, hint = ?, x509_svid_ttl = ?, jwt_svid_ttl = ?, admin = ?, downstream = ?, store_svid = ?, "
             "disable_x509_svid_prefetch = ?, jwt_svid_include_jti = ?, expires_at = ?, revision = ?, withdrawn = ? "
             "WHERE n = ?",
             SqliteBlob{identity}, updated.spiffe_id.string(), updated.parent_id.string(),
             SqliteBlob{EncodeSelectors(updated.selectors)}, SqliteBlob{EncodeStrings(updated.federates_with)},
             SqliteBlob{EncodeStrings(updated.dns_names)}, updated.hint, absl::ToInt64Seconds(updated.x509_svid_ttl),
             absl::ToInt64Seconds(updated.jwt_svid_ttl), updated.admin, updated.downstream, updated.store_svid,
             updated.disable_x509_svid_prefetch, updated.jwt_svid_include_jti, EncodeTime(updated.expires_at),
             updated.revision, updated.withdrawn, stored->n));
  SIGNET_RETURN_IF_ERROR(context.Changed(Change::Kind::kEntry, updated.id));
  return EntryResult{absl::OkStatus(), std::move(updated)};
}

absl::StatusOr<bool> DeleteEntry(WriteContext& context, const std::string& id) {
  SIGNET_ASSIGN_OR_RETURN(const std::optional<StoredEntry> stored, FindById(context.db, id));
  if (!stored.has_value()) return false;
  SIGNET_RETURN_IF_ERROR(DeleteStored(context, *stored));
  return true;
}

absl::StatusOr<size_t> DeleteExpiredEntries(WriteContext& context, absl::Time now, size_t limit) {
  std::vector<StoredEntry> expired;
  {
    SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                            context.db.Query("SELECT " SIGNET_ENTRY_COLUMNS " FROM entries WHERE expires_at > 0 AND "
                                             "expires_at <= ? ORDER BY expires_at LIMIT ?",
                                             EncodeTime(now), limit));
    for (;;) {
      SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
      if (!more) break;
      SIGNET_ASSIGN_OR_RETURN(spiffe::Entry entry, DecodeEntry(rows));
      expired.push_back({rows.Int(0), std::move(entry)});
    }
  }
  for (const StoredEntry& stored : expired) SIGNET_RETURN_IF_ERROR(DeleteStored(context, stored));
  return expired.size();
}

// On segments: "/agent/orders" and "/agent/orders/1", never "/agent/orders-evil". '0' follows '/'.
#define SIGNET_AT_OR_BELOW "(spiffe_id = ?1 OR (spiffe_id > ?1 || '/' AND spiffe_id < ?1 || '0'))"

absl::Status UpdateWithdrawn(WriteContext& context, const std::string& spiffe_id) {
  SqliteConnection& db = context.db;
  SIGNET_ASSIGN_OR_RETURN(const bool stopped, IsStopped(db, spiffe_id));
  // In two statements: a definition may have a hundred thousand instances.
  SIGNET_RETURN_IF_ERROR(
      context.ChangedAll("INSERT INTO changes (kind, key) SELECT ?3, id FROM entries "
                         "WHERE " SIGNET_AT_OR_BELOW " AND withdrawn <> ?2 ORDER BY n",
                         spiffe_id, stopped, static_cast<int64_t>(Change::Kind::kEntry)));
  SIGNET_RETURN_IF_ERROR(
      db.Run("UPDATE entries SET withdrawn = ?2 WHERE " SIGNET_AT_OR_BELOW " AND withdrawn <> ?2", spiffe_id, stopped));
  if (stopped) return absl::OkStatus();
  // What was given back as a whole may hold another identity that is stopped itself.
  std::vector<std::string> inner;
  {
    SIGNET_ASSIGN_OR_RETURN(
        SqliteRows rows,
        db.Query("SELECT spiffe_id FROM identities WHERE " SIGNET_AT_OR_BELOW " AND state >= 3", spiffe_id));
    for (;;) {
      SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
      if (!more) break;
      inner.push_back(rows.String(0));
    }
  }
  for (const std::string& id : inner) SIGNET_RETURN_IF_ERROR(UpdateWithdrawn(context, id));
  return absl::OkStatus();
}

absl::StatusOr<spiffe::Entry> SelectEntry(SqliteConnection& db, const std::string& id) {
  SIGNET_ASSIGN_OR_RETURN(std::optional<StoredEntry> stored, FindById(db, id));
  if (!stored.has_value()) return absl::NotFoundError(absl::StrCat("entry \"", id, "\" does not exist"));
  return std::move(stored->entry);
}

absl::StatusOr<Page<spiffe::Entry>> SelectEntries(SqliteConnection& db, const EntryFilter& filter,
                                                  const PageRequest& request) {
  SIGNET_RETURN_IF_ERROR(CheckFilter(filter));
  SIGNET_ASSIGN_OR_RETURN(const int64_t after, ParsePageToken(request.after));
  Page<spiffe::Entry> page;
  int64_t last = 0;
  SIGNET_RETURN_IF_ERROR(Walk(db, filter, after, request.limit == 0 ? -1 : static_cast<int64_t>(request.limit) + 1,
                              [&](int64_t n, spiffe::Entry entry) {
                                if (request.limit != 0 && page.items.size() == request.limit) {
                                  page.next = absl::StrCat(last);
                                  return false;
                                }
                                last = n;
                                page.items.push_back(std::move(entry));
                                return true;
                              }));
  return page;
}

absl::StatusOr<size_t> CountEntryRows(SqliteConnection& db, const EntryFilter& filter) {
  SIGNET_RETURN_IF_ERROR(CheckFilter(filter));
  size_t count = 0;
  if (filter.selectors || filter.federates_with) {
    SIGNET_RETURN_IF_ERROR(Walk(db, filter, 0, -1, [&](int64_t, const spiffe::Entry&) {
      ++count;
      return true;
    }));
    return count;
  }
  SqlQuery query{"SELECT count(*) FROM entries WHERE n > ?", {int64_t{0}}};
  AppendConditions(filter, query);
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.QueryOnce(query.sql, query.args));
  SIGNET_RETURN_IF_ERROR(rows.Next().status());
  return static_cast<size_t>(rows.Int(0));
}

}  // namespace signet::server
