#include "common/config/reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/load.h"
#include "config/agent.pb.h"
#include "config/server.pb.h"
#include "tests/testing/status_matchers.h"

namespace signet::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Server FromYaml(absl::string_view yaml) {
  Server server;
  SIGNET_EXPECT_OK(LoadYaml(yaml, "server.yaml", server));
  return server;
}
std::vector<std::string> ServerDifferences(absl::string_view a, absl::string_view b) {
  return Differences(FromYaml(a), FromYaml(b));
}

TEST(ReloadTest, NamesEveryKeyThatDiffersAndNoOther) {
  EXPECT_THAT(ServerDifferences("trust_domain: a\nca: {ttl: 24h}\nadmin_ids: [x, y]",
                                "trust_domain: a\nca: {ttl: 24h}\nadmin_ids: [x, y]"),
              IsEmpty());
  EXPECT_THAT(ServerDifferences("trust_domain: a\nca: {ttl: 24h, key_type: ec-p256}\nadmin_ids: [x, y]",
                                "trust_domain: b\nca: {ttl: 48h, key_type: ec-p256, subject: {country: DE}}\n"
                                "log: {level: debug}\nadmin_ids: [y, x]"),
              ElementsAre("trust_domain", "log.level", "ca.ttl", "ca.subject.country", "admin_ids"));
}

TEST(ReloadTest, WhatIsLeftOutIsItsDefaults) {
  EXPECT_THAT(ServerDifferences("ca: {}\nlog:", "trust_domain: \"\""), IsEmpty());
  EXPECT_THAT(ServerDifferences("", "ca: {ttl: 1h}"), ElementsAre("ca.ttl"));
}

TEST(ReloadTest, BeingThereCountsWhereItIsAllThatIsSaid) {
  EXPECT_THAT(ServerDifferences("key_manager: {disk: {}}", "key_manager: {memory: {}}"),
              ElementsAre("key_manager.disk", "key_manager.memory"));
  EXPECT_THAT(ServerDifferences("node_attestors: {x509_pop: {ca_bundle_paths: [a]}}",
                                "node_attestors: {x509_pop: {ca_bundle_paths: [b]}, join_token: {}}"),
              ElementsAre("node_attestors.join_token", "node_attestors.x509_pop.ca_bundle_paths"));
}

TEST(ReloadTest, TellsNoValue) {
  Agent a, b;
  b.mutable_node_attestor()->mutable_join_token()->set_token("secret");
  EXPECT_THAT(Differences(a, b), ElementsAre("node_attestor.join_token"));
  a.mutable_node_attestor()->mutable_join_token()->set_token("other");
  EXPECT_THAT(Differences(a, b), ElementsAre("node_attestor.join_token.token"));
}

}  // namespace
}  // namespace signet::config
