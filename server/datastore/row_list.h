// Rows to records, for tables of the form (n, key, ..., record): a look-up and a page in the order of n.
// `decode` is given the present row, whose column 0 is n.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status/macros.h"
#include "server/datastore/records.h"
#include "server/datastore/sql_candidates.h"
#include "server/datastore/sqlite.h"

namespace signet::server {

// The first row that `sql` finds.
template <typename T, typename Decode, typename... Args>
absl::StatusOr<std::optional<T>> FindRow(SqliteConnection& db, const Decode& decode, absl::string_view sql,
                                         const Args&... args) {
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.Query(sql, args...));
  SIGNET_ASSIGN_OR_RETURN(const bool found, rows.Next());
  if (!found) return std::nullopt;
  SIGNET_ASSIGN_OR_RETURN(T record, decode(rows));
  return std::optional<T>(std::move(record));
}

// `sql` ends in "n > ? ORDER BY n LIMIT ?".
template <typename T, typename Decode>
absl::StatusOr<Page<T>> SelectPage(SqliteConnection& db, const Decode& decode, absl::string_view sql,
                                   const PageRequest& request) {
  SIGNET_ASSIGN_OR_RETURN(const int64_t after, ParsePageToken(request.after));
  const int64_t limit =
      request.limit == 0 ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(request.limit) + 1;
  SIGNET_ASSIGN_OR_RETURN(SqliteRows rows, db.Query(sql, after, limit));
  Page<T> page;
  int64_t last = 0;
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const bool more, rows.Next());
    if (!more) return page;
    if (request.limit != 0 && page.items.size() == request.limit) {
      page.next = absl::StrCat(last);
      return page;
    }
    last = rows.Int(0);
    SIGNET_ASSIGN_OR_RETURN(T record, decode(rows));
    page.items.push_back(std::move(record));
  }
}

}  // namespace signet::server
