// From the configuration to the bundle publishers: the one place that names them.
#pragma once

#include "absl/status/statusor.h"
#include "server/bundlepublisher/bundle_publisher.h"

namespace signet::config {
class BundlePublishers;
}  // namespace signet::config

namespace signet::server {

// One for each place that is configured, with the kubeconfig files it names read now. kInvalidArgument names the key.
absl::StatusOr<BundlePublishers> MakeBundlePublishers(const config::BundlePublishers& config);

}  // namespace signet::server
