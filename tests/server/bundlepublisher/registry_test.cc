#include "server/bundlepublisher/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/server.pb.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;
using ::testing::HasSubstr;

TEST(BundlePublisherRegistryTest, MakesOneForEachCluster) {
  config::BundlePublishers config;
  SIGNET_ASSERT_OK_AND_ASSIGN(const BundlePublishers none, MakeBundlePublishers(config));
  EXPECT_TRUE(none.empty());
  (*config.mutable_k8s_configmap()->mutable_clusters())["prod"];
  (*config.mutable_k8s_configmap()->mutable_clusters())["stage"].set_format("spiffe");
  SIGNET_ASSERT_OK_AND_ASSIGN(const BundlePublishers two, MakeBundlePublishers(config));
  EXPECT_EQ(two.size(), 2u);
}

TEST(BundlePublisherRegistryTest, ErrorsNameTheKey) {
  config::BundlePublishers config;
  config::K8sConfigMapCluster& cluster = (*config.mutable_k8s_configmap()->mutable_clusters())["prod"];
  cluster.set_format("jwks");
  EXPECT_THAT(MakeBundlePublishers(config),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("clusters.prod.format: \"jwks\"")));
  cluster.clear_format();
  cluster.set_kube_config_file("/nowhere");
  EXPECT_THAT(MakeBundlePublishers(config),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("clusters.prod.kube_config_file: ")));
}

}  // namespace
}  // namespace signet::server
