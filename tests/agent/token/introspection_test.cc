// Introspection at the agent: T4, what it takes to answer locally; T8, calls are counted.
#include "agent/token/introspection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/jose/jwk.h"
#include "tests/agent/token/token_kit.h"
#include "tests/fakes/fake_clock.h"

namespace signet::agent {
namespace {

using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::Optional;

const char kNo[] = R"({"active":false})";

class IntrospectionTest : public ::testing::Test {
 protected:
  IntrospectionTest() { Make({}); }
  void Make(Introspection::Options options) {
    introspection_ = std::make_unique<Introspection>(pushed_, clock_, metrics_, options);
  }
  void CatchUp() {
    pushed_.Opened();
    pushed_.Apply(WholeState(maker_));
  }
  oauth::Presentation Show(const oauth::AccessToken& claims) {
    return {.caller = kServer, .token = maker_.Sign(claims), .peer_x5t_s256 = "peer"};
  }
  std::optional<std::string> Local(const oauth::AccessToken& claims) { return introspection_->Local(Show(claims)); }
  oauth::AccessToken Claims() { return maker_.Claims(clock_.Now()); }

  fakes::FakeClock clock_;
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  TokenMaker maker_;
  PushedTokens pushed_{clock_};
  std::unique_ptr<Introspection> introspection_;
};

MATCHER(IsActive, "") { return arg.has_value() && arg->find(R"("active":true)") != std::string::npos; }

TEST_F(IntrospectionTest, AnswersFromPushedStateWithTheTokensClaims) {
  CatchUp();
  const auto answer = Local(Claims());
  ASSERT_THAT(answer, IsActive());
  EXPECT_THAT(*answer, HasSubstr(R"("client_id":"spiffe://example.org/agent/orders/7")"));
  EXPECT_THAT(*answer, HasSubstr(R"("cnf":{"x5t#S256":"peer"})"));
  EXPECT_THAT(*answer, HasSubstr("agent_ctx"));
}

TEST_F(IntrospectionTest, T4NothingIsAnsweredBeforeTheAgentHasCaughtUp) {
  EXPECT_EQ(Local(Claims()), std::nullopt);
  pushed_.Opened();
  TokenUpdate part = WholeState(maker_, 0);
  part.complete = false;
  pushed_.Apply(std::move(part));
  pushed_.Beat(100);
  EXPECT_EQ(Local(Claims()), std::nullopt) << "the state is not whole yet";
}

TEST_F(IntrospectionTest, T4NothingIsAnsweredWithoutAHeartbeatYoungerThanTwoSeconds) {
  CatchUp();
  clock_.Advance(absl::Milliseconds(1999));
  EXPECT_THAT(Local(Claims()), IsActive());
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Local(Claims()), std::nullopt);
  pushed_.Beat(10);
  EXPECT_THAT(Local(Claims()), IsActive());
}

TEST_F(IntrospectionTest, T4APausedMachineWakesWithAStaleState) {
  CatchUp();
  clock_.StepWall(absl::Seconds(2));  // the steady clock stood still
  EXPECT_EQ(Local(Claims()), std::nullopt);
  pushed_.Beat(10);
  clock_.StepWall(-absl::Seconds(30));
  EXPECT_THAT(Local(Claims()), IsActive());
}

TEST_F(IntrospectionTest, T4BeatsOfANewStreamCountOnlyOnceItHasBroughtTheState) {
  CatchUp();
  clock_.Advance(absl::Seconds(2));
  pushed_.Opened();
  pushed_.Beat(20);
  EXPECT_EQ(Local(Claims()), std::nullopt);
  pushed_.Apply(WholeState(maker_, 20));
  EXPECT_THAT(Local(Claims()), IsActive());
}

TEST_F(IntrospectionTest, T4ATokenAheadOfTheAppliedPositionIsTheServersToJudge) {
  CatchUp();
  oauth::AccessToken claims = Claims();
  claims.context.rev = 11;
  EXPECT_EQ(Local(claims), std::nullopt);
  pushed_.Beat(11);  // nothing of what is pushed has changed, only the position
  EXPECT_THAT(Local(claims), IsActive());
}

TEST_F(IntrospectionTest, T4ATruncatedStateAnswersNothing) {
  CatchUp();
  pushed_.Apply({.truncated = true});
  pushed_.Beat(30);
  EXPECT_EQ(Local(Claims()), std::nullopt);
  EXPECT_EQ(introspection_->Offline(Show(Claims())), kNo);
}

TEST_F(IntrospectionTest, T4WhatWasSeenMustBeWhatTheTokenSays) {
  CatchUp();
  oauth::AccessToken claims = Claims();
  claims.context.task = "task-1";
  oauth::Presentation good = Show(claims);
  good.task = "task-1";
  EXPECT_THAT(introspection_->Local(good), IsActive());
  for (const auto& spoil : std::vector<std::function<void(oauth::Presentation&)>>{
           [](auto& p) { p.caller = "spiffe://example.org/agent/toolsmith/1"; }, [](auto& p) { p.peer_x5t_s256 = ""; },
           [](auto& p) { p.task = ""; }, [](auto& p) { p.task = "task-2"; }, [](auto& p) { p.tool = "look"; },
           [](auto& p) { p.token.back() = p.token.back() == 'A' ? 'B' : 'A'; }, [](auto& p) { p.token = "x"; },
           [](auto& p) { p.token = std::string(20'000, 'x'); }}) {
    oauth::Presentation bad = good;
    spoil(bad);
    EXPECT_THAT(introspection_->Local(bad), Optional(Eq(kNo)));
  }
}

TEST_F(IntrospectionTest, ATokenShownWithAnotherKeyIsToldToTheServer) {
  CatchUp();
  oauth::Presentation stolen = Show(Claims());
  stolen.peer_x5t_s256 = "thief";
  EXPECT_EQ(introspection_->Local(stolen), std::nullopt);         // the server is asked, and has it on record
  EXPECT_THAT(introspection_->Local(stolen), Optional(Eq(kNo)));  // and not for each time
  EXPECT_EQ(introspection_->Offline(stolen), kNo);                // away or not
  EXPECT_EQ(introspection_->FromServer(stolen, R"({"active":false})"), kNo);
  oauth::AccessToken claims = Claims();
  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  claims.binding = {.jkt = "another"};
  stolen = Show(claims);
  stolen.dpop_method = "POST";
  stolen.dpop_uri = kOrders;
  stolen.dpop_proof = oauth::MakeDpop(key, "POST", kOrders, stolen.token, "", clock_.Now()).value();
  EXPECT_EQ(introspection_->Local(stolen), std::nullopt);
  EXPECT_THAT(introspection_->Local(stolen), Optional(Eq(kNo)));
  clock_.Advance(absl::Minutes(1));
  CatchUp();
  EXPECT_EQ(introspection_->Local(stolen), std::nullopt);  // it goes on
}

TEST_F(IntrospectionTest, AFloodOfStolenTokensDoesNotFloodTheServer) {
  Sightings sightings;
  int told = 0;
  for (int i = 0; i < 5000; ++i) told += sightings.ShouldTell(absl::StrCat(i), absl::Seconds(i % 60));
  EXPECT_EQ(told, 600);
}

TEST_F(IntrospectionTest, EachPeerOfABearerTokenIsToldToTheServer) {
  pushed_.Opened();
  TokenUpdate state = WholeState(maker_);
  state.resources[0].second.minimum_binding = oauth::MinimumBinding::kBearer;
  pushed_.Apply(std::move(state));
  oauth::AccessToken claims = Claims();
  claims.binding = {};
  claims.context.calls = 3;
  oauth::Presentation seen = Show(claims);
  for (const char* peer : {"a", "b"}) {
    seen.peer_x5t_s256 = peer;
    EXPECT_EQ(introspection_->Local(seen), std::nullopt) << peer;
    EXPECT_THAT(introspection_->Local(seen), IsActive()) << peer;
  }
  seen.peer_x5t_s256 = "";
  EXPECT_THAT(introspection_->Local(seen), IsActive());         // nothing to compare
  EXPECT_THAT(introspection_->Local(seen), Optional(Eq(kNo)));  // what was only told was not counted
}

TEST_F(IntrospectionTest, ARevocationKillsATokenThatWasFoundGoodBefore) {
  CatchUp();
  const oauth::AccessToken claims = Claims();
  const oauth::Presentation seen = Show(claims);
  EXPECT_THAT(introspection_->Local(seen), IsActive());
  pushed_.Apply(Revoked(oauth::EntityKind::kToken, claims.jwt_id, 11));
  EXPECT_THAT(introspection_->Local(seen), Optional(Eq(kNo)));
}

TEST_F(IntrospectionTest, ASuspendedIdentityKillsWhatIsOlder) {
  CatchUp();
  EXPECT_THAT(Local(Claims()), IsActive());
  pushed_.Apply(Revoked(oauth::EntityKind::kIdentity, "spiffe://example.org/agent/orders", 11));
  EXPECT_THAT(Local(Claims()), Optional(Eq(kNo)));
}

TEST_F(IntrospectionTest, AKeyThatIsGoneVouchesForNothingItVouchedForBefore) {
  CatchUp();
  const oauth::Presentation seen = Show(Claims());
  EXPECT_THAT(introspection_->Local(seen), IsActive());
  const TokenMaker other("k2");
  pushed_.Apply({.complete = true, .seq = 11, .keys = other.keys()});
  EXPECT_EQ(introspection_->Local(seen), std::nullopt) << "by an unknown key: the server may know it";
}

TEST_F(IntrospectionTest, AnExpiredTokenIsNotActiveThoughItWasVerified) {
  CatchUp();
  const oauth::Presentation seen = Show(Claims());
  EXPECT_THAT(introspection_->Local(seen), IsActive());
  clock_.Advance(absl::Minutes(5));
  pushed_.Beat(10);
  EXPECT_THAT(introspection_->Local(seen), Optional(Eq(kNo)));
}

TEST_F(IntrospectionTest, AResourceThatIsGoneOrServedByOthersAnswersNo) {
  CatchUp();
  pushed_.Apply({.complete = true, .seq = 11, .removed_resources = {kOrders}});
  EXPECT_THAT(Local(Claims()), Optional(Eq(kNo)));
}

TEST_F(IntrospectionTest, T8CallsAreCountedAgainstTheQuota) {
  CatchUp();
  oauth::AccessToken claims = Claims();
  claims.context.calls = 2;
  EXPECT_THAT(Local(claims), IsActive());
  EXPECT_EQ(introspection_->FromServer(Show(claims), R"({"active":true})"), R"({"active":true})");
  EXPECT_THAT(Local(claims), Optional(Eq(kNo)));
  EXPECT_EQ(introspection_->FromServer(Show(claims), R"({"active":true})"), kNo);
}

TEST_F(IntrospectionTest, T8WithoutRoomToCountNoCallIsAllowed) {
  Make({.quota_limit = 1});
  CatchUp();
  oauth::AccessToken one = Claims(), two = Claims();
  one.context.calls = two.context.calls = 9;
  EXPECT_THAT(Local(one), IsActive());
  EXPECT_THAT(Local(two), Optional(Eq(kNo)));
  EXPECT_THAT(Local(one), IsActive());
}

TEST_F(IntrospectionTest, ADpopProofIsGoodOnce) {
  CatchUp();
  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  oauth::AccessToken claims = Claims();
  claims.binding = {.jkt = jose::Thumbprint(key.public_key())};
  oauth::Presentation seen = Show(claims);
  seen.dpop_method = "POST";
  seen.dpop_uri = kOrders;
  seen.dpop_proof = oauth::MakeDpop(key, "POST", kOrders, seen.token, "", clock_.Now()).value();
  EXPECT_THAT(introspection_->Local(seen), IsActive());
  EXPECT_THAT(introspection_->Local(seen), Optional(Eq(kNo)));
  EXPECT_EQ(introspection_->FromServer(seen, R"({"active":true})"), kNo) << "nor when the server is asked";
  seen.dpop_proof = oauth::MakeDpop(key, "POST", kOrders, seen.token, "", clock_.Now()).value();
  EXPECT_THAT(introspection_->Local(seen), IsActive());
}

TEST_F(IntrospectionTest, OnlyAPlainYesOfTheServerIsOne) {
  for (const char* answer : {"", "{}", "[]", R"({"active":"true"})", R"({"active":false,"sub":"x"})", "<html>",
                             R"({"active":true,"active":false})"}) {
    EXPECT_EQ(introspection_->FromServer(Show(Claims()), answer), kNo) << answer;
  }
}

TEST_F(IntrospectionTest, T4WithoutTheServerOnlyReadOnlyLowRiskToolsWithinTheGrace) {
  pushed_.Opened();
  pushed_.Apply(WholeState(maker_, 10, absl::Seconds(20)));
  clock_.Advance(absl::Seconds(19));
  const auto ask = [&](const std::string& tool) {
    oauth::AccessToken claims = Claims();
    for (const char* name : {"look", "look_hard", "change"}) TokenMaker::AllowTool(claims, name);
    oauth::Presentation seen = Show(claims);
    seen.tool = tool;
    EXPECT_EQ(introspection_->Local(seen), std::nullopt);
    return introspection_->Offline(seen);
  };
  EXPECT_THAT(ask("look"), HasSubstr(R"("active":true)"));
  EXPECT_EQ(ask("look_hard"), kNo);
  EXPECT_EQ(ask("change"), kNo);
  EXPECT_EQ(ask("unknown"), kNo);
  EXPECT_EQ(ask(""), kNo);
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(ask("look"), kNo);
}

TEST_F(IntrospectionTest, T4AnAgentsOwnGraceCanOnlyShortenTheServers) {
  const auto ask = [&](absl::Duration own, absl::Duration servers) {
    Make({.offline_grace = own});
    pushed_.Opened();
    pushed_.Apply(WholeState(maker_, 10, servers));
    clock_.Advance(absl::Seconds(10));
    oauth::AccessToken claims = Claims();
    TokenMaker::AllowTool(claims, "look");
    oauth::Presentation seen = Show(claims);
    seen.tool = "look";
    return introspection_->Offline(seen);
  };
  EXPECT_THAT(ask(absl::Seconds(20), absl::Seconds(20)), HasSubstr(R"("active":true)"));
  EXPECT_EQ(ask(absl::Seconds(20), absl::Seconds(9)), kNo);
  EXPECT_EQ(ask(absl::Seconds(9), absl::Seconds(20)), kNo);
  EXPECT_EQ(ask(absl::Seconds(20), absl::ZeroDuration()), kNo);
}

TEST_F(IntrospectionTest, T4WithoutAGraceNothingIsActiveOffline) {
  CatchUp();
  clock_.Advance(absl::Seconds(2));
  oauth::AccessToken claims = Claims();
  TokenMaker::AllowTool(claims, "look");
  oauth::Presentation seen = Show(claims);
  seen.tool = "look";
  EXPECT_EQ(introspection_->Offline(seen), kNo);
}

TEST_F(IntrospectionTest, RemembersABoundedNumberOfTokens) {
  Make({.verified_limit = 2});
  CatchUp();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 4; ++i) EXPECT_THAT(Local(Claims()), IsActive());
  }
}

TEST(SeenProofsTest, RefusesRepeatsUntilTheyEndAndHasRoomForOthers) {
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  SeenProofs proofs(4, 2);
  EXPECT_TRUE(proofs.FirstTime("key", "a", now + absl::Minutes(2), now));
  EXPECT_FALSE(proofs.FirstTime("key", "a", now + absl::Minutes(2), now + absl::Minutes(1)));
  EXPECT_TRUE(proofs.FirstTime("other", "a", now + absl::Minutes(2), now));
  EXPECT_TRUE(proofs.FirstTime("key", "b", now + absl::Minutes(2), now));
  EXPECT_FALSE(proofs.FirstTime("key", "c", now + absl::Minutes(2), now)) << "this key has used up its room";
  EXPECT_TRUE(proofs.FirstTime("other", "b", now + absl::Minutes(2), now));
  EXPECT_FALSE(proofs.FirstTime("third", "a", now + absl::Minutes(2), now)) << "no room at all";
  EXPECT_TRUE(proofs.FirstTime("key", "a", now + absl::Minutes(6), now + absl::Minutes(4)));
  EXPECT_EQ(proofs.size(), 1u);
}

}  // namespace
}  // namespace signet::agent
