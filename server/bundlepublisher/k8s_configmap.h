// Bundle publisher "k8s_configmap": a key of a ConfigMap of one cluster, as SPIRE's publisher of that name writes it,
// for agents to mount as their first trust. Other keys of the ConfigMap are left alone. Rights, in the ConfigMap's
// namespace: `patch` on configmaps, which may be limited to this one name. One that is not there is made with `create`,
// a right that Kubernetes cannot limit to a name; without it somebody else makes it, empty.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/kubernetes/api_client.h"
#include "server/bundlepublisher/bundle_publisher.h"

namespace signet::server {

class K8sConfigMap final : public BundlePublisher {
 public:
  enum class Format { kPem, kSpiffeJson };
  struct Options {
    std::string cluster;  // its name in the configuration
    std::string namespace_name = "signet";
    std::string config_map = "signet-bundle";
    std::string key = "bundle.crt";
    Format format = Format::kPem;
    absl::Duration timeout = absl::Seconds(10);  // of a call
  };
  // kInvalidArgument names the key at fault.
  static absl::StatusOr<std::unique_ptr<K8sConfigMap>> Create(Options options,
                                                              std::unique_ptr<kubernetes::ApiClient> api);

  std::string name() const override;
  absl::Status Publish(const spiffe::Bundle& bundle) override;
  void Cancel() override { cancellation_.Cancel(); }

 private:
  K8sConfigMap(Options options, std::unique_ptr<kubernetes::ApiClient> api);
  absl::Status MakeAnew(const std::string& content);

  const Options options_;
  const std::unique_ptr<kubernetes::ApiClient> api_;
  kubernetes::Cancellation cancellation_;
};

}  // namespace signet::server
