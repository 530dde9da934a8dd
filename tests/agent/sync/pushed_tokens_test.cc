#include "agent/sync/pushed_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/agent/token/token_kit.h"
#include "tests/fakes/fake_clock.h"

namespace signet::agent {
namespace {

class PushedTokensTest : public ::testing::Test {
 protected:
  fakes::FakeClock clock_;
  TokenMaker maker_;
  PushedTokens pushed_{clock_, {.resources = 3, .revocations = 3}};
};

TEST_F(PushedTokensTest, IsToldOnceThatItIsWanted) {
  int told = 0;
  pushed_.SetOnWanted([&] { ++told; });
  EXPECT_FALSE(pushed_.wanted());
  pushed_.Want();
  pushed_.Want();
  EXPECT_TRUE(pushed_.wanted());
  EXPECT_EQ(told, 1);
}

TEST_F(PushedTokensTest, WhereTheServiceIsComesBeforeAnyState) {
  pushed_.Opened();
  pushed_.Apply({.issuer = kIssuer, .introspection_endpoint = "https://id.example.org/oauth2/introspect"});
  EXPECT_EQ(pushed_.Get().issuer, kIssuer);
  EXPECT_EQ(pushed_.Get().state, nullptr);
}

TEST_F(PushedTokensTest, AWholeStateReplacesAndChangesAreMerged) {
  pushed_.Opened();
  pushed_.Apply(WholeState(maker_));
  pushed_.Apply(Revoked(oauth::EntityKind::kToken, "a", 12));
  pushed_.Apply(Revoked(oauth::EntityKind::kToken, "b", 13));
  auto view = pushed_.Get();
  EXPECT_EQ(view.seq, 13u);
  EXPECT_EQ(view.state->revocations.size(), 2u);
  EXPECT_EQ(view.state->resources.size(), 1u);

  TokenUpdate first = WholeState(maker_, 0);
  first.complete = false;
  pushed_.Opened();
  pushed_.Apply(std::move(first));
  EXPECT_EQ(pushed_.Get().state, view.state) << "until the new one is whole";
  pushed_.Apply({.complete = true, .seq = 9});
  view = pushed_.Get();
  EXPECT_EQ(view.state->revocations.size(), 0u);
  EXPECT_EQ(view.seq, 9u) << "a restored database may be behind";
}

TEST_F(PushedTokensTest, ChangesBeforeTheWholeOfAStreamChangeNothing) {
  pushed_.Opened();
  pushed_.Apply(WholeState(maker_));
  pushed_.Opened();
  pushed_.Apply(Revoked(oauth::EntityKind::kToken, "a", 12));
  EXPECT_EQ(pushed_.Get().seq, 10u);
}

TEST_F(PushedTokensTest, T4TooMuchStateIsNone) {
  pushed_.Opened();
  pushed_.Apply(WholeState(maker_));
  for (const char* jti : {"a", "b", "c"}) pushed_.Apply(Revoked(oauth::EntityKind::kToken, jti, 12));
  EXPECT_NE(pushed_.Get().state, nullptr);
  pushed_.Apply(Revoked(oauth::EntityKind::kToken, "d", 13));
  EXPECT_EQ(pushed_.Get().state, nullptr);
  pushed_.Beat(14);
  pushed_.Apply(Revoked(oauth::EntityKind::kToken, "e", 15));
  EXPECT_EQ(pushed_.Get().state, nullptr);
  pushed_.Apply(WholeState(maker_, 16));
  EXPECT_NE(pushed_.Get().state, nullptr);
}

}  // namespace
}  // namespace signet::agent
