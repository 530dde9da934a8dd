// Answers of a Kubernetes API server (Z6). Oracles: what is read of pods and nodes has names and uids that are such; a
// review says yes only for our audience and a pod; no error repeats the token; what the reader leaves out is what it
// says.
#include <stdint.h>

#include <boost/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "common/json/json.h"
#include "common/kubernetes/names.h"
#include "common/kubernetes/node.h"
#include "common/kubernetes/pod.h"
#include "common/kubernetes/token_review.h"
#include "tests/fuzz/check.h"

namespace {

using namespace signet;

constexpr char kToken[] = "eyJhbGciOi";

void CheckPod(const kubernetes::Pod& pod) {
  FUZZ_CHECK(kubernetes::IsLabel(pod.namespace_name) && kubernetes::IsName(pod.name) && kubernetes::IsUid(pod.uid));
  FUZZ_CHECK(pod.node_name.empty() || kubernetes::IsName(pod.node_name));
  FUZZ_CHECK(pod.static_uid.empty() || pod.static_uid.size() == 32);
}

void DropArrays(boost::json::value& value) {
  if (value.is_array()) {
    for (auto& item : value.get_array()) DropArrays(item);
  } else if (value.is_object()) {
    boost::json::object& object = value.get_object();
    if (const auto* found = object.if_contains("managedFields"); found != nullptr && found->is_array()) {
      object.erase("managedFields");
    }
    for (auto& member : object) DropArrays(member.value());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto list = kubernetes::ParsePodList(text); list.ok()) {
    for (const kubernetes::Pod& pod : list->pods) CheckPod(pod);
  }
  if (const auto event = kubernetes::ParsePodEvent(text); event.ok()) {
    FUZZ_CHECK((event->type == kubernetes::PodEvent::Type::kError) == !event->error.ok());
    if (!event->pod.uid.empty()) CheckPod(event->pod);
  }
  if (const auto node = kubernetes::ParseNode(text); node.ok()) {
    FUZZ_CHECK(kubernetes::IsName(node->name) && kubernetes::IsUid(node->uid));
  }
  const auto review = kubernetes::ReadTokenReview(text, {"spire-server"}, kToken);
  if (review.ok()) {
    FUZZ_CHECK(absl::StrContains(text, "true"));
    FUZZ_CHECK(kubernetes::IsName(review->pod_name) && kubernetes::IsUid(review->pod_uid));
    FUZZ_CHECK(review->node_name.empty() == review->node_uid.empty());
  } else {
    FUZZ_CHECK(!absl::StrContains(review.status().message(), kToken));
  }
  const auto without = json::Parse(text, {.max_bytes = 1 << 20, .any_size = true, .skip_member = "managedFields"});
  auto with = json::Parse(text, {.max_bytes = 1 << 20, .any_size = true});
  if (with.ok()) {
    FUZZ_CHECK(without.ok());
    DropArrays(*with);
    FUZZ_CHECK(*with == *without);
  }
  return 0;
}
