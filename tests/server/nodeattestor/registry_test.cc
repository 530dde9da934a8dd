#include "server/nodeattestor/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/fs/atomic_file.h"
#include "config/server.pb.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::testing::ElementsAre;

class NoTokens final : public JoinTokenStore {
  void CreateJoinToken(JoinTokenRecord, StatusCompletion done) override { done(absl::OkStatus()); }
  absl::StatusOr<JoinTokenRecord> FindJoinToken(const std::string&, absl::Time) override {
    return absl::NotFoundError("");
  }
  void PruneJoinTokens(absl::Time, Completion<size_t> done) override { done(0); }
};

class NodeAttestorRegistryTest : public ::testing::Test {
 protected:
  std::vector<std::string> Types(const config::ServerNodeAttestors& config) {
    std::vector<std::string> types;
    auto attestors = MakeNodeAttestors(config, {.trust_domain = *spiffe::TrustDomain::Parse("td"),
                                                .tokens = tokens_,
                                                .executor = executor_,
                                                .remote = executor_,
                                                .health = health_,
                                                .clock = clock_});
    if (!attestors.ok()) return {std::string(attestors.status().message())};
    for (const auto& attestor : *attestors) types.emplace_back(attestor->type());
    return types;
  }

  testing::TempDir dir_;
  NoTokens tokens_;
  Executor executor_{{.name = "attest", .threads = 1}};
  telemetry::Health health_;
  fakes::FakeClock clock_;
};

TEST_F(NodeAttestorRegistryTest, JoinTokensAreTheDefault) {
  config::ServerNodeAttestors config;
  EXPECT_THAT(Types(config), ElementsAre("join_token"));
  config.mutable_join_token();
  EXPECT_THAT(Types(config), ElementsAre("join_token"));
}

TEST_F(NodeAttestorRegistryTest, WhatIsNamedIsMadeAndNothingElse) {  // N15
  const auto root = testing::SelfSigned(testing::CaTemplate("root", clock_.Now()));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("roots.pem"), root.certificate.Pem()));
  config::ServerNodeAttestors config;
  config.mutable_x509_pop()->add_ca_bundle_paths(dir_.file("roots.pem"));
  EXPECT_THAT(Types(config), ElementsAre("x509pop"));
  config.mutable_join_token();
  EXPECT_THAT(Types(config), ElementsAre("join_token", "x509pop"));
}

TEST_F(NodeAttestorRegistryTest, ClustersAreReachedByTheirKubeconfig) {
  config::ServerNodeAttestors config;
  config::ServerK8sCluster& cluster = (*config.mutable_k8s_psat()->mutable_clusters())["prod"];
  cluster.add_service_account_allow_list("signet:signet-agent");
  EXPECT_THAT(Types(config), ElementsAre("k8s_psat"));  // the pod's own cluster: looked at when it is asked
  cluster.set_kube_config_file(dir_.file("none"));
  EXPECT_THAT(Types(config),
              ElementsAre(::testing::HasSubstr("node_attestors.k8s_psat.clusters.prod.kube_config_file")));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(
      dir_.file("config"),
      "{current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}], clusters: [{name: c, cluster: "
      "{server: \"https://k\", certificate-authority-data: cGVt}}], users: [{name: u, user: {token: t}}]}"));
  cluster.set_kube_config_file(dir_.file("config"));
  EXPECT_THAT(Types(config), ElementsAre("k8s_psat"));
}

TEST_F(NodeAttestorRegistryTest, ErrorsNameTheKey) {
  config::ServerNodeAttestors config;
  config.mutable_x509_pop();
  EXPECT_THAT(Types(config), ElementsAre(::testing::HasSubstr("node_attestors.x509_pop.ca_bundle_paths")));
}

}  // namespace
}  // namespace signet::server
