#include "server/datastore/feed_sql.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace signet::server {

absl::StatusOr<uint64_t> SelectLastSeq(SqliteConnection& db) {
  SIGNET_ASSIGN_OR_RETURN(const int64_t seq, db.QueryInt("SELECT coalesce(max(seq), 0) FROM changes"));
  return static_cast<uint64_t>(seq);
}

absl::StatusOr<std::vector<Change>> SelectChanges(SqliteConnection& db, uint64_t after, size_t limit) {
  std::vector<Change> changes;
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows,
                          db.Query("SELECT seq, kind, key FROM changes WHERE seq > ? ORDER BY seq LIMIT ?", after,
                                   limit == 0 ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(limit)));
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) break;
    changes.push_back({static_cast<uint64_t>(rows.Int(0)), static_cast<Change::Kind>(rows.Int(1)), rows.String(2)});
  }
  // The numbers have no gaps, so a gap is what was pruned; a position beyond the end is one of another history.
  bool lost = !changes.empty() && changes.front().seq != after + 1;
  if (changes.empty()) {
    SIGNET_ASSIGN_OR_RETURN(const uint64_t last, SelectLastSeq(db));
    lost = after > last;
  }
  if (lost) {
    return absl::OutOfRangeError(
        absl::StrCat("the change feed does not reach back to ", after, ": read everything anew"));
  }
  return changes;
}

absl::StatusOr<std::string> SelectEpoch(SqliteConnection& db) {
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.Query("SELECT value FROM meta WHERE name = 'epoch'"));
  SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
  if (!found)
    return absl::DataLossError(absl::StrCat("datastore ", db.path(), " has lost its epoch: restart signet-server"));
  return rows.String(0);
}

}  // namespace signet::server
