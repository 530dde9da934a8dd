// What is read of a pod, and of lists and watches of pods. Pure but for ListPods. What the API server says is taken as
// it stands, save that names and uids must be such (names.h): they go into paths, IDs and selectors.
// kInvalidArgument names what is malformed. Unknown members are ignored, absent ones are empty.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/fwd.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/kubernetes/api_client.h"

namespace signet::kubernetes {

struct Container {
  enum class Kind { kMain, kInit, kEphemeral };
  Kind kind = Kind::kMain;
  std::string name;
  std::string spec_image;    // as the pod asked for it
  std::string status_image;  // as the runtime tells it; may be another tag of the same image (W7)
  std::string image_id;      // imageID of the status: with the digest, mostly
  std::string runtime, id;   // "containerd", "<64 hex>"; empty: not started yet
};

struct OwnerReference {
  std::string kind, name, uid;
};

struct Pod {
  std::string namespace_name, name, uid;
  std::string node_name;  // empty: not scheduled yet
  std::string service_account;
  std::string phase;  // "Running"
  std::string host_ip;
  std::string resource_version;
  std::vector<std::pair<std::string, std::string>> labels;
  std::vector<OwnerReference> owners;
  std::vector<Container> containers;  // of all kinds, in the order of the spec
  bool deleted = false;               // metadata.deletionTimestamp is set: it is being ended
  // For a static pod's mirror: the uid under which the kubelet runs it (annotation kubernetes.io/config.mirror, or
  // config.hash on the kubelet's own list); empty: none. The cgroup carries this one.
  std::string static_uid;
  bool too_large = false;  // kMaxPodFactsBytes
};

// Of labels, owners and containers of one pod. Whoever makes pods may fill an object (1.5 MiB) with them, over a
// hundred on a node, and who reads them keeps them all: a pod that says more is one that has none of the three, so its
// containers are nobody's.
inline constexpr size_t kMaxPodFactsBytes = size_t{256} << 10;

struct PodList {
  std::vector<Pod> pods;
  std::string resource_version;  // where a watch goes on
  std::string continue_token;    // empty: the last page
};

// A line of a watch.
struct PodEvent {
  enum class Type { kAdded, kModified, kDeleted, kBookmark, kError };
  Type type = Type::kError;
  Pod pod;                       // kAdded, kModified, kDeleted
  std::string resource_version;  // of all but kError: where the next watch goes on
  absl::Status error;            // kError: kOutOfRange is 410 Gone, list again
};

absl::StatusOr<Pod> ParsePod(const boost::json::value& json);
absl::StatusOr<Pod> ParsePod(absl::string_view text);
// Capped at ApiClient::kMaxAnswerBytes and kMaxWatchLineBytes. An item of a list that is malformed is left out and
// counted in `malformed`: one odd pod must not hide all others.
absl::StatusOr<PodList> ParsePodList(absl::string_view text, int* malformed = nullptr);
absl::StatusOr<PodEvent> ParsePodEvent(absl::string_view line);

// One consistent list, page after page (`page_size` items each; fewer where large pods make a page too large).
// `path_and_query`: "/api/v1/pods?fieldSelector=...", with at least one parameter. `options.timeout` is a page's.
// kOutOfRange when the list grew too old underway: begin again. At most `max_pods`, else kFailedPrecondition.
absl::StatusOr<PodList> ListPods(ApiClient& client, const std::string& path_and_query, int page_size, size_t max_pods,
                                 const CallOptions& options);

}  // namespace signet::kubernetes
