#include "agent/workloadattestor/registry.h"

#include <stdlib.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/workloadattestor/k8s.h"
#include "agent/workloadattestor/k8s/host_view.h"
#include "agent/workloadattestor/k8s/kubelet_pods.h"
#include "agent/workloadattestor/k8s/pod_watch.h"
#include "agent/workloadattestor/unix.h"
#include "common/config/load.h"
#include "common/kubernetes/api_client.h"
#include "common/kubernetes/names.h"
#include "common/status/macros.h"
#include "config/agent.pb.h"

namespace signet::agent {
namespace {

constexpr char kDefaultCgroupRoot[] = "/run/signet/cgroup";
constexpr absl::Duration kMaxPodWait = absl::Seconds(10);  // an attestation takes no longer

std::string NodeName(const config::K8sAttestor& config, config::Errors& errors) {
  std::string name = config.node_name();
  const std::string variable = config.node_name_env().empty() ? "MY_NODE_NAME" : config.node_name_env();
  if (name.empty()) {
    const char* value = getenv(variable.c_str());
    if (value != nullptr) name = value;
  }
  if (name.empty()) {
    errors.Add("workload_attestors.k8s.node_name", absl::StrCat("is required: write it, or set the variable ", variable,
                                                                " in the agent's pod from the field spec.nodeName"));
  } else if (!kubernetes::IsName(name)) {
    errors.Add("workload_attestors.k8s.node_name", absl::StrCat("\"", name, "\" is no name of a node"));
  }
  return name;
}

// Null when `errors` says why.
absl::StatusOr<std::unique_ptr<WorkloadAttestor>> MakeK8s(const config::K8sAttestor& config,
                                                          const WorkloadAttestorDeps& deps, config::Errors& errors) {
  const std::string node = NodeName(config, errors);
  K8sAttestor::Options options;
  options.container_selectors = !config.disable_container_selectors();
  options.pod_wait = config::ParseDuration("workload_attestors.k8s.pod_wait", config.pod_wait(), kMaxPodWait, errors);
  if (options.pod_wait > kMaxPodWait) errors.Add("workload_attestors.k8s.pod_wait", "may be at most 10s");
  const bool named_root = !config.cgroup_root().empty();
  auto tree = CgroupTree::Open(named_root ? config.cgroup_root() : kDefaultCgroupRoot);
  if (tree.ok()) {
    options.tree = *std::move(tree);
  } else if (named_root) {
    errors.Add("workload_attestors.k8s.cgroup_root", tree.status().message());
  }
  kubernetes::CredentialSource::Options credentials{.kube_config_file = config.kube_config_file()};
  const config::K8sKubelet& kubelet = config.kubelet();
  if (config.has_kubelet()) {
    if (!config.kube_config_file().empty()) {
      errors.Add("workload_attestors.k8s.kube_config_file", "is the API server's: leave it out, or leave out kubelet");
    }
    credentials.in_cluster_server =
        absl::StrCat("https://", kubelet.address().empty() ? "127.0.0.1:10250" : kubelet.address());
    credentials.server_name = kubelet.server_name().empty() ? node : kubelet.server_name();
    credentials.ca_file = kubelet.ca_path();
    credentials.token_file = kubelet.token_path();
  }
  if (!errors.empty()) return nullptr;

  options.index.namespaces = config.namespace_labels();
  std::unique_ptr<kubernetes::ApiClient> for_namespaces;
  if (config.namespace_labels()) {
    SIGNET_ASSIGN_OR_RETURN(for_namespaces,
                            kubernetes::ApiClient::Create({.kube_config_file = config.kube_config_file()}),
                            "workload_attestors.k8s");
  }
  SIGNET_ASSIGN_OR_RETURN(const HostView view, ReadHostView());
  SIGNET_ASSIGN_OR_RETURN(options.roots, CheckHostView(view));
  SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<kubernetes::ApiClient> client,
                          kubernetes::ApiClient::Create(std::move(credentials)), "workload_attestors.k8s");
  K8sAttestor::MakeSources make_sources =
      [node, deps, client = std::move(client), ask = config.has_kubelet(),
       for_namespaces = std::move(for_namespaces)](PodIndex& index) mutable -> std::vector<std::unique_ptr<PodSource>> {
    std::vector<std::unique_ptr<PodSource>> sources;
    if (ask) {
      sources.push_back(std::make_unique<KubeletPods>(KubeletPods::Options{.node_name = node}, std::move(client), index,
                                                      deps.clock, deps.metrics, deps.health));
    } else {
      sources.push_back(std::make_unique<PodWatch>(PodWatch::Options{.node_name = node}, std::move(client), index,
                                                   deps.clock, deps.metrics, deps.health));
    }
    if (for_namespaces != nullptr) {
      sources.push_back(std::make_unique<PodWatch>(PodWatch::Options{.node_name = node, .namespaces = true},
                                                   std::move(for_namespaces), index, deps.clock, deps.metrics,
                                                   deps.health));
    }
    return sources;
  };
  return std::make_unique<K8sAttestor>(std::move(options), std::move(make_sources), deps.clock);
}

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<WorkloadAttestor>>> MakeWorkloadAttestors(
    const config::WorkloadAttestors& config, const WorkloadAttestorDeps& deps) {
  std::vector<std::unique_ptr<WorkloadAttestor>> attestors;
  config::Errors errors;

  UnixAttestor::Options options;
  options.discover_path = config.unix().discover_path();
  options.hash = !config.unix().disable_sha256();
  options.hash_size_limit = config::ParseSize("workload_attestors.unix.sha256_size_limit",
                                              config.unix().sha256_size_limit(), options.hash_size_limit, errors);
  attestors.push_back(std::make_unique<UnixAttestor>(options, deps.clock));

  if (config.has_k8s()) {
    SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<WorkloadAttestor> k8s, MakeK8s(config.k8s(), deps, errors));
    if (k8s != nullptr) attestors.push_back(std::move(k8s));
  }

  SIGNET_RETURN_IF_ERROR(errors.ToStatus());
  return attestors;
}

}  // namespace signet::agent
