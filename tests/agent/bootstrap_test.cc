#include "agent/bootstrap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/fs/atomic_file.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

class BootstrapTest : public ::testing::Test {
 protected:
  absl::StatusOr<spiffe::Bundle> First(TrustSource source) {
    return FirstTrust(source, Td(), [this]() -> absl::StatusOr<spiffe::Bundle> {
      ++asked_;
      return authority_.bundle();
    });
  }
  absl::StatusOr<spiffe::Bundle> FromFile(const std::string& text) {
    SIGNET_EXPECT_OK(fs::WriteFileAtomically(dir_.file("bundle"), text));
    return First({.path = dir_.file("bundle")});
  }
  testing::TempDir dir_;
  TestAuthority authority_{absl::FromUnixSeconds(1'800'000'000)};
  int asked_ = 0;
};

TEST_F(BootstrapTest, FileInEitherFormat) {
  const spiffe::Bundle bundle = authority_.bundle();
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::Bundle pem, FromFile(bundle.ToPem()));
  EXPECT_EQ(pem.x509_authorities, bundle.x509_authorities);
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::Bundle json, FromFile(bundle.ToSpiffeJson()));
  EXPECT_EQ(json.x509_authorities, bundle.x509_authorities);
  EXPECT_EQ(asked_, 0);  // no server is believed
}

TEST_F(BootstrapTest, BadFilesAreNamedWithTheNextStep) {
  EXPECT_THAT(First({.path = dir_.file("missing")}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("signet bundle show")));
  // A ConfigMap that the server has not filled yet.
  EXPECT_THAT(FromFile("\n"), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("bundle_publishers")));
  EXPECT_THAT(FromFile("rubbish"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(dir_.path())));
  EXPECT_THAT(FromFile(R"({"keys":[]})"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(asked_, 0);
}

TEST_F(BootstrapTest, NothingConfiguredTrustsNobody) {  // N15
  EXPECT_THAT(First({}), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("bootstrap")));
  EXPECT_EQ(asked_, 0);
}

TEST_F(BootstrapTest, InsecureAsksTheServer) {
  SIGNET_EXPECT_OK(First({.insecure = true}).status());
  EXPECT_EQ(asked_, 1);
}

}  // namespace
}  // namespace signet::agent
