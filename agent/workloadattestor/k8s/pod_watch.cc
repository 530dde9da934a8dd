#include "agent/workloadattestor/k8s/pod_watch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/kubernetes/names.h"
#include "common/kubernetes/namespace.h"
#include "common/kubernetes/pod.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr int kPageSize = 250;
// Pods that have ended stay in the API by the thousand, and whoever may create pods can put some on any node: they are
// not even sent. One that ends is told of as deleted.
constexpr absl::string_view kNotEnded = ",status.phase!=Succeeded,status.phase!=Failed";
constexpr absl::string_view kNamespaceAdvice =
    "; give the agent's service account the rights to list and watch namespaces, or turn namespace_labels off";
constexpr size_t kMaxNamespaces = 50'000;
// The server ends a watch when it said it would; a connection that is dead says nothing at all.
constexpr absl::Duration kSilenceAfterEnd = absl::Seconds(30);

}  // namespace

absl::string_view AdviceFor(const absl::Status& status, bool kubelet) {
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
      return kubelet ? "; the kubelet takes no token of this kind: enable its webhook authentication, and mount the "
                       "service account's token"
                     : "; check that the agent's service account exists and its token is mounted";
    case absl::StatusCode::kPermissionDenied:
      return kubelet
                 ? "; give the agent's service account the right to get nodes/pods (or nodes/proxy before Kubernetes "
                   "1.33)"
                 : "; give the agent's service account the rights to list and watch pods";
    case absl::StatusCode::kResourceExhausted:
      return "; it asks us to come less often";
    case absl::StatusCode::kUnavailable:
      return kubelet
                 ? "; check that the address is the kubelet's and that its certificate is signed by the configured CA "
                   "(serverTLSBootstrap)"
                 : "; check that it is reachable from this node";
    default:
      return "";
  }
}

PodWatch::PodWatch(Options options, std::unique_ptr<kubernetes::ApiClient> client, PodIndex& index, Clock& clock,
                   Metrics& metrics, telemetry::Health& health)
    : options_(std::move(options)),
      client_(std::move(client)),
      index_(index),
      clock_(clock),
      metrics_(metrics),
      health_(health),
      path_(options_.namespaces
                ? "/api/v1/namespaces?"
                : absl::StrCat("/api/v1/pods?fieldSelector=",
                               kubernetes::EscapeQuery(absl::StrCat("spec.nodeName=", options_.node_name, kNotEnded)),
                               "&")),
      what_(options_.namespaces ? "the cluster's namespaces" : "the node's pods"),
      part_(options_.namespaces ? kNamespacesHealth : kPodsHealth),
      backoff_(options_.first_retry, options_.last_retry),
      worker_("pod-watch", clock, [this] { return Round(); }) {}

PodWatch::~PodWatch() {
  cancel_.Cancel();
  worker_.Stop();
}

absl::Duration PodWatch::Round() {
  if (cancel_.cancelled()) return absl::InfiniteDuration();
  if (reason_.empty() && !listed_) {
    reason_ = absl::StrCat(what_, " have not been listed yet");
    health_.SetUnready(part_, reason_);
    index_.SetTrouble(part_, reason_);
  }
  absl::Status status;
  if (resource_version_.empty()) {
    status = List();
    if (!status.ok()) return Fails(status);
    Works();
  }
  const absl::Duration begun = clock_.Steady();
  status = Watch();
  if (cancel_.cancelled()) return absl::InfiniteDuration();
  // A server that ends each watch at once is not asked in a loop.
  if (status.ok()) return clock_.Steady() - begun < absl::Seconds(1) ? backoff_.Next() : absl::ZeroDuration();
  if (absl::IsOutOfRange(status)) {
    // Not an error by itself: the server keeps a few minutes. Again and again it would be.
    resource_version_.clear();
    SIGNET_LOG(info, absl::StrCat("listing ", what_, " anew"), {{"reason", status.message()}});
    return backoff_.Next();
  }
  return Fails(status);
}

absl::Status PodWatch::List() {
  const kubernetes::CallOptions options{.timeout = options_.answer_timeout, .cancel = &cancel_};
  if (options_.namespaces) {
    SIGNET_ASSIGN_OR_RETURN(kubernetes::NamespaceList list,
                            kubernetes::ListNamespaces(*client_, kPageSize, kMaxNamespaces, options));
    if (list.resource_version.empty()) return absl::UnavailableError("the list of namespaces has no resourceVersion");
    index_.ReplaceNamespaces(std::move(list.namespaces));
    resource_version_ = std::move(list.resource_version);
    listed_ = true;
    return absl::OkStatus();
  }
  const std::string path = path_.substr(0, path_.size() - 1);
  SIGNET_ASSIGN_OR_RETURN(kubernetes::PodList list,
                          kubernetes::ListPods(*client_, path, kPageSize, options_.max_pods, options));
  if (list.resource_version.empty()) return absl::UnavailableError("the list of pods has no resourceVersion");
  std::erase_if(list.pods, [this](const kubernetes::Pod& pod) { return pod.node_name != options_.node_name; });
  index_.Replace(std::move(list.pods));
  resource_version_ = std::move(list.resource_version);
  listed_ = true;
  return absl::OkStatus();
}

absl::Status PodWatch::Watch() {
  const std::string path =
      absl::StrCat(path_, "watch=1&allowWatchBookmarks=true&timeoutSeconds=", absl::ToInt64Seconds(options_.watch_for),
                   "&resourceVersion=", kubernetes::EscapeQuery(resource_version_));
  return client_->Watch(path, [this](absl::string_view line) { return OnLine(line); },
                        {.answer_timeout = options_.answer_timeout,
                         .silence = options_.watch_for + kSilenceAfterEnd,
                         .on_open = [this] { Works(); },
                         .cancel = &cancel_});
}

absl::Status PodWatch::OnNamespaceLine(absl::string_view line) {
  absl::StatusOr<kubernetes::NamespaceEvent> event = kubernetes::ParseNamespaceEvent(line);
  if (!event.ok()) {
    SIGNET_LOG(warn, "an event of a watch is left out", {{"reason", event.status().message()}});
    return absl::OkStatus();
  }
  using Type = kubernetes::NamespaceEvent::Type;
  if (event->type == Type::kError) return event->error;
  if (!event->resource_version.empty()) resource_version_ = std::move(event->resource_version);
  if (event->type == Type::kPut) index_.PutNamespace(std::move(event->object));
  if (event->type == Type::kDeleted) index_.DeleteNamespace(event->object.name);
  backoff_.Reset();
  Works();
  return absl::OkStatus();
}

absl::Status PodWatch::OnLine(absl::string_view line) {
  if (options_.namespaces) return OnNamespaceLine(line);
  absl::StatusOr<kubernetes::PodEvent> event = kubernetes::ParsePodEvent(line);
  if (!event.ok()) {  // one odd pod must not hide all others
    SIGNET_LOG(warn, "an event of a watch is left out", {{"reason", event.status().message()}});
    return absl::OkStatus();
  }
  using Type = kubernetes::PodEvent::Type;
  if (event->type == Type::kError) return event->error;
  if (!event->resource_version.empty()) resource_version_ = std::move(event->resource_version);
  const bool ours = event->type != Type::kBookmark && event->pod.node_name == options_.node_name;
  if (ours && event->type == Type::kDeleted) {
    index_.Delete(event->pod);
  } else if (ours) {
    index_.Put(std::move(event->pod));
  }
  backoff_.Reset();
  Works();
  return absl::OkStatus();
}

void PodWatch::Works() {
  if (!options_.namespaces) {
    metrics_.pods.Set(static_cast<double>(index_.pods()));
    metrics_.pod_source_seconds.Set(static_cast<double>(absl::ToUnixSeconds(clock_.Now())));
  }
  if (std::exchange(works_, true)) return;
  reason_.clear();
  index_.SetTrouble(part_, "");
  health_.SetReady(part_);
  SIGNET_LOG(info, absl::StrCat(what_, " are watched"), {{"node", options_.node_name}, {"pods", index_.pods()}});
}

absl::Duration PodWatch::Fails(const absl::Status& status) {
  if (cancel_.cancelled()) return absl::InfiniteDuration();
  metrics_.pod_source_failures.Add();
  const absl::Duration wait = std::max(backoff_.Next(), kubernetes::RetryAfter(status).value_or(absl::ZeroDuration()));
  const bool news = std::exchange(works_, false) || reason_ != status.message();
  reason_ = std::string(status.message());
  if (news) {
    const std::string what = absl::StrCat(
        what_, listed_ ? " are known as they were, the API server is away: " : " are not known: ", reason_,
        options_.namespaces && absl::IsPermissionDenied(status) ? kNamespaceAdvice : AdviceFor(status, false));
    index_.SetTrouble(part_, what);
    if (listed_) {
      health_.SetDegraded(part_, what);
    } else {
      health_.SetUnready(part_, what);
    }
    SIGNET_LOG(warn, absl::StrCat("the watch of ", what_, " fails"),
               {{"error", what}, {"retry_in", absl::FormatDuration(wait)}});
  }
  return std::min(wait, absl::Minutes(5));
}

}  // namespace signet::agent
