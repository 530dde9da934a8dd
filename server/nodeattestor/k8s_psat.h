// Node attestor "k8s_psat": the projected service-account token of the agent's pod. SPIRE's wire
// (common/nodeattestor/k8s_psat.h). The agent becomes /spire/agent/k8s_psat/<cluster>/<node uid>, or
// .../<cluster>/pod/<pod uid>, and may attest again. Selectors of type k8s_psat: cluster, agent_ns, agent_sa,
// agent_pod_name, agent_pod_uid, agent_node_ip, agent_node_name, agent_node_uid, agent_node_label and agent_pod_label
// (those allowed).
// Whose token it is, the API server says (TokenReview), and every fact is its word: the pod the token is bound to is
// looked up, must still be that pod (uid), run as the same service account and be alive; the node is the one the pod
// was put on, and must be that of the token.
// Waiting work: three calls to the API server, on `remote`, a few at a time for each cluster, so that one that is slow
// keeps neither other clusters nor other attestors waiting. Destroying an attestation ends its calls.
// Errors: kInvalidArgument malformed, or no such cluster; kPermissionDenied the evidence does not hold;
// kResourceExhausted too many wait; kUnavailable the API server cannot be asked. That a cluster's API server does not
// work, and why, is in log and health; a peer learns no more than that.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/concurrency/executor.h"
#include "common/kubernetes/api_client.h"
#include "common/spiffe/trust_domain.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"
#include "server/nodeattestor/node_attestor.h"

namespace signet::server {

class K8sPsat final : public NodeAttestor {
 public:
  struct Cluster {
    std::string name;
    std::unique_ptr<kubernetes::ApiClient> api;
    std::vector<std::string> service_account_allow_list;  // "NAMESPACE:NAME"; at least one
    std::vector<std::string> audiences = {"spire-server"};
    std::vector<std::string> allowed_node_label_keys, allowed_pod_label_keys;
    bool use_pod_uid_for_agent_id = false;
  };
  struct Options {
    spiffe::TrustDomain trust_domain;
    std::vector<Cluster> clusters;
    absl::Duration deadline = absl::Seconds(15);  // of an attestation, waiting for its turn included
    size_t running_per_cluster = 4, waiting_per_cluster = 256;
  };
  // All outlive the attestor and its attestations. kInvalidArgument names the key at fault.
  static absl::StatusOr<std::unique_ptr<K8sPsat>> Create(Options options, Executor& remote, telemetry::Health& health,
                                                         Clock& clock);

  absl::string_view type() const override;
  std::unique_ptr<NodeAttestation> Begin() override;

  class ClusterReviews;  // one cluster: its settings, and the attestations that wait for it
  using Clusters = absl::flat_hash_map<std::string, std::shared_ptr<ClusterReviews>>;

 private:
  K8sPsat(Clusters clusters, absl::Duration deadline, Clock& clock);

  const Clusters clusters_;
  const absl::Duration deadline_;
  Clock& clock_;
};

}  // namespace signet::server
