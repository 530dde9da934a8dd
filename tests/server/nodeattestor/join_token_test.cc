#include "server/nodeattestor/join_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <string>

#include "common/crypto/digest.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Holds one token; can fail and can be made to wait.
class OneToken final : public JoinTokenStore {
 public:
  void CreateJoinToken(JoinTokenRecord token, StatusCompletion done) override {
    record_ = std::move(token);
    done(absl::OkStatus());
  }
  absl::StatusOr<JoinTokenRecord> FindJoinToken(const std::string& token_sha256, absl::Time now) override {
    if (gate_.valid()) gate_.wait();
    if (!failure_.ok()) return failure_;
    if (!record_ || record_->token_sha256 != token_sha256 || record_->expires_at <= now)
      return absl::NotFoundError("token");
    return *record_;
  }
  void PruneJoinTokens(absl::Time, Completion<size_t> done) override { done(0); }

  std::optional<JoinTokenRecord> record_;
  absl::Status failure_;
  std::shared_future<void> gate_;
};

class JoinTokenTest : public ::testing::Test {
 protected:
  JoinTokenTest() {
    tokens_.record_ = JoinTokenRecord{.token_sha256 = crypto::Sha256("t0k-en"),
                                      .expires_at = clock_.Now() + absl::Minutes(10),
                                      .alias_id = *spiffe::Id::Parse("spiffe://td/node")};
  }
  absl::StatusOr<NodeAttestation::Step> Start(const std::string& payload) {
    std::promise<absl::StatusOr<NodeAttestation::Step>> result;
    const auto attestation = attestor_.Begin();
    attestation->Start(payload, [&](absl::StatusOr<NodeAttestation::Step> step) { result.set_value(std::move(step)); });
    return result.get_future().get();
  }

  fakes::FakeClock clock_;
  OneToken tokens_;
  Executor executor_{{.name = "attest", .threads = 1, .queue_limit = 1}};
  JoinToken attestor_{*spiffe::TrustDomain::Parse("td"), tokens_, executor_, clock_};
};

TEST_F(JoinTokenTest, AKnownTokenNamesTheAgentAndIsLeftToBeConsumed) {
  EXPECT_EQ(attestor_.type(), "join_token");
  SIGNET_ASSERT_OK_AND_ASSIGN(const NodeAttestation::Step step, Start("t0k-en"));
  ASSERT_TRUE(step.node.has_value());
  EXPECT_FALSE(step.challenge.has_value());
  EXPECT_EQ(step.node->agent_id.string(), "spiffe://td/spire/agent/join_token/t0k-en");
  EXPECT_EQ(step.node->consume_token_sha256, crypto::Sha256("t0k-en"));
  EXPECT_EQ(step.node->alias_id->string(), "spiffe://td/node");
  EXPECT_TRUE(step.node->selectors.empty());
  EXPECT_FALSE(step.node->can_reattest);
}

TEST_F(JoinTokenTest, RefusesAnUnknownOrExpiredToken) {
  const auto refused = StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("signet token generate"));
  EXPECT_THAT(Start("another"), refused);
  clock_.Advance(absl::Minutes(10));
  EXPECT_THAT(Start("t0k-en"), refused);
}

TEST_F(JoinTokenTest, RefusesWhatIsNoSingleSegment) {  // SPI-01-007, and no token in a message (N13)
  for (const std::string& token :
       {std::string(), std::string("secret/x"), std::string("/secret"), std::string("secret/"), std::string(".."),
        std::string("."), std::string("secret\0", 7), std::string("secret%2f"), std::string("secret\n"),
        std::string("s\xc3\xa9"
                    "cret"),
        std::string(256, 'a')}) {
    EXPECT_THAT(Start(token),
                StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("join token"), Not(HasSubstr("secret")))));
  }
}

TEST_F(JoinTokenTest, AStoreThatCannotAnswerIsNoVerdict) {
  tokens_.failure_ = absl::UnavailableError("database");
  EXPECT_THAT(Start("t0k-en"), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(JoinTokenTest, AFullExecutorSheds) {
  std::promise<void> open;
  std::promise<void> running;
  ASSERT_TRUE(executor_.Post([&] {
    running.set_value();
    open.get_future().wait();
  }));
  running.get_future().wait();
  ASSERT_TRUE(executor_.Post([] {}));  // the one place in the queue
  EXPECT_THAT(Start("t0k-en"), StatusIs(absl::StatusCode::kResourceExhausted));
  open.set_value();
}

TEST_F(JoinTokenTest, DestroyingTheAttestationDropsTheAnswer) {
  std::promise<void> open;
  tokens_.gate_ = open.get_future().share();
  bool called = false;
  auto attestation = attestor_.Begin();
  attestation->Start("t0k-en", [&](const absl::StatusOr<NodeAttestation::Step>&) { called = true; });
  attestation.reset();
  open.set_value();
  std::promise<void> drained;
  while (!executor_.Post([&] { drained.set_value(); })) {
  }
  drained.get_future().wait();
  EXPECT_FALSE(called);
}

TEST_F(JoinTokenTest, HasNoChallenge) {
  absl::Status status;
  attestor_.Begin()->Respond("x", [&](absl::StatusOr<NodeAttestation::Step> step) { status = step.status(); });
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace signet::server
