#include "server/nodeattestor/registry.h"

#include <utility>

#include "common/status/macros.h"
#include "config/server.pb.h"
#include "server/nodeattestor/join_token.h"
#include "server/nodeattestor/k8s_psat.h"
#include "server/nodeattestor/x509_pop.h"

namespace signet::server {
namespace {

X509Pop::Options ToOptions(const config::ServerX509Pop& config, const NodeAttestorDeps& deps) {
  X509Pop::Options options{.trust_domain = deps.trust_domain,
                           .ca_bundle_paths = {config.ca_bundle_paths().begin(), config.ca_bundle_paths().end()}};
  if (!config.agent_path_prefix().empty()) options.agent_path_prefix = config.agent_path_prefix();
  return options;
}

absl::StatusOr<std::unique_ptr<K8sPsat>> MakeK8sPsat(const config::ServerK8sPsat& config,
                                                     const NodeAttestorDeps& deps) {
  K8sPsat::Options options{.trust_domain = deps.trust_domain, .clusters = {}};
  for (const auto& [name, c] : config.clusters()) {
    K8sPsat::Cluster cluster{.name = name, .api = nullptr, .use_pod_uid_for_agent_id = c.use_pod_uid_for_agent_id()};
    absl::StatusOr<std::unique_ptr<kubernetes::ApiClient>> api =
        kubernetes::ApiClient::Create({.kube_config_file = c.kube_config_file()});
    if (!api.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("node_attestors.k8s_psat.clusters.", name, ".kube_config_file: ", api.status().message()));
    }
    cluster.api = *std::move(api);
    cluster.service_account_allow_list.assign(c.service_account_allow_list().begin(),
                                              c.service_account_allow_list().end());
    if (!c.audience().empty()) cluster.audiences.assign(c.audience().begin(), c.audience().end());
    cluster.allowed_node_label_keys.assign(c.allowed_node_label_keys().begin(), c.allowed_node_label_keys().end());
    cluster.allowed_pod_label_keys.assign(c.allowed_pod_label_keys().begin(), c.allowed_pod_label_keys().end());
    options.clusters.push_back(std::move(cluster));
  }
  return K8sPsat::Create(std::move(options), deps.remote, deps.health, deps.clock);
}

}  // namespace

absl::StatusOr<NodeAttestors> MakeNodeAttestors(const config::ServerNodeAttestors& config,
                                                const NodeAttestorDeps& deps) {
  NodeAttestors attestors;
  if (config.has_join_token() || (!config.has_x509_pop() && !config.has_k8s_psat())) {
    attestors.push_back(std::make_unique<JoinToken>(deps.trust_domain, deps.tokens, deps.executor, deps.clock));
  }
  if (config.has_x509_pop()) {
    SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<X509Pop> x509_pop,
                            X509Pop::Create(ToOptions(config.x509_pop(), deps), deps.clock));
    attestors.push_back(std::move(x509_pop));
  }
  if (config.has_k8s_psat()) {
    SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<K8sPsat> k8s_psat, MakeK8sPsat(config.k8s_psat(), deps));
    attestors.push_back(std::move(k8s_psat));
  }
  return attestors;
}

}  // namespace signet::server
