// What the agent must see of its node before it can tell pods apart: the processes of all pods, hence the node's PID
// namespace, and the node's cgroups, best with their tree. Looked at once, at start.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "agent/workloadattestor/k8s/cgroup_path.h"

namespace signet::agent {

struct HostView {
  pid_t own_pid = 0;
  bool in_pod = false;                             // the agent itself runs in one
  bool init_shares_mounts = false;                 // PID 1 has the agent's own mount namespace
  std::vector<std::string> init_paths, own_paths;  // all of /proc/1/cgroup and /proc/self/cgroup
};
// kFailedPrecondition: what cannot be read, and what that takes.
absl::StatusOr<HostView> ReadHostView();

// kFailedPrecondition: PID 1 is a process of the agent's own pod, so other pods' processes have no number here and
// hostPID: true is missing. Sound where the node is a container, too (kind): its PID 1 is its init, in no pod of its
// own.
absl::StatusOr<NodeRoots> CheckHostView(const HostView& view);

// The node's cgroup2 hierarchy, mounted where the agent can look: the directory that a path names must be the cgroup
// that the pidfd tells (W5). Thread-safe.
class CgroupTree {
 public:
  virtual ~CgroupTree() = default;
  // `folder`: a mount of cgroup2, or of the folder that holds one as "unified" (hybrid). kInvalidArgument otherwise.
  static absl::StatusOr<std::unique_ptr<CgroupTree>> Open(const std::string& folder);
  // `path`: of the line 0::, as the agent reads it. kPermissionDenied unless that is the directory with inode `id`.
  virtual absl::Status Check(const std::string& path, uint64_t id, const NodeRoots& roots) const = 0;
};

}  // namespace signet::agent
