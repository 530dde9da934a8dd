// Pods as the API server writes them.
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/agent/workloadattestor/k8s/pod_kit.h"

namespace signet::testing {

inline std::string PodJson(int n, const std::string& labels = R"("app":"web")", const std::string& node = "node1",
                           bool started = true) {
  return absl::StrCat(
      R"({"metadata":{"namespace":"shop","name":"web-)", n, R"(","uid":")", PodUid(n), R"(","resourceVersion":")",
      100 + n, R"(","labels":{)", labels, R"(}},"spec":{"nodeName":")", node,
      R"(","serviceAccountName":"web","containers":[{"name":"main","image":"example.org/web:1"}]},"status":{)",
      started ? absl::StrCat(R"("containerStatuses":[{"name":"main","image":"example.org/web:1","imageID":"",)",
                             R"("containerID":"containerd://)", ContainerId(n), R"("}])")
              : "",
      "}}");
}

inline std::string PodListJson(const std::vector<std::string>& pods, const std::string& version = "100") {
  return absl::StrCat(R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":")", version,
                      R"("},"items":[)", absl::StrJoin(pods, ","), "]}");
}

inline std::string EventJson(const std::string& type, const std::string& object) {
  return absl::StrCat(R"({"type":")", type, R"(","object":)", object, "}\n");
}

inline std::string BookmarkJson(const std::string& version) {
  return EventJson("BOOKMARK", absl::StrCat(R"({"kind":"Pod","metadata":{"resourceVersion":")", version, R"("}})"));
}

}  // namespace signet::testing
