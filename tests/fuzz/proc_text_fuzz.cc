// /proc text of a process that chose what it can of it (W1, W4). The first byte says which file it is. Oracles: what is
// read, written as the kernel writes it, reads the same; and for the name in stat, which the process chooses freely,
// that no name changes what stands behind it.
#include <stdint.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/peer/proc_text.h"
#include "tests/fuzz/check.h"

namespace signet::agent {
namespace {

void Status(absl::string_view text) {
  const auto status = ParseProcStatus(text);
  if (!status.ok()) return;
  const std::string written =
      absl::StrCat("Name:\tx\nUid:\t", absl::StrJoin(status->uids, "\t"), "\nGid:\t", absl::StrJoin(status->gids, "\t"),
                   "\nGroups:\t", absl::StrJoin(status->groups, " "), " \n");
  if (written.size() > kProcStatusLimit) return;
  const auto again = ParseProcStatus(written);
  FUZZ_CHECK(again.ok() && again->uids == status->uids && again->gids == status->gids &&
             again->groups == status->groups);
  // A second line of any of these keys is never believed.
  FUZZ_CHECK(!ParseProcStatus(absl::StrCat("Uid:\t0\t0\t0\t0\n", text)).ok());
}

void Stat(absl::string_view text) {
  (void)ParseProcStat(text);
  // The same bytes as a name.
  const auto stat =
      ParseProcStat(absl::StrCat("7 (", text.substr(0, 1024), ") S 1 7 7 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 99 8 7\n"));
  FUZZ_CHECK(stat.ok() && stat->state == 'S' && stat->start_time == 99);
}

void Cgroup(absl::string_view text) {
  const auto cgroup = ParseProcCgroup(text);
  if (!cgroup.ok()) return;
  std::string written;
  for (const std::string& path : cgroup->others) absl::StrAppend(&written, "4:memory:", path, "\n");
  if (!cgroup->unified.empty()) absl::StrAppend(&written, "0::", cgroup->unified, "\n");
  const auto again = ParseProcCgroup(written);
  FUZZ_CHECK(!again.ok() || *again == *cgroup);
  if (!cgroup->unified.empty()) FUZZ_CHECK(!ParseProcCgroup(absl::StrCat("0::/victim\n", text)).ok());
}

}  // namespace
}  // namespace signet::agent

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet::agent;
  if (size == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      Status(text);
      break;
    case 1:
      Stat(text);
      break;
    default:
      Cgroup(text);
      break;
  }
  return 0;
}
