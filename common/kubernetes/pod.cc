#include "common/kubernetes/pod.h"

#include <algorithm>
#include <iterator>

#include <boost/json/serialize.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/kubernetes/json_members.h"
#include "common/kubernetes/names.h"
#include "common/status/macros.h"

namespace signet::kubernetes {
namespace {

using boost::json::value;

struct Kind {
  Container::Kind kind;
  absl::string_view spec, status;
};
constexpr Kind kKinds[] = {
    {Container::Kind::kInit, "initContainers", "initContainerStatuses"},
    {Container::Kind::kMain, "containers", "containerStatuses"},
    {Container::Kind::kEphemeral, "ephemeralContainers", "ephemeralContainerStatuses"},
};

void AddStatus(const value& status, Container& container) {
  container.status_image = TextMember(&status, "image");
  container.image_id = TextMember(&status, "imageID");
  const std::string id = TextMember(&status, "containerID");  // "containerd://<64 hex>"
  if (const size_t at = id.find("://"); at != std::string::npos) {
    container.runtime = id.substr(0, at);
    container.id = id.substr(at + 3);
  }
}

void ReadContainers(const value* spec, const value* status, const Kind& kind, std::vector<Container>& into) {
  const size_t first = into.size();
  for (const value& item : Items(Member(spec, kind.spec))) {
    Container container;
    container.kind = kind.kind;
    container.name = TextMember(&item, "name");
    container.spec_image = TextMember(&item, "image");
    into.push_back(std::move(container));
  }
  for (const value& item : Items(Member(status, kind.status))) {
    const std::string name = TextMember(&item, "name");
    for (size_t i = first; i < into.size(); ++i) {
      if (into[i].name == name) AddStatus(item, into[i]);
    }
  }
}

// A mirror pod stands for a pod that the kubelet runs from a file. Its annotation is the uid that this one has, a hash
// of 32 hex digits: never a UUID, so it cannot be mistaken for the uid of a pod that the API server made.
std::string StaticUid(const value* metadata, const std::vector<OwnerReference>& owners) {
  const std::string uid = TextMember(Member(metadata, "annotations"), "kubernetes.io/config.mirror");
  const bool hash = uid.size() == 32 && std::all_of(uid.begin(), uid.end(), [](char c) {
                      return absl::ascii_isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
                    });
  const bool of_node =
      std::any_of(owners.begin(), owners.end(), [](const OwnerReference& o) { return o.kind == "Node"; });
  return hash && of_node ? uid : std::string();
}

// In memory, about.
size_t SizeOf(const Pod& pod) {
  size_t size = 0;
  for (const auto& label : pod.labels) size += sizeof(label) + label.first.size() + label.second.size();
  for (const OwnerReference& owner : pod.owners) {
    size += sizeof(owner) + owner.kind.size() + owner.name.size() + owner.uid.size();
  }
  for (const Container& c : pod.containers) {
    size += sizeof(c) + c.name.size() + c.spec_image.size() + c.status_image.size() + c.image_id.size() + c.id.size();
  }
  return size;
}

absl::Status Malformed(absl::string_view what, const std::string& text) {
  return absl::InvalidArgumentError(absl::StrCat("pod: ", what, " \"", absl::CHexEscape(text.substr(0, 300)), "\""));
}

PodEvent::Type TypeOf(absl::string_view type) {
  if (type == "ADDED") return PodEvent::Type::kAdded;
  if (type == "MODIFIED") return PodEvent::Type::kModified;
  if (type == "DELETED") return PodEvent::Type::kDeleted;
  if (type == "BOOKMARK") return PodEvent::Type::kBookmark;
  return PodEvent::Type::kError;
}

}  // namespace

absl::StatusOr<Pod> ParsePod(const value& json) {
  const value* metadata = Member(&json, "metadata");
  const value* spec = Member(&json, "spec");
  const value* status = Member(&json, "status");
  Pod pod;
  pod.namespace_name = TextMember(metadata, "namespace");
  pod.name = TextMember(metadata, "name");
  pod.uid = TextMember(metadata, "uid");
  pod.resource_version = TextMember(metadata, "resourceVersion");
  pod.labels = TextPairs(Member(metadata, "labels"));
  pod.deleted = Member(metadata, "deletionTimestamp") != nullptr;
  pod.node_name = TextMember(spec, "nodeName");
  pod.service_account = TextMember(spec, "serviceAccountName");
  pod.phase = TextMember(status, "phase");
  pod.host_ip = TextMember(status, "hostIP");
  if (!IsLabel(pod.namespace_name)) return Malformed("no namespace:", pod.namespace_name);
  if (!IsName(pod.name)) return Malformed("no name:", pod.name);
  if (!IsUid(pod.uid)) return Malformed("no uid:", pod.uid);
  if (!pod.node_name.empty() && !IsName(pod.node_name)) return Malformed("no name of a node:", pod.node_name);
  if (!pod.service_account.empty() && !IsName(pod.service_account)) {
    return Malformed("no name of a service account:", pod.service_account);
  }
  for (const value& item : Items(Member(metadata, "ownerReferences"))) {
    pod.owners.push_back({TextMember(&item, "kind"), TextMember(&item, "name"), TextMember(&item, "uid")});
  }
  pod.static_uid = StaticUid(metadata, pod.owners);
  for (const Kind& kind : kKinds) ReadContainers(spec, status, kind, pod.containers);
  if (SizeOf(pod) > kMaxPodFactsBytes) {  // all of it: a part would count wrong
    pod.too_large = true;
    pod.labels = {};
    pod.owners = {};
    pod.containers = {};
  }
  return pod;
}

absl::StatusOr<Pod> ParsePod(absl::string_view text) {
  SIGNET_ASSIGN_OR_RETURN(const value json, ParseAnswer(text, ApiClient::kMaxWatchLineBytes), "pod");
  return ParsePod(json);
}

absl::StatusOr<PodList> ParsePodList(absl::string_view text, int* malformed) {
  SIGNET_ASSIGN_OR_RETURN(const value json, ParseAnswer(text, ApiClient::kMaxAnswerBytes), "pod list");
  const value* items = Member(&json, "items");
  const value* metadata = Member(&json, "metadata");
  // "items": null is how Go writes an empty list.
  if (metadata == nullptr || (items != nullptr && !items->is_array() && !items->is_null())) {
    return absl::InvalidArgumentError("pod list: no items");
  }
  PodList list{.pods = {},
               .resource_version = TextMember(metadata, "resourceVersion"),
               .continue_token = TextMember(metadata, "continue")};
  for (const value& item : Items(items)) {
    absl::StatusOr<Pod> pod = ParsePod(item);
    if (pod.ok()) {
      list.pods.push_back(*std::move(pod));
    } else if (malformed != nullptr) {
      ++*malformed;
    }
  }
  return list;
}

absl::StatusOr<PodEvent> ParsePodEvent(absl::string_view line) {
  SIGNET_ASSIGN_OR_RETURN(const value json, ParseAnswer(line, ApiClient::kMaxWatchLineBytes), "pod event");
  const value* object = Member(&json, "object");
  if (object == nullptr) return absl::InvalidArgumentError("pod event: no object");
  PodEvent event;
  event.type = TypeOf(TextMember(&json, "type"));
  if (event.type == PodEvent::Type::kError) {
    const value* code = Member(object, "code");
    const int64_t http_status = code != nullptr && code->is_int64() ? code->get_int64() : 0;
    const std::string body = boost::json::serialize(*object);
    event.error = StatusOf(static_cast<int>(std::clamp<int64_t>(http_status, 0, 999)), "watch", body);
    return event;
  }
  event.resource_version = TextMember(Member(object, "metadata"), "resourceVersion");
  if (event.type == PodEvent::Type::kBookmark) return event;
  SIGNET_ASSIGN_OR_RETURN(event.pod, ParsePod(*object), "pod event");
  return event;
}

absl::StatusOr<PodList> ListPods(ApiClient& client, const std::string& path_and_query, int page_size, size_t max_pods,
                                 const CallOptions& options) {
  PodList all;
  std::string more;
  for (;;) {
    const absl::StatusOr<std::string> answer =
        client.Get(absl::StrCat(path_and_query, "&limit=", page_size, more), options);
    if (absl::IsFailedPrecondition(answer.status()) && page_size > 1) {
      page_size /= 2;
      continue;
    }
    SIGNET_RETURN_IF_ERROR(answer.status());
    SIGNET_ASSIGN_OR_RETURN(PodList page, ParsePodList(*answer), path_and_query);
    if (all.pods.size() + page.pods.size() > max_pods) {
      return absl::FailedPreconditionError(absl::StrCat(path_and_query, ": more than ", max_pods, " pods"));
    }
    std::move(page.pods.begin(), page.pods.end(), std::back_inserter(all.pods));
    all.resource_version = std::move(page.resource_version);  // the same on every page
    if (page.continue_token.empty()) return all;
    more = absl::StrCat("&continue=", EscapeQuery(page.continue_token));
  }
}

}  // namespace signet::kubernetes
