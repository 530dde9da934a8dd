#include "agent/nodeattestor/join_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/nodeattestor/registry.h"
#include "common/fs/atomic_file.h"
#include "config/agent.pb.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(AgentJoinTokenTest, ReadsTheFileAnewEachTime) {
  const testing::TempDir dir;
  JoinToken attestor({.token_file = dir.file("token"), .token = ""});
  EXPECT_EQ(attestor.type(), "join_token");
  EXPECT_THAT(attestor.Payload(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                           AllOf(HasSubstr(dir.file("token")), HasSubstr("signet token generate"))));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir.file("token"), "one\n"));
  EXPECT_THAT(attestor.Payload(), IsOkAndHolds(std::string("one")));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir.file("token"), " two \r\n"));
  EXPECT_THAT(attestor.Payload(), IsOkAndHolds(std::string("two")));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir.file("token"), "\n"));
  EXPECT_THAT(attestor.Payload(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is empty")));
}

TEST(AgentJoinTokenTest, HasNoChallenge) {
  JoinToken attestor({.token_file = "", .token = "t"});
  EXPECT_THAT(attestor.Payload(), IsOkAndHolds(std::string("t")));
  EXPECT_THAT(attestor.Respond("{}"), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(AgentNodeAttestorRegistryTest, MakesWhatTheConfigurationNames) {
  config::AgentNodeAttestor config;
  EXPECT_EQ(*MakeNodeAttestor(config), nullptr);
  config.mutable_join_token()->set_token("t");
  EXPECT_EQ((*MakeNodeAttestor(config))->type(), "join_token");
  config.mutable_join_token()->set_token_file("/no/such/token");
  EXPECT_THAT(MakeNodeAttestor(config), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("either")));
  config.mutable_join_token()->clear_token();
  EXPECT_THAT((*MakeNodeAttestor(config))->Payload(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("/no/such/token")));
  config.mutable_x509_pop();
  EXPECT_THAT(MakeNodeAttestor(config), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("certificate_path")));
  config.mutable_x509_pop()->set_certificate_path("c.pem");
  EXPECT_THAT(MakeNodeAttestor(config), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("private_key_path")));
  config.mutable_x509_pop()->set_private_key_path("k.pem");
  EXPECT_EQ((*MakeNodeAttestor(config))->type(), "x509pop");
}

}  // namespace
}  // namespace signet::agent
