// Who tells a PodIndex of the node's pods: a watch on the API server (pod_watch.h), or the kubelet (kubelet_pods.h).
#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "agent/metrics.h"
#include "common/telemetry/health.h"

namespace signet::agent {

// Destroying one ends what it has under way, at once.
class PodSource {
 public:
  virtual ~PodSource() = default;
  // A process came whose pod or container is not known. Quick; thread-safe.
  virtual void Want() {}
};

// What a source tells operators and those that wait: in the health answer under "k8s_pods", once in the log for each
// change, and in the metrics.
inline constexpr absl::string_view kPodsHealth = "k8s_pods", kNamespacesHealth = "k8s_namespaces";

// What to do about an error of the API server or the kubelet, for the operator; "" when it speaks for itself.
absl::string_view AdviceFor(const absl::Status& status, bool kubelet);

}  // namespace signet::agent
