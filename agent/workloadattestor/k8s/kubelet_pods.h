// Keeps a PodIndex current by asking the kubelet's secure port for its pods: at once when a process comes whose pod is
// not known, one fetch for all who wait and at most every `fetch_every`; and from time to time, since the kubelet tells
// of no change. Its certificate is verified always (W8); pods of another node are refused.
// One thread. Right needed: get on nodes/pods, never nodes/proxy, which is the right to run commands in any pod.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "agent/workloadattestor/k8s/pod_index.h"
#include "agent/workloadattestor/k8s/pod_source.h"
#include "common/concurrency/worker.h"
#include "common/kubernetes/api_client.h"

namespace signet::agent {

class KubeletPods final : public PodSource {
 public:
  struct Options {
    std::string node_name;
    absl::Duration timeout = absl::Seconds(5);
    absl::Duration fetch_every = absl::Milliseconds(500);  // at most, while somebody waits
    absl::Duration poll_every = absl::Seconds(10);
    absl::Duration last_retry = absl::Seconds(10);
    size_t max_pods = 5000;
  };
  // References outlive this. `client`: of the kubelet.
  KubeletPods(Options options, std::unique_ptr<kubernetes::ApiClient> client, PodIndex& index, Clock& clock,
              Metrics& metrics, telemetry::Health& health);
  ~KubeletPods() override;
  void Want() override { worker_.Wake(); }

 private:
  absl::Duration Round();
  absl::Status Fetch();

  const Options options_;
  const std::unique_ptr<kubernetes::ApiClient> client_;
  PodIndex& index_;
  Clock& clock_;
  Metrics& metrics_;
  telemetry::Health& health_;
  kubernetes::Cancellation cancel_;

  // Of the worker's thread.
  absl::Duration not_before_ = -absl::InfiniteDuration();  // steady time
  bool listed_ = false, works_ = false;
  std::string reason_;
  Backoff backoff_;

  Worker worker_;
};

}  // namespace signet::agent
