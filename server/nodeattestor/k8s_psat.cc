#include "server/nodeattestor/k8s_psat.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/concurrency/mutex.h"
#include "common/kubernetes/names.h"
#include "common/kubernetes/node.h"
#include "common/kubernetes/pod.h"
#include "common/kubernetes/token_review.h"
#include "common/log/log.h"
#include "common/nodeattestor/k8s_psat.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

using Step = NodeAttestation::Step;

absl::Status Denied(absl::string_view why) { return absl::PermissionDeniedError(absl::StrCat("k8s_psat: ", why)); }

// An attestation from its payload to its verdict. Shared by who waits for it and who works on it.
class Review {
 public:
  Review(std::string its_token, absl::Duration its_end, NodeAttestation::Done done)
      : token(std::move(its_token)), until(its_end), done_(std::move(done)) {}

  const std::string token;
  const absl::Duration until;  // steady time
  kubernetes::Cancellation cancellation;

  // Who takes it first, the verdict or who gives up, has it.
  NodeAttestation::Done Take() {
    MutexLock lock(mutex_);
    return std::exchange(done_, nullptr);
  }
  bool waited_for() const {
    MutexLock lock(mutex_);
    return done_ != nullptr;
  }

 private:
  mutable Mutex mutex_;
  NodeAttestation::Done done_ ABSL_GUARDED_BY(mutex_);
};

// The error of a request that held the token, for log and health: who answers may repeat what it was sent. A part of
// the token may stay, where the message was cut; without its end, the signature, it proves nothing.
absl::Status WithoutToken(const absl::Status& status, const std::string& token) {
  if (!absl::StrContains(status.message(), token)) return status;
  return absl::Status(status.code(), "it answers with an error that repeats the token");
}

bool Contains(const std::vector<std::string>& list, absl::string_view value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

}  // namespace

class K8sPsat::ClusterReviews : public std::enable_shared_from_this<ClusterReviews> {
 public:
  ClusterReviews(spiffe::TrustDomain trust_domain, Cluster cluster, size_t running_limit, size_t waiting_limit,
                 Executor& remote, telemetry::Health& health, Clock& clock)
      : trust_domain_(std::move(trust_domain)),
        cluster_(std::move(cluster)),
        running_limit_(running_limit),
        waiting_limit_(waiting_limit),
        health_part_(absl::StrCat("k8s_psat ", cluster_.name)),
        remote_(remote),
        health_(health),
        clock_(clock) {}
  // Gone from the configuration, or replaced: what this one found amiss is said no more.
  ~ClusterReviews() { Works(); }

  // False: too many wait.
  bool Submit(std::shared_ptr<Review> review) {
    {
      MutexLock lock(mutex_);
      if (waiting_.size() >= waiting_limit_) {
        std::erase_if(waiting_, [](const std::shared_ptr<Review>& gone) { return !gone->waited_for(); });
      }
      if (waiting_.size() >= waiting_limit_) return false;
      waiting_.push_back(review);
      if (running_ >= running_limit_) return true;
      ++running_;
    }
    if (remote_.Post([self = shared_from_this()] { self->Run(); })) return true;
    MutexLock lock(mutex_);
    --running_;
    return std::erase(waiting_, review) == 0;  // another runner may have it already
  }

 private:
  void Run() {
    for (;;) {
      std::shared_ptr<Review> review;
      {
        MutexLock lock(mutex_);
        if (waiting_.empty()) {
          --running_;
          return;
        }
        review = std::move(waiting_.front());
        waiting_.pop_front();
      }
      if (!review->waited_for()) continue;
      absl::StatusOr<Step> step = Decide(*review);
      if (NodeAttestation::Done done = review->Take()) done(std::move(step));
    }
  }

  absl::StatusOr<Step> Decide(Review& review) {
    SIGNET_ASSIGN_OR_RETURN(const kubernetes::CallOptions options, Rest(review));
    const absl::StatusOr<std::string> answer =
        cluster_.api->Post(std::string(kubernetes::kTokenReviewPath),
                           kubernetes::TokenReviewRequest(review.token, cluster_.audiences), options);
    if (!answer.ok()) return Unanswered(WithoutToken(answer.status(), review.token));
    const absl::StatusOr<kubernetes::ReviewedToken> token =
        kubernetes::ReadTokenReview(*answer, cluster_.audiences, review.token);
    if (absl::IsPermissionDenied(token.status())) {
      Works();
      return Denied(token.status().message());
    }
    if (!token.ok()) return Unanswered(token.status());

    const std::string account = absl::StrCat(token->namespace_name, ":", token->service_account);
    if (!Contains(cluster_.service_account_allow_list, account)) {
      return Denied(absl::StrCat("service account \"", account, "\" is not in service_account_allow_list"));
    }
    SIGNET_ASSIGN_OR_RETURN(const kubernetes::Pod pod, LookUpPod(review, *token));
    SIGNET_ASSIGN_OR_RETURN(const kubernetes::Node node, LookUpNode(review, *token, pod));
    Works();
    return Attested(*token, pod, node);
  }

  absl::StatusOr<kubernetes::Pod> LookUpPod(Review& review, const kubernetes::ReviewedToken& token) {
    SIGNET_ASSIGN_OR_RETURN(const kubernetes::CallOptions options, Rest(review));
    const std::string name = absl::StrCat("pod ", token.namespace_name, "/", token.pod_name);
    const absl::StatusOr<std::string> answer =
        cluster_.api->Get(absl::StrCat("/api/v1/namespaces/", token.namespace_name, "/pods/", token.pod_name), options);
    if (absl::IsNotFound(answer.status())) return Denied(absl::StrCat(name, " is gone"));
    if (!answer.ok()) return Unanswered(answer.status());
    absl::StatusOr<kubernetes::Pod> pod = kubernetes::ParsePod(*answer);
    if (!pod.ok()) return Unanswered(pod.status());
    if (pod->namespace_name != token.namespace_name || pod->name != token.pod_name || pod->uid != token.pod_uid) {
      return Denied(absl::StrCat(name, " is another pod than the token is bound to"));
    }
    if (pod->service_account != token.service_account) {
      return Denied(absl::StrCat(name, " does not run as the token's service account"));
    }
    if (pod->phase == "Succeeded" || pod->phase == "Failed") return Denied(absl::StrCat(name, " has ended"));
    if (pod->node_name.empty()) return Denied(absl::StrCat(name, " runs on no node"));
    return pod;
  }

  absl::StatusOr<kubernetes::Node> LookUpNode(Review& review, const kubernetes::ReviewedToken& token,
                                              const kubernetes::Pod& pod) {
    if (!token.node_name.empty() && token.node_name != pod.node_name) {
      return Denied(absl::StrCat("the token is bound to node ", token.node_name, ", the pod runs on ", pod.node_name));
    }
    SIGNET_ASSIGN_OR_RETURN(const kubernetes::CallOptions options, Rest(review));
    const absl::StatusOr<std::string> answer =
        cluster_.api->Get(absl::StrCat("/api/v1/nodes/", pod.node_name), options);
    if (absl::IsNotFound(answer.status())) return Denied(absl::StrCat("node ", pod.node_name, " is gone"));
    if (!answer.ok()) return Unanswered(answer.status());
    absl::StatusOr<kubernetes::Node> node = kubernetes::ParseNode(*answer);
    if (!node.ok()) return Unanswered(node.status());
    if (node->name != pod.node_name || (!token.node_uid.empty() && node->uid != token.node_uid)) {
      return Denied(absl::StrCat("node ", pod.node_name, " is another node than the token is bound to"));
    }
    return node;
  }

  absl::StatusOr<Step> Attested(const kubernetes::ReviewedToken& token, const kubernetes::Pod& pod,
                                const kubernetes::Node& node) const {
    const std::string last = cluster_.use_pod_uid_for_agent_id ? absl::StrCat("pod/", token.pod_uid) : node.uid;
    SIGNET_ASSIGN_OR_RETURN(
        spiffe::Id agent_id,
        spiffe::Id::FromPath(trust_domain_, absl::StrCat("/spire/agent/k8s_psat/", cluster_.name, "/", last)));
    std::vector<std::string> values = {
        absl::StrCat("cluster:", cluster_.name),          absl::StrCat("agent_ns:", token.namespace_name),
        absl::StrCat("agent_sa:", token.service_account), absl::StrCat("agent_pod_name:", token.pod_name),
        absl::StrCat("agent_pod_uid:", token.pod_uid),    absl::StrCat("agent_node_name:", node.name),
        absl::StrCat("agent_node_uid:", node.uid)};
    if (!pod.host_ip.empty()) values.push_back(absl::StrCat("agent_node_ip:", pod.host_ip));
    for (const auto& [key, value] : node.labels) {
      if (Contains(cluster_.allowed_node_label_keys, key)) {
        values.push_back(absl::StrCat("agent_node_label:", key, ":", value));
      }
    }
    for (const auto& [key, value] : pod.labels) {
      if (Contains(cluster_.allowed_pod_label_keys, key)) {
        values.push_back(absl::StrCat("agent_pod_label:", key, ":", value));
      }
    }
    AttestedNode attested{.agent_id = std::move(agent_id), .selectors = {}, .can_reattest = true};
    for (const std::string& value : values) {
      SIGNET_ASSIGN_OR_RETURN(spiffe::Selector selector, spiffe::Selector::FromParts(k8spsat::kType, value),
                              k8spsat::kType);
      attested.selectors.push_back(std::move(selector));
    }
    spiffe::Normalize(attested.selectors);
    Step step;
    step.node = std::move(attested);
    return step;
  }

  // What is left of the attestation's time, for the next call.
  absl::StatusOr<kubernetes::CallOptions> Rest(Review& review) {
    const absl::Duration left = review.until - clock_.Steady();
    if (left <= absl::ZeroDuration()) {
      return Unanswered(absl::UnavailableError("too many attestations wait for it, or it is slow"));
    }
    return kubernetes::CallOptions{.timeout = left, .cancel = &review.cancellation};
  }

  void Works() {
    if (degraded_.exchange(false)) health_.SetReady(health_part_);
  }

  // The operator is told all, the peer, of whom nothing is known yet, no more than it needs.
  absl::Status Unanswered(const absl::Status& why) {
    if (absl::IsCancelled(why)) return why;
    absl::string_view advice = "check that it can be reached from here";
    if (absl::IsPermissionDenied(why)) advice = "give the server's role the right that is named";
    if (absl::IsUnauthenticated(why)) advice = "check the server's token or kube_config_file";
    if (absl::IsFailedPrecondition(why)) advice = "check kube_config_file, or the pod's service account";
    SIGNET_LOG(
        warn, "API server does not serve attestations",
        {{"attestor", k8spsat::kType}, {"cluster", cluster_.name}, {"error", why.message()}, {"advice", advice}});
    degraded_ = true;
    health_.SetDegraded(health_part_, absl::StrCat(why.message(), "; ", advice));
    return absl::UnavailableError(absl::StrCat("k8s_psat: the API server of cluster \"", cluster_.name,
                                               "\" cannot be asked now; the log of signet-server says why"));
  }

  const spiffe::TrustDomain trust_domain_;
  const Cluster cluster_;
  const size_t running_limit_, waiting_limit_;
  const std::string health_part_;
  Executor& remote_;
  telemetry::Health& health_;
  Clock& clock_;
  std::atomic<bool> degraded_{false};
  Mutex mutex_;
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::shared_ptr<Review>> waiting_ ABSL_GUARDED_BY(mutex_);
};

namespace {

class K8sPsatAttestation final : public NodeAttestation {
 public:
  K8sPsatAttestation(const K8sPsat::Clusters& clusters, absl::Duration deadline, Clock& clock)
      : clusters_(clusters), deadline_(deadline), clock_(clock) {}
  ~K8sPsatAttestation() override {
    if (review_ == nullptr) return;
    review_->Take();
    review_->cancellation.Cancel();
  }

  void Start(std::string payload, Done done) override {
    absl::StatusOr<k8spsat::Evidence> evidence = k8spsat::Parse(payload);
    if (!evidence.ok()) return done(evidence.status());
    const auto cluster = clusters_.find(evidence->cluster);
    if (cluster == clusters_.end()) {
      return done(absl::InvalidArgumentError(
          absl::StrCat("k8s_psat: cluster \"", absl::CHexEscape(evidence->cluster.substr(0, 64)),
                       "\" is not in node_attestors.k8s_psat.clusters of this server")));
    }
    review_ = std::make_shared<Review>(std::move(evidence->token), clock_.Steady() + deadline_, std::move(done));
    const std::shared_ptr<Review> review = review_;  // the verdict may destroy this attestation
    if (cluster->second->Submit(review)) return;
    if (Done waiting = review->Take()) {
      waiting(absl::ResourceExhaustedError("k8s_psat: too many attestations wait for this cluster, try again"));
    }
  }

  void Respond(std::string, Done done) override {
    done(absl::FailedPreconditionError("k8s_psat: there is no challenge to respond to"));
  }

 private:
  const K8sPsat::Clusters& clusters_;
  const absl::Duration deadline_;
  Clock& clock_;
  std::shared_ptr<Review> review_;
};

absl::Status CheckCluster(const spiffe::TrustDomain& trust_domain, const K8sPsat::Cluster& cluster) {
  const std::string key = absl::StrCat("node_attestors.k8s_psat.clusters.", cluster.name);
  const bool segment = cluster.name.find('/') == std::string::npos &&
                       spiffe::Id::FromPath(trust_domain, absl::StrCat("/spire/agent/k8s_psat/", cluster.name)).ok();
  if (!segment) return absl::InvalidArgumentError(absl::StrCat(key, ": the name cannot stand in a SPIFFE ID"));
  if (cluster.service_account_allow_list.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ".service_account_allow_list: is required: NAMESPACE:NAME of the agents' service accounts"));
  }
  for (const std::string& account : cluster.service_account_allow_list) {
    const std::vector<std::string> parts = absl::StrSplit(account, ':');
    if (parts.size() != 2 || !kubernetes::IsLabel(parts[0]) || !kubernetes::IsName(parts[1])) {
      return absl::InvalidArgumentError(
          absl::StrCat(key, ".service_account_allow_list: \"", absl::CHexEscape(account), "\" is not NAMESPACE:NAME"));
    }
  }
  if (cluster.audiences.empty() || Contains(cluster.audiences, "")) {
    return absl::InvalidArgumentError(absl::StrCat(key, ".audience: an audience must not be empty"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<K8sPsat>> K8sPsat::Create(Options options, Executor& remote, telemetry::Health& health,
                                                         Clock& clock) {
  if (options.clusters.empty()) {
    return absl::InvalidArgumentError("node_attestors.k8s_psat.clusters: names no cluster");
  }
  Clusters clusters;
  for (Cluster& cluster : options.clusters) {
    SIGNET_RETURN_IF_ERROR(CheckCluster(options.trust_domain, cluster));
    const std::string name = cluster.name;
    clusters[name] =
        std::make_shared<ClusterReviews>(options.trust_domain, std::move(cluster), options.running_per_cluster,
                                         options.waiting_per_cluster, remote, health, clock);
  }
  return std::unique_ptr<K8sPsat>(new K8sPsat(std::move(clusters), options.deadline, clock));
}

K8sPsat::K8sPsat(Clusters clusters, absl::Duration deadline, Clock& clock)
    : clusters_(std::move(clusters)), deadline_(deadline), clock_(clock) {}

absl::string_view K8sPsat::type() const { return k8spsat::kType; }

std::unique_ptr<NodeAttestation> K8sPsat::Begin() {
  return std::make_unique<K8sPsatAttestation>(clusters_, deadline_, clock_);
}

}  // namespace signet::server
