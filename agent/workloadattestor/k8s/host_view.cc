#include "agent/workloadattestor/k8s/host_view.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "agent/peer/peer_kernel.h"
#include "agent/peer/proc_text.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

absl::StatusOr<std::vector<std::string>> ReadPaths(const std::string& file) {
  std::string text;
  if (int error = PeerKernel().ReadFile(file, kProcCgroupLimit, &text); error != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(file, ": ", strerror(-error), ": the k8s attestor needs the node's /proc as it is (no hidepid)"));
  }
  absl::StatusOr<ProcCgroup> cgroup = ParseProcCgroup(text);
  if (!cgroup.ok()) return absl::FailedPreconditionError(absl::StrCat(file, ": ", cgroup.status().message()));
  std::vector<std::string> paths = std::move(cgroup->others);
  if (!cgroup->unified.empty()) paths.push_back(std::move(cgroup->unified));
  return paths;
}

absl::string_view ParentOf(absl::string_view path) { return path.substr(0, path.rfind('/')); }

// Seen from a cgroup namespace, or from the machine: the same pod, each in a container of its own.
bool IsInOwnPod(const HostView& view) {
  for (const std::string& init : view.init_paths) {
    // "/../<id>": beside the agent's container, in the agent's pod.
    if (absl::StartsWith(init, "/../") && !absl::StartsWith(init, "/../../")) {
      auto found = FindPodContainer({init}, {"/../.."});
      if (found.ok() && found->has_value()) return true;
    }
    auto found = FindPodContainer({init}, {""});
    if (!found.ok() || !found->has_value()) continue;
    // A node that is a container in a pod of another cluster has its pods further down.
    for (const std::string& own : view.own_paths) {
      if (own == init || ParentOf(own) == ParentOf(init)) return true;
    }
  }
  return false;
}

class MountedCgroupTree final : public CgroupTree {
 public:
  explicit MountedCgroupTree(std::string folder) : folder_(std::move(folder)) {}

  absl::Status Check(const std::string& path, uint64_t id, const NodeRoots& roots) const override {
    if (!absl::StartsWith(path, "/..")) return Compare({path == "/" ? "" : path}, path, id);
    // Relative to the agent's own cgroup: what stands before the names is not to be seen.
    absl::string_view rest = path;
    size_t up = 0;
    while (absl::ConsumePrefix(&rest, "/..")) ++up;
    std::vector<std::string> candidates;
    for (const std::string& root : roots) {
      if (root.size() == 3 * up) candidates.emplace_back(rest);
    }
    for (absl::string_view top : {"/kubepods", "/kubelet/kubepods"}) {
      for (absl::string_view quality : {"", "/besteffort", "/burstable"}) {
        candidates.push_back(absl::StrCat(top, quality, rest));
      }
    }
    for (absl::string_view top : {"/kubepods", "/kubelet.slice/kubelet-kubepods"}) {
      const absl::string_view base = top.substr(top.rfind('/') + 1);
      for (absl::string_view quality : {"besteffort", "burstable"}) {
        candidates.push_back(absl::StrCat(top, ".slice/", base, "-", quality, ".slice", rest));
      }
      candidates.push_back(absl::StrCat(top, ".slice", rest));
    }
    return Compare(candidates, path, id);
  }

 private:
  absl::Status Compare(const std::vector<std::string>& candidates, const std::string& path, uint64_t id) const {
    for (const std::string& candidate : candidates) {
      struct stat st;
      if (stat(absl::StrCat(folder_, candidate).c_str(), &st) == 0 && st.st_ino == id) return absl::OkStatus();
    }
    return absl::PermissionDeniedError(absl::StrCat(
        "cgroup \"", path, "\" is not the one the kernel has the process in (number ", id, ", below ", folder_, ")"));
  }

  const std::string folder_;
};

}  // namespace

absl::StatusOr<HostView> ReadHostView() {
  HostView view;
  view.own_pid = getpid();
  const char* api_server = getenv("KUBERNETES_SERVICE_HOST");
  view.in_pod = api_server != nullptr && *api_server != '\0';
  SIGNET_ASSIGN_OR_RETURN(view.init_paths, ReadPaths("/proc/1/cgroup"));
  SIGNET_ASSIGN_OR_RETURN(view.own_paths, ReadPaths("/proc/self/cgroup"));
  // Not allowed to look: then it is another container's or the node's.
  std::string own, init;
  const PeerKernel kernel;
  if (kernel.ReadLink("/proc/self/ns/mnt", &own) == 0 && kernel.ReadLink("/proc/1/ns/mnt", &init) == 0) {
    view.init_shares_mounts = own == init;
  }
  return view;
}

absl::StatusOr<NodeRoots> CheckHostView(const HostView& view) {
  if (view.own_pid == 1 || (view.in_pod && view.init_shares_mounts) || IsInOwnPod(view)) {
    return absl::FailedPreconditionError(
        "the k8s workload attestor sees the processes of its own pod alone: set hostPID: true in the pod spec of the "
        "agent's DaemonSet");
  }
  absl::StatusOr<NodeRoots> roots = FindNodeRoots(view.init_paths);
  if (!roots.ok()) return absl::FailedPreconditionError(roots.status().message());
  return roots;
}

absl::StatusOr<std::unique_ptr<CgroupTree>> CgroupTree::Open(const std::string& folder) {
  for (absl::string_view below : {"", "/unified"}) {
    struct statfs fs;
    std::string at = absl::StrCat(folder, below);
    if (statfs(at.c_str(), &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC) {
      return std::make_unique<MountedCgroupTree>(std::move(at));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", folder, "\" is no mount of cgroup2: mount the host's /sys/fs/cgroup there, read-only"));
}

}  // namespace signet::agent
