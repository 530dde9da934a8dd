#include "agent/peer/proc_text.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

// Decimal digits only: SimpleAtoi alone also takes signs and blanks.
template <typename T>
bool ParseNumber(absl::string_view text, T* out) {
  if (text.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(text[0]))) return false;
  return absl::SimpleAtoi(text, out) && absl::ascii_isdigit(static_cast<unsigned char>(text.back()));
}

// "\t1000\t1000\t1000\t1000"
absl::Status ParseFour(absl::string_view key, absl::string_view value, std::array<uint32_t, 4>& out) {
  std::vector<absl::string_view> parts = absl::StrSplit(value, '\t');
  if (parts.size() != 5 || !parts[0].empty()) {
    return absl::InvalidArgumentError(absl::StrCat("status: ", key, " has not four values"));
  }
  for (size_t i = 0; i < 4; ++i) {
    if (!ParseNumber(parts[i + 1], &out[i])) {
      return absl::InvalidArgumentError(absl::StrCat("status: ", key, " has a value that is no number"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ProcStatus> ParseProcStatus(absl::string_view text) {
  static_assert(sizeof(uid_t) == sizeof(uint32_t) && sizeof(gid_t) == sizeof(uint32_t));
  if (text.size() > kProcStatusLimit) return absl::InvalidArgumentError("status: too long");
  std::optional<absl::string_view> uid, gid, groups;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    for (auto [key, value] : {std::pair("Uid:", &uid), std::pair("Gid:", &gid), std::pair("Groups:", &groups)}) {
      absl::string_view rest = line;
      if (!absl::ConsumePrefix(&rest, key)) continue;
      // The kernel escapes newlines in the name; should one slip through, a forged line must not win.
      if (value->has_value()) return absl::InvalidArgumentError(absl::StrCat("status: more than one line ", key));
      *value = rest;
    }
  }
  if (!uid.has_value() || !gid.has_value() || !groups.has_value()) {
    return absl::InvalidArgumentError("status: no Uid:, Gid: or Groups: line");
  }
  ProcStatus status;
  SIGNET_RETURN_IF_ERROR(ParseFour("Uid:", *uid, status.uids));
  SIGNET_RETURN_IF_ERROR(ParseFour("Gid:", *gid, status.gids));
  for (absl::string_view group : absl::StrSplit(*groups, absl::ByAnyChar("\t "), absl::SkipEmpty())) {
    gid_t number = 0;
    if (!ParseNumber(group, &number))
      return absl::InvalidArgumentError("status: Groups: has a value that is no number");
    status.groups.push_back(number);
  }
  return status;
}

absl::StatusOr<ProcStat> ParseProcStat(absl::string_view text) {
  if (text.size() > kProcStatLimit) return absl::InvalidArgumentError("stat: too long");
  const size_t name_end = text.rfind(')');
  if (name_end == absl::string_view::npos) return absl::InvalidArgumentError("stat: no name in parentheses");
  absl::string_view rest = absl::StripTrailingAsciiWhitespace(text.substr(name_end + 1));
  std::vector<absl::string_view> fields = absl::StrSplit(rest, ' ');  // [0] is empty, [1] is field 3
  constexpr size_t kState = 1, kStartTime = 20;
  if (fields.size() <= kStartTime || !fields[0].empty()) return absl::InvalidArgumentError("stat: too few fields");
  ProcStat stat;
  if (fields[kState].size() != 1 || !absl::ascii_isalpha(static_cast<unsigned char>(fields[kState][0]))) {
    return absl::InvalidArgumentError("stat: state is no letter");
  }
  stat.state = fields[kState][0];
  if (!ParseNumber(fields[kStartTime], &stat.start_time)) {
    return absl::InvalidArgumentError("stat: start time is no number");
  }
  return stat;
}

absl::StatusOr<ProcCgroup> ParseProcCgroup(absl::string_view text) {
  if (text.size() > kProcCgroupLimit) return absl::InvalidArgumentError("cgroup: too long");
  std::optional<absl::string_view> unified;
  std::vector<absl::string_view> others;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty()) continue;
    // hierarchy-ID:controllers:path; the path may hold colons.
    std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    uint32_t hierarchy = 0;
    if (parts.size() != 3 || !ParseNumber(parts[0], &hierarchy) || parts[2].empty() || parts[2][0] != '/') {
      return absl::InvalidArgumentError("cgroup: a line is not hierarchy:controllers:path");
    }
    if (hierarchy != 0 || !parts[1].empty()) {
      others.push_back(parts[2]);
      continue;
    }
    if (unified.has_value()) return absl::InvalidArgumentError("cgroup: more than one line 0::");
    unified = parts[2];
  }
  if (unified.has_value()) std::erase(others, *unified);
  std::sort(others.begin(), others.end());
  others.erase(std::unique(others.begin(), others.end()), others.end());
  ProcCgroup cgroup{std::string(unified.value_or("")), {}};
  for (absl::string_view path : others) cgroup.others.emplace_back(path);
  return cgroup;
}

}  // namespace signet::agent
