// Cgroup paths to pods (W5, W6). The input: paths of PID 1, an empty line, paths of a process; one a line. Oracles: an
// answer is well formed; what is nested below an answered path changes nothing; a path that contradicts it is refused;
// and below another container's path no text names that input's pod.
#include <stdint.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/workloadattestor/k8s/cgroup_path.h"
#include "tests/fuzz/check.h"

namespace signet::agent {
namespace {

constexpr absl::string_view kOther = "/kubepods/burstable/pod00000000-1111-2222-3333-444444444444/";

void Check(const std::vector<std::string>& init, const std::vector<std::string>& paths) {
  const auto roots = FindNodeRoots(init);
  if (!roots.ok()) return;
  const auto found = FindPodContainer(paths, *roots);
  if (!found.ok() || !found->has_value()) return;
  const PodContainer& answer = **found;
  FUZZ_CHECK(answer.container_id.size() == 64);
  FUZZ_CHECK(answer.pod_uid.empty() || answer.pod_uid.size() == 32 || answer.pod_uid.size() == 36);

  std::vector<std::string> nested = paths;
  for (std::string& path : nested) {
    const auto alone = FindPodContainer({path}, *roots);
    if (alone.ok() && alone->has_value()) absl::StrAppend(&path, kOther, std::string(64, '0'));
  }
  const auto again = FindPodContainer(nested, *roots);
  FUZZ_CHECK(again.ok() && *again == *found);

  const NodeRoots machine = {""};
  const std::string other = absl::StrCat(kOther, std::string(64, 'f'));
  for (const std::string& path : paths) {
    const auto crafted = FindPodContainer({absl::StrCat(other, path)}, machine);
    FUZZ_CHECK(!crafted.ok() || (crafted->has_value() && (*crafted)->container_id == std::string(64, 'f')));
  }
}

}  // namespace
}  // namespace signet::agent

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::pair<std::string, std::string> halves =
      absl::StrSplit(absl::string_view(reinterpret_cast<const char*>(data), size), absl::MaxSplits("\n\n", 1));
  signet::agent::Check(absl::StrSplit(halves.first, '\n'), absl::StrSplit(halves.second, '\n', absl::SkipEmpty()));
  return 0;
}
