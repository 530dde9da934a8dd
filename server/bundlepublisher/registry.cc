#include "server/bundlepublisher/registry.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "config/server.pb.h"
#include "server/bundlepublisher/k8s_configmap.h"

namespace signet::server {
namespace {

absl::StatusOr<std::unique_ptr<BundlePublisher>> MakeK8sConfigMap(const std::string& name,
                                                                  const config::K8sConfigMapCluster& config) {
  const std::string key = absl::StrCat("bundle_publishers.k8s_configmap.clusters.", name);
  K8sConfigMap::Options options;
  options.cluster = name;
  if (!config.namespace_().empty()) options.namespace_name = config.namespace_();
  if (!config.config_map().empty()) options.config_map = config.config_map();
  if (!config.config_map_key().empty()) options.key = config.config_map_key();
  if (config.format() == "spiffe") {
    options.format = K8sConfigMap::Format::kSpiffeJson;
  } else if (!config.format().empty() && config.format() != "pem") {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ".format: \"", absl::CHexEscape(config.format()), "\" is not known; write pem or spiffe"));
  }
  absl::StatusOr<std::unique_ptr<kubernetes::ApiClient>> api =
      kubernetes::ApiClient::Create({.kube_config_file = config.kube_config_file()});
  if (!api.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(key, ".kube_config_file: ", api.status().message()));
  }
  return K8sConfigMap::Create(std::move(options), *std::move(api));
}

}  // namespace

absl::StatusOr<BundlePublishers> MakeBundlePublishers(const config::BundlePublishers& config) {
  BundlePublishers publishers;
  for (const auto& [name, cluster] : config.k8s_configmap().clusters()) {
    SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<BundlePublisher> publisher, MakeK8sConfigMap(name, cluster));
    publishers.push_back(std::move(publisher));
  }
  return publishers;
}

}  // namespace signet::server
