#include "server/token/alerts.h"

#include <algorithm>

#include <gmock/gmock.h>

#include "tests/fakes/fake_clock.h"

namespace signet::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

class AlertsTest : public ::testing::Test {
 protected:
  Alerts::Observation Granted() {
    return {.identity = "spiffe://td/agent/a",
            .node = "n1",
            .audience = "https://r",
            .txn = "t",
            .scopes = {"read"},
            .tools = {},
            .granted = true,
            .refusal = {}};
  }
  Alerts::Observation Refused() {
    return {.identity = "spiffe://td/agent/a",
            .node = {},
            .audience = {},
            .txn = {},
            .scopes = {},
            .tools = {},
            .granted = false,
            .refusal = "invalid_scope"};
  }
  fakes::FakeClock clock;
  telemetry::Metrics registry;
  Metrics metrics{registry};
  Alerts alerts{clock, metrics};
};

TEST_F(AlertsTest, FirstUseIsToldOnceForEachFeature) {
  EXPECT_THAT(alerts.Observe(Granted()), ElementsAre("first-use"));
  EXPECT_THAT(alerts.Observe(Granted()), IsEmpty());
  Alerts::Observation other_node = Granted();
  other_node.node = "n2";
  EXPECT_THAT(alerts.Observe(other_node), ElementsAre("first-use"));
  Alerts::Observation tool = Granted();
  tool.tools = {"https://r delete"};
  EXPECT_THAT(alerts.Observe(tool), ElementsAre("first-use"));
  EXPECT_EQ(alerts.List("", 10).front().detail, "first tool https://r delete");
}

TEST_F(AlertsTest, AHighShareOfRefusalsIsToldOncePerWindow) {
  for (int i = 0; i < 9; ++i) EXPECT_THAT(alerts.Observe(Refused()), IsEmpty());
  EXPECT_THAT(alerts.Observe(Refused()), ElementsAre("denial-ratio"));
  EXPECT_THAT(alerts.Observe(Refused()), IsEmpty());
  clock.Advance(absl::Minutes(1));
  for (int i = 0; i < 9; ++i) EXPECT_THAT(alerts.Observe(Refused()), IsEmpty());
  EXPECT_THAT(alerts.Observe(Refused()), ElementsAre("denial-ratio"));
}

TEST_F(AlertsTest, ARateFarAboveItsOwnAverageIsTold) {
  for (int minute = 0; minute < 20; ++minute) {
    for (int i = 0; i < 5; ++i) EXPECT_THAT(alerts.Observe(Granted()), Not(Contains("call-rate")));
    clock.Advance(absl::Minutes(1));
  }
  int told = 0;
  for (int i = 0; i < 200; ++i) {
    const auto raised = alerts.Observe(Granted());
    told += std::find(raised.begin(), raised.end(), "call-rate") != raised.end() ? 1 : 0;
  }
  EXPECT_EQ(told, 1);
}

TEST_F(AlertsTest, AnIdentityOfItsFirstMinuteHasNoAverageToExceed) {
  for (int i = 0; i < 500; ++i) EXPECT_THAT(alerts.Observe(Granted()), Not(Contains("call-rate")));
}

TEST_F(AlertsTest, DepthNearTheLimitIsTold) {
  alerts.Observe(Granted());
  Alerts::Observation deep = Granted();
  deep.depth = 4;
  deep.max_depth = 5;
  deep.near_depth_limit = true;
  EXPECT_THAT(alerts.Observe(deep), ElementsAre("depth-near-limit"));
}

TEST_F(AlertsTest, OneTokenFromTwoPeers) {
  const absl::Time end = clock.Now() + absl::Minutes(5);
  EXPECT_FALSE(alerts.SawToken("h", "p1", end, "a", "t"));
  EXPECT_FALSE(alerts.SawToken("h", "p1", end, "a", "t"));
  EXPECT_TRUE(alerts.SawToken("h", "p2", end, "a", "t"));
  EXPECT_TRUE(alerts.SawToken("h", "p2", end, "a", "t"));
  EXPECT_EQ(alerts.List("", 10).size(), 1u);  // told once
}

TEST_F(AlertsTest, MemoryIsBounded) {
  Alerts small(clock, metrics, {.alerts = 5, .identities = 2, .features = 2, .tokens = 2});
  for (int i = 0; i < 10; ++i) {
    Alerts::Observation seen = Granted();
    seen.identity = absl::StrCat("spiffe://td/agent/", i);
    small.Observe(seen);
    small.SawToken(absl::StrCat(i), "p", clock.Now() + absl::Minutes(1), "a", "t");
  }
  EXPECT_LE(small.List("", 100).size(), 5u);
  for (int i = 0; i < 10; ++i) small.Raise("two-peers", "a", "d", "t");
  EXPECT_EQ(small.List("", 100).size(), 5u);
}

TEST_F(AlertsTest, ListsNewestFirstInPages) {
  for (int i = 0; i < 5; ++i) alerts.Raise("two-peers", "a", absl::StrCat(i), "t");
  const auto first = alerts.List("", 2);
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0].detail, "4");
  const auto second = alerts.List(first[1].id, 2);
  ASSERT_EQ(second.size(), 2u);
  EXPECT_EQ(second[0].detail, "2");
  EXPECT_EQ(metrics.token_alerts.value(), 5);
}

}  // namespace
}  // namespace signet::server
