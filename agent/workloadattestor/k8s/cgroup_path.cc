#include "agent/workloadattestor/k8s/cgroup_path.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

using Components = absl::Span<const absl::string_view>;
using Found = absl::StatusOr<std::optional<PodContainer>>;

constexpr size_t kContainerIdSize = 64;
constexpr size_t kMaxRuntimeName = 20;  // "cri-containerd" has 14
// The kubelet's cgroups, at its cgroup root and below the root "kubelet", as each driver names them (Kubernetes
// pkg/kubelet/cm: CgroupName.ToCgroupfs, ToSystemd).
constexpr absl::string_view kSliceBases[] = {"kubepods", "kubelet-kubepods"};
constexpr absl::string_view kQualities[] = {"besteffort", "burstable"};

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// A UUID with `separator`, given back with dashes, or a static pod's hash.
std::optional<std::string> ParsePodUid(absl::string_view text, char separator) {
  if (text.size() == 32 && IsHex(text)) return std::string(text);
  if (text.size() != 36) return std::nullopt;
  std::string uid(text);
  for (size_t i = 0; i < uid.size(); ++i) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (uid[i] != separator) return std::nullopt;
      uid[i] = '-';
    } else if (!IsHex(uid.substr(i, 1))) {
      return std::nullopt;
    }
  }
  return uid;
}

// A path, split: how many levels it goes up first, and the names after that.
struct Path {
  size_t up = 0;
  std::vector<absl::string_view> names;
};

std::optional<Path> Split(absl::string_view text) {
  Path path;
  if (text.empty()) return path;
  if (!absl::ConsumePrefix(&text, "/")) return std::nullopt;
  if (text.empty()) return path;
  for (absl::string_view name : absl::StrSplit(text, '/')) {
    if (name.empty() || name == ".") return std::nullopt;
    if (name != "..") {
      path.names.push_back(name);
    } else if (path.names.empty()) {
      ++path.up;
    } else {
      return std::nullopt;  // the kernel writes them at the front alone
    }
  }
  return path;
}

absl::Status NoContainer(absl::string_view what) {
  return absl::PermissionDeniedError(absl::StrCat("its cgroup lies among the kubelet's, but ", what));
}

enum class Scope { kContainer, kMonitor, kNeither };

// The cgroup the runtime made: "<id>", "cri-containerd-<id>.scope", "crio-<id>.scope", "docker-<id>.scope",
// "crio-<id>". CRI-O's monitor beside it ("crio-conmon-<id>.scope") is a process of the host.
Scope ParseScope(absl::string_view name, std::string* id) {
  const bool is_scope = absl::ConsumeSuffix(&name, ".scope");
  if (name.size() < kContainerIdSize) return Scope::kNeither;
  const absl::string_view hex = name.substr(name.size() - kContainerIdSize);
  absl::string_view runtime = name.substr(0, name.size() - kContainerIdSize);
  if (!IsHex(hex)) return Scope::kNeither;
  if (runtime.empty()) {
    if (is_scope) return Scope::kNeither;
  } else {
    if (!absl::ConsumeSuffix(&runtime, "-") || runtime.empty() || runtime.size() > kMaxRuntimeName) {
      return Scope::kNeither;
    }
    for (char c : runtime) {
      if (!absl::ascii_islower(static_cast<unsigned char>(c)) && c != '-') return Scope::kNeither;
    }
    if (runtime == "conmon" || absl::EndsWith(runtime, "-conmon")) return Scope::kMonitor;
  }
  *id = std::string(hex);
  return Scope::kContainer;
}

Found ReadContainer(std::string pod_uid, Components rest) {
  PodContainer found{std::move(pod_uid), ""};
  if (rest.empty()) return NoContainer("belongs to a pod and no container");
  switch (ParseScope(rest[0], &found.container_id)) {
    case Scope::kContainer:
      return found;
    case Scope::kMonitor:
      return std::nullopt;
    case Scope::kNeither:
      break;
  }
  return NoContainer("the name below its pod is no container's");
}

// "pod<uid>", then the container. Nothing: another name.
std::optional<Found> ReadPodFolder(Components rest) {
  absl::string_view name = rest.empty() ? "" : rest[0];
  if (!absl::ConsumePrefix(&name, "pod")) return std::nullopt;
  std::optional<std::string> uid = ParsePodUid(name, '-');
  if (!uid.has_value()) return std::nullopt;
  return ReadContainer(*std::move(uid), rest.subspan(1));
}

// "<base>[-<quality>]-pod<uid>.slice", then the container.
std::optional<Found> ReadPodSlice(Components rest, absl::string_view base, absl::string_view quality) {
  absl::string_view name = rest.empty() ? "" : rest[0];
  if (!absl::ConsumePrefix(&name, base) || !absl::ConsumeSuffix(&name, ".slice")) return std::nullopt;
  if (!quality.empty() && !(absl::ConsumePrefix(&name, "-") && absl::ConsumePrefix(&name, quality))) {
    return std::nullopt;
  }
  if (!absl::ConsumePrefix(&name, "-pod")) return std::nullopt;
  std::optional<std::string> uid = ParsePodUid(name, '_');
  if (!uid.has_value()) return std::nullopt;
  return ReadContainer(*std::move(uid), rest.subspan(1));
}

// What stands in the kubelet's "kubepods" folder, or in one of its quality folders.
std::optional<Found> ReadBelowFolder(Components rest) {
  if (rest.empty()) return std::nullopt;
  const bool quality = std::find(std::begin(kQualities), std::end(kQualities), rest[0]) != std::end(kQualities);
  return ReadPodFolder(quality ? rest.subspan(1) : rest);
}

// The same of its "kubepods.slice".
std::optional<Found> ReadBelowSlice(Components rest, absl::string_view base) {
  if (rest.empty()) return std::nullopt;
  for (absl::string_view quality : kQualities) {
    if (rest[0] == absl::StrCat(base, "-", quality, ".slice")) return ReadPodSlice(rest.subspan(1), base, quality);
  }
  return ReadPodSlice(rest, base, "");
}

// The kubelet asks for a systemd path and containerd's runc makes a folder of that name:
// "kubepods-burstable-pod<uid>.slice:cri-containerd:<id>".
std::optional<Found> ReadMixedDrivers(absl::string_view name) {
  const std::vector<absl::string_view> parts = absl::StrSplit(name, ':');
  if (parts.size() != 3 || parts[1] != "cri-containerd" || parts[2].size() != kContainerIdSize) return std::nullopt;
  for (absl::string_view base : kSliceBases) {
    for (absl::string_view quality : {absl::string_view(), kQualities[0], kQualities[1]}) {
      const absl::string_view rest[] = {parts[0], parts[2]};
      if (auto found = ReadPodSlice(rest, base, quality); found.has_value()) return found;
    }
  }
  return std::nullopt;
}

// CRI-O under KubeEdge: the scope of a container, and no pod.
std::optional<Found> ReadLoneScope(absl::string_view name) {
  PodContainer found;
  if (!absl::StartsWith(name, "crio-") || !absl::EndsWith(name, ".scope")) return std::nullopt;
  if (ParseScope(name, &found.container_id) != Scope::kContainer) return std::nullopt;
  return Found(found);
}

Found BelowKubepods(std::optional<Found> found) {
  if (found.has_value()) return *std::move(found);
  return NoContainer("names no pod");
}

// `rest`: the names from the node's root on.
Found ReadFromNodeRoot(Components rest) {
  if (rest.empty()) return std::nullopt;
  if (rest[0] == "system.slice") {
    if (rest.size() > 2 && rest[1] == "containerd.service") {
      return ReadMixedDrivers(rest[2]).value_or(Found(std::nullopt));
    }
    return rest.size() > 1 ? ReadLoneScope(rest[1]).value_or(Found(std::nullopt)) : Found(std::nullopt);
  }
  if (rest[0] == "kubelet" && rest.size() > 1 && rest[1] == "kubepods") {
    return BelowKubepods(ReadBelowFolder(rest.subspan(2)));
  }
  if (rest[0] == "kubelet.slice" && rest.size() > 1 && rest[1] == "kubelet-kubepods.slice") {
    return BelowKubepods(ReadBelowSlice(rest.subspan(2), "kubelet-kubepods"));
  }
  if (rest[0] == "kubepods") return BelowKubepods(ReadBelowFolder(rest.subspan(1)));
  if (rest[0] == "kubepods.slice") return BelowKubepods(ReadBelowSlice(rest.subspan(1), "kubepods"));
  if (auto found = ReadMixedDrivers(rest[0]); found.has_value()) return *std::move(found);
  return ReadLoneScope(rest[0]).value_or(Found(std::nullopt));
}

// `rest`: the names below a cgroup that is an ancestor of the agent's own, hence the kubelet's or the agent's pod's:
// what it is called is not to be seen. Its children are made by the kubelet and the runtime alone.
Found ReadFromAgentsAncestor(Components rest) {
  if (auto found = ReadBelowFolder(rest); found.has_value()) return *std::move(found);
  if (rest.empty()) return std::nullopt;
  for (absl::string_view base : kSliceBases) {
    if (auto found = ReadBelowSlice(rest, base); found.has_value()) return *std::move(found);
    for (absl::string_view quality : kQualities) {
      if (auto found = ReadPodSlice(rest, base, quality); found.has_value()) return *std::move(found);
    }
  }
  if (auto found = ReadMixedDrivers(rest[0]); found.has_value()) return *std::move(found);
  // Another container of the agent's own pod.
  PodContainer found;
  if (ParseScope(rest[0], &found.container_id) == Scope::kContainer) return found;
  return std::nullopt;
}

Found ReadPath(const Path& path, const Path& root) {
  const Components names(path.names);
  if (path.up == root.up) {
    if (names.size() < root.names.size() || !std::equal(root.names.begin(), root.names.end(), names.begin())) {
      return std::nullopt;
    }
    return ReadFromNodeRoot(names.subspan(root.names.size()));
  }
  if (path.up > 0 && path.up < root.up && root.names.empty()) return ReadFromAgentsAncestor(names);
  return std::nullopt;
}

}  // namespace

absl::StatusOr<NodeRoots> FindNodeRoots(absl::Span<const std::string> init_paths) {
  NodeRoots roots;
  for (const std::string& path : init_paths) {
    absl::string_view root = path;
    if (!Split(root).has_value()) return absl::InvalidArgumentError("a cgroup path of PID 1 is malformed");
    // systemd moves itself into init.scope; k3s and Talos' init into "init".
    if (!absl::ConsumeSuffix(&root, "/init.scope")) absl::ConsumeSuffix(&root, "/init");
    if (root == "/") root = "";
    roots.emplace_back(root);
  }
  std::sort(roots.begin(), roots.end());
  roots.erase(std::unique(roots.begin(), roots.end()), roots.end());
  if (roots.empty()) return absl::InvalidArgumentError("PID 1 has no cgroup");
  return roots;
}

absl::StatusOr<std::optional<PodContainer>> FindPodContainer(absl::Span<const std::string> paths,
                                                             const NodeRoots& roots) {
  std::optional<PodContainer> answer;
  for (const std::string& text : paths) {
    const std::optional<Path> path = Split(text);
    if (!path.has_value()) return absl::PermissionDeniedError("a cgroup path is malformed");
    for (const std::string& root_text : roots) {
      const std::optional<Path> root = Split(root_text);
      if (!root.has_value()) continue;
      SIGNET_ASSIGN_OR_RETURN(std::optional<PodContainer> found, ReadPath(*path, *root));
      if (!found.has_value()) continue;
      if (answer.has_value() && !(*answer == *found)) {
        return absl::PermissionDeniedError("its cgroups belong to more than one pod or container");
      }
      answer = std::move(found);
    }
  }
  return answer;
}

}  // namespace signet::agent
