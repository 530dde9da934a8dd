// Pods for tests.
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/workloadattestor/k8s/cgroup_path.h"
#include "common/kubernetes/pod.h"

namespace signet::testing {

inline std::string PodUid(int n) { return absl::StrFormat("%08x-0000-4000-8000-000000000000", n); }
inline std::string ContainerId(int n) { return absl::StrFormat("%064x", n); }

// Pod number `n`, with one container that runs; without one when `started` is false.
inline kubernetes::Pod MakePod(int n, bool started = true) {
  kubernetes::Pod pod;
  pod.namespace_name = "shop";
  pod.name = absl::StrCat("web-", n);
  pod.uid = PodUid(n);
  pod.node_name = "node1";
  pod.service_account = "web";
  pod.labels = {{"app", "web"}};
  kubernetes::Container container;
  container.name = "main";
  container.spec_image = container.status_image = "example.org/web:1";
  if (started) container.id = ContainerId(n);
  pod.containers = {container};
  return pod;
}
inline agent::PodContainer Wanted(int n) { return {PodUid(n), ContainerId(n)}; }

}  // namespace signet::testing
