#include "server/datastore/sql_candidates.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace signet::server {
namespace {

// SQLite merges the arms of a compound select while it reads; the number of arms is limited to 500
// (sqlite.org/limits.html 4). More than this are gathered and sorted instead.
constexpr size_t kMaxArms = 64;
// Enough to narrow down; the rest is left to Matches().
constexpr size_t kMaxLookUps = 8;

}  // namespace

SqlQuery CandidateQuery(absl::string_view table, absl::string_view column, const std::vector<std::string>& wanted,
                        Match match, int64_t after) {
  SqlQuery query;
  const auto add_text = [&](absl::string_view text) { absl::StrAppend(&query.sql, text); };
  const auto add_value = [&](SqliteValue value) {
    add_text("?");
    query.args.push_back(std::move(value));
  };

  if (match == Match::kExact || match == Match::kSuperset) {
    // All of the wanted: walk one, look up the others.
    add_text(absl::StrCat("SELECT n FROM ", table, " AS first WHERE ", column, " = "));
    add_value(wanted.front());
    add_text(" AND n > ");
    add_value(after);
    for (size_t i = 1; i < std::min(wanted.size(), kMaxLookUps); ++i) {
      add_text(
          absl::StrCat(" AND EXISTS (SELECT 1 FROM ", table, " AS other WHERE other.n = first.n AND ", column, " = "));
      add_value(wanted[i]);
      add_text(")");
    }
  } else if (wanted.size() <= kMaxArms) {
    // At least one of the wanted.
    for (const std::string& value : wanted) {
      add_text(absl::StrCat(query.sql.empty() ? "" : " UNION ", "SELECT n FROM ", table, " WHERE ", column, " = "));
      add_value(value);
      add_text(" AND n > ");
      add_value(after);
    }
  } else {
    add_text(absl::StrCat("SELECT DISTINCT n FROM ", table, " WHERE n > "));
    add_value(after);
    for (const std::string& value : wanted) {
      add_text(query.args.size() == 1 ? absl::StrCat(" AND ", column, " IN (") : ", ");
      add_value(value);
    }
    add_text(")");
  }
  absl::StrAppend(&query.sql, " ORDER BY n");
  return query;
}

absl::StatusOr<int64_t> ParsePageToken(const std::string& token) {
  int64_t n = 0;
  if (!token.empty() && (!absl::SimpleAtoi(token, &n) || n < 0)) {
    return absl::InvalidArgumentError("page token is not one that a list has given");
  }
  return n;
}

}  // namespace signet::server
