#include "agent/nodeattestor/k8s_psat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/fs/atomic_file.h"
#include "common/nodeattestor/k8s_psat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class AgentK8sPsatTest : public ::testing::Test {
 protected:
  void Write(const std::string& content) {
    ASSERT_THAT(fs::WriteFileAtomically(dir_.file("token"), content), testing::IsOk());
  }

  testing::TempDir dir_;
  K8sPsat attestor_{{.cluster = "prod", .token_path = dir_.file("token")}};
};

TEST_F(AgentK8sPsatTest, SendsTheTokenThatIsThereNow) {  // SPIRE's wire
  EXPECT_EQ(attestor_.type(), "k8s_psat");
  Write("first\n");
  EXPECT_THAT(attestor_.Payload(), IsOkAndHolds(R"({"cluster":"prod","token":"first"})"));
  Write("second");
  EXPECT_THAT(attestor_.Payload(), IsOkAndHolds(R"({"cluster":"prod","token":"second"})"));
}

TEST_F(AgentK8sPsatTest, SaysWhatToMountWhereWithoutTheToken) {
  const auto refused = StatusIs(
      absl::StatusCode::kUnavailable,
      AllOf(HasSubstr("node_attestor.k8s_psat.token_path"), HasSubstr("projected volume"), Not(HasSubstr("secret"))));
  EXPECT_THAT(attestor_.Payload(), refused);
  for (const std::string& content : {std::string(), std::string(" \n"), std::string("secret secret"),
                                     std::string("secret\nsecret"), std::string(k8spsat::kMaxTokenBytes + 1, 's')}) {
    Write(content);
    EXPECT_THAT(attestor_.Payload(), refused) << content.size();
  }
}

TEST_F(AgentK8sPsatTest, HasNoChallenge) {
  EXPECT_THAT(attestor_.Respond("x"), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace signet::agent
