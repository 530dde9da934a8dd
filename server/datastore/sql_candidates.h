// SQL for "the numbers of the records that a set filter may let through, in order": a stream over the side table of the
// set, so that a page costs what it returns. Matches() of record_filter.h has the last word.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/datastore/records.h"
#include "server/datastore/sqlite.h"

namespace signet::server {

struct SqlQuery {
  std::string sql;
  std::vector<SqliteValue> args;
};

// `table` has the columns `column` and n, and is sorted by them. Numbers greater than `after`.
SqlQuery CandidateQuery(absl::string_view table, absl::string_view column, const std::vector<std::string>& wanted,
                        Match match, int64_t after);

// Page::next of a list in SQL is the number of the last record of the page. kInvalidArgument for anything else.
absl::StatusOr<int64_t> ParsePageToken(const std::string& token);

}  // namespace signet::server
