// Keeps a PodIndex current by a list and a watch on the API server, of this node's pods alone. Resumes where it was
// when a watch ends; lists anew when the server has forgotten that place (410). While the server is away, or refuses,
// the index stays as it is: pods that are known go on being served, new ones wait; the age is in the metrics.
// One thread. Right needed: list and watch on pods; with `namespaces`, which watches these instead (for their labels,
// all of the cluster), list and watch on namespaces.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "agent/workloadattestor/k8s/pod_index.h"
#include "agent/workloadattestor/k8s/pod_source.h"
#include "common/concurrency/worker.h"
#include "common/kubernetes/api_client.h"

namespace signet::agent {

class PodWatch final : public PodSource {
 public:
  struct Options {
    std::string node_name;  // checked: a name
    bool namespaces = false;
    absl::Duration answer_timeout = absl::Seconds(10);
    // Then the server ends the watch and another begins; one that vanished without a word is noticed soon after that.
    absl::Duration watch_for = absl::Minutes(3);
    absl::Duration first_retry = absl::Milliseconds(500), last_retry = absl::Seconds(30);
    size_t max_pods = 5000;
  };
  // References outlive this.
  PodWatch(Options options, std::unique_ptr<kubernetes::ApiClient> client, PodIndex& index, Clock& clock,
           Metrics& metrics, telemetry::Health& health);
  ~PodWatch() override;

 private:
  absl::Duration Round();
  absl::Status List();
  absl::Status Watch();
  absl::Status OnLine(absl::string_view line);
  absl::Status OnNamespaceLine(absl::string_view line);
  void Works();
  absl::Duration Fails(const absl::Status& status);

  const Options options_;
  const std::unique_ptr<kubernetes::ApiClient> client_;
  PodIndex& index_;
  Clock& clock_;
  Metrics& metrics_;
  telemetry::Health& health_;
  const std::string path_;               // and query
  const absl::string_view what_, part_;  // for people; of the health answer
  kubernetes::Cancellation cancel_;

  // Of the worker's thread.
  std::string resource_version_;  // "": list
  bool listed_ = false, works_ = false;
  std::string reason_;
  Backoff backoff_;

  Worker worker_;
};

}  // namespace signet::agent
