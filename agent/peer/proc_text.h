// Parsers of /proc/PID text. Pure. The process chooses parts of that text (its name, its cgroup), so whatever is not
// exactly what the kernel writes is refused: kInvalidArgument with the rule that failed.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::agent {

// What may be read of each file; more is refused. 65536 groups (NGROUPS_MAX) of at most 11 characters fit.
inline constexpr size_t kProcStatusLimit = 1 << 20;
inline constexpr size_t kProcStatLimit = 4096;
inline constexpr size_t kProcCgroupLimit = 128 << 10;

struct ProcStatus {
  std::array<uid_t, 4> uids;  // real, effective, saved, file system
  std::array<gid_t, 4> gids;
  std::vector<gid_t> groups;  // supplementary
};
// proc(5), /proc/PID/status: lines "Uid:", "Gid:" and "Groups:", each exactly once.
absl::StatusOr<ProcStatus> ParseProcStatus(absl::string_view text);

struct ProcStat {
  char state = 0;           // field 3; Z and X are dead
  uint64_t start_time = 0;  // field 22, clock ticks after boot
};
// The name (field 2) stands in parentheses and may hold parentheses, blanks and newlines: fields are counted from the
// last ")" on.
absl::StatusOr<ProcStat> ParseProcStat(absl::string_view text);

struct ProcCgroup {
  std::string unified;              // the path on the line "0::" (cgroup 2); empty when there is none
  std::vector<std::string> others;  // those of the other hierarchies that differ from it: sorted, each once
  friend bool operator==(const ProcCgroup&, const ProcCgroup&) = default;
};
// cgroups(7), /proc/PID/cgroup. All lines must be well formed.
absl::StatusOr<ProcCgroup> ParseProcCgroup(absl::string_view text);

}  // namespace signet::agent
