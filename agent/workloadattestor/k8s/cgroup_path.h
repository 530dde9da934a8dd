// From the cgroup paths of a process to the pod and the container it was started in. Pure.
// Only what the kubelet and the container runtime made counts: a path is read from the node's root downwards, each
// component at its one place, and reading stops at the container's own cgroup. What a workload nests below that, and
// what anybody makes elsewhere (a user's delegated slice), changes no answer (W5, W6). Never mountinfo.
// Understood: the kubelet's drivers cgroupfs and systemd; containerd, CRI-O, cri-dockerd; a kubelet with cgroup root
// "kubelet" (kind); nodes that are containers themselves (kind, minikube, k3d); paths relative to the cgroup namespace
// of an agent that is a pod (`/../../pod<uid>/<id>`); static pods, whose uid is a hash; CRI-O under KubeEdge, where the
// path holds no pod.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace signet::agent {

struct PodContainer {
  // 36 characters with dashes, or the 32 hexadecimal digits of a static pod. "" when the path does not say: the
  // container id is unique and tells.
  std::string pod_uid;
  std::string container_id;  // 64 hexadecimal digits
  friend bool operator==(const PodContainer&, const PodContainer&) = default;
};

// Where the node's root is among the cgroups as the agent reads them: that of PID 1, without the folder that init makes
// for itself. "" on a machine, "/docker/<id>" in a node that is a container without a cgroup namespace, "/../../.." for
// an agent in a namespace of its own. One for each hierarchy where they differ.
using NodeRoots = std::vector<std::string>;
// `init_paths`: all paths of /proc/1/cgroup. kInvalidArgument: no cgroup paths.
absl::StatusOr<NodeRoots> FindNodeRoots(absl::Span<const std::string> init_paths);

// `paths`: of all lines of /proc/PID/cgroup, in any order. Nothing: a process of the host, or of no pod of this node.
// kPermissionDenied: the lines disagree, or one lies in the kubelet's part and names no container.
absl::StatusOr<std::optional<PodContainer>> FindPodContainer(absl::Span<const std::string> paths,
                                                             const NodeRoots& roots);

}  // namespace signet::agent
