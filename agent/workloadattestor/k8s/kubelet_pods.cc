#include "agent/workloadattestor/k8s/kubelet_pods.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/kubernetes/pod.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::agent {

KubeletPods::KubeletPods(Options options, std::unique_ptr<kubernetes::ApiClient> client, PodIndex& index, Clock& clock,
                         Metrics& metrics, telemetry::Health& health)
    : options_(std::move(options)),
      client_(std::move(client)),
      index_(index),
      clock_(clock),
      metrics_(metrics),
      health_(health),
      backoff_(options_.fetch_every, options_.last_retry),
      worker_("kubelet-pods", clock, [this] { return Round(); }) {}

KubeletPods::~KubeletPods() {
  cancel_.Cancel();
  worker_.Stop();
}

absl::Duration KubeletPods::Round() {
  if (cancel_.cancelled()) return absl::InfiniteDuration();
  const absl::Duration now = clock_.Steady();
  if (now < not_before_) return not_before_ - now;
  const absl::Status status = Fetch();
  if (cancel_.cancelled()) return absl::InfiniteDuration();
  absl::Duration next = index_.waiting() > 0 ? options_.fetch_every : options_.poll_every;
  absl::Duration pause = options_.fetch_every;
  if (status.ok()) {
    backoff_.Reset();
    metrics_.pods.Set(static_cast<double>(index_.pods()));
    metrics_.pod_source_seconds.Set(static_cast<double>(absl::ToUnixSeconds(clock_.Now())));
    if (!std::exchange(works_, true)) {
      reason_.clear();
      index_.SetTrouble(kPodsHealth, "");
      health_.SetReady(kPodsHealth);
      SIGNET_LOG(info, "the kubelet tells of its pods", {{"node", options_.node_name}, {"pods", index_.pods()}});
    }
  } else {
    metrics_.pod_source_failures.Add();
    next = pause = std::max(backoff_.Next(), kubernetes::RetryAfter(status).value_or(absl::ZeroDuration()));
    if (std::exchange(works_, false) || reason_ != status.message()) {
      reason_ = std::string(status.message());
      const std::string what =
          absl::StrCat(listed_ ? "the node's pods are known as they were, the kubelet does not answer: "
                               : "the node's pods are not known: ",
                       reason_, AdviceFor(status, true));
      index_.SetTrouble(kPodsHealth, what);
      if (listed_) {
        health_.SetDegraded(kPodsHealth, what);
      } else {
        health_.SetUnready(kPodsHealth, what);
      }
      SIGNET_LOG(warn, "the kubelet does not tell of its pods", {{"error", what}});
    }
  }
  not_before_ = clock_.Steady() + pause;
  return next;
}

absl::Status KubeletPods::Fetch() {
  SIGNET_ASSIGN_OR_RETURN(const std::string text,
                          client_->Get("/pods", {.timeout = options_.timeout, .cancel = &cancel_}));
  SIGNET_ASSIGN_OR_RETURN(kubernetes::PodList list, kubernetes::ParsePodList(text), "the kubelet's answer");
  if (list.pods.size() > options_.max_pods) {
    return absl::FailedPreconditionError(
        absl::StrCat("the kubelet tells of ", list.pods.size(), " pods, more than ", options_.max_pods));
  }
  for (const kubernetes::Pod& pod : list.pods) {
    if (pod.node_name != options_.node_name) {
      return absl::FailedPreconditionError(
          absl::StrCat("the kubelet answers for node \"", pod.node_name, "\", this is \"", options_.node_name, "\""));
    }
  }
  index_.Replace(std::move(list.pods));
  listed_ = true;
  return absl::OkStatus();
}

}  // namespace signet::agent
