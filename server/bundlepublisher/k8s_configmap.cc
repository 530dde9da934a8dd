#include "server/bundlepublisher/k8s_configmap.h"

#include <utility>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/kubernetes/names.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

// What stands in the object's managedFields as the writer of the key.
constexpr absl::string_view kFieldManager = "?fieldManager=signet-server";

}  // namespace

absl::StatusOr<std::unique_ptr<K8sConfigMap>> K8sConfigMap::Create(Options options,
                                                                   std::unique_ptr<kubernetes::ApiClient> api) {
  const std::string prefix = absl::StrCat("bundle_publishers.k8s_configmap.clusters.", options.cluster, ".");
  const auto refuse = [&](absl::string_view key, const std::string& value, absl::string_view rule) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, key, ": \"", absl::CHexEscape(value), "\" ", rule));
  };
  if (!kubernetes::IsLabel(options.namespace_name)) {
    return refuse("namespace", options.namespace_name, "is no name of a namespace");
  }
  if (!kubernetes::IsName(options.config_map)) {
    return refuse("config_map", options.config_map, "is no name of a ConfigMap");
  }
  if (!kubernetes::IsConfigMapKey(options.key)) {
    return refuse("config_map_key", options.key, "is no key of a ConfigMap: letters, digits, . - _");
  }
  return std::unique_ptr<K8sConfigMap>(new K8sConfigMap(std::move(options), std::move(api)));
}

K8sConfigMap::K8sConfigMap(Options options, std::unique_ptr<kubernetes::ApiClient> api)
    : options_(std::move(options)), api_(std::move(api)) {}

std::string K8sConfigMap::name() const { return absl::StrCat("k8s_configmap ", options_.cluster); }

absl::Status K8sConfigMap::Publish(const spiffe::Bundle& bundle) {
  const std::string content = options_.format == Format::kPem ? bundle.ToPem() : bundle.ToSpiffeJson();
  const boost::json::object patch = {{"data", boost::json::object{{options_.key, content}}}};
  const absl::Status status = api_->Patch(absl::StrCat("/api/v1/namespaces/", options_.namespace_name, "/configmaps/",
                                                       options_.config_map, kFieldManager),
                                          "application/merge-patch+json", boost::json::serialize(patch),
                                          {.timeout = options_.timeout, .cancel = &cancellation_})
                                  .status();
  return absl::IsNotFound(status) ? MakeAnew(content) : status;
}

absl::Status K8sConfigMap::MakeAnew(const std::string& content) {
  const boost::json::object object = {
      {"apiVersion", "v1"},
      {"kind", "ConfigMap"},
      {"metadata", boost::json::object{{"name", options_.config_map}, {"namespace", options_.namespace_name}}},
      {"data", boost::json::object{{options_.key, content}}}};
  const absl::Status status =
      api_->Post(absl::StrCat("/api/v1/namespaces/", options_.namespace_name, "/configmaps", kFieldManager),
                 boost::json::serialize(object), {.timeout = options_.timeout, .cancel = &cancellation_})
          .status();
  if (absl::IsAlreadyExists(status)) return absl::AbortedError(status.message());  // another server was quicker
  if (absl::IsPermissionDenied(status)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "ConfigMap ", options_.namespace_name, "/", options_.config_map,
        " is not there and the server's role may not make it; make it, empty, or grant `create` on configmaps (",
        status.message(), ")"));
  }
  return status;
}

}  // namespace signet::server
