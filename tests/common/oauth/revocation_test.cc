#include "common/oauth/revocation.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/common/oauth/sample.h"

namespace signet::oauth {
namespace {

using sample::kNow;

RevocationSet One(EntityKind kind, const std::string& entity, uint64_t seq, bool reinstated = false) {
  return RevocationSet(
      {{.kind = kind, .entity = entity, .seq = seq, .not_before = kNow, .reason = {}, .reinstated = reinstated}});
}

struct Entity {
  EntityKind kind;
  std::string entity;
};
// Everything the sample token descends from.
std::vector<Entity> Ancestry() {
  return {{EntityKind::kToken, "jti-2"},
          {EntityKind::kToken, "jti-1"},  // the parent
          {EntityKind::kChain, "jti-1"},
          {EntityKind::kTask, "task-1"},
          {EntityKind::kGrant, "g-1"},
          {EntityKind::kInstance, "instance-worker"},
          {EntityKind::kInstance, "instance-planner"},
          {EntityKind::kNode, "node-worker"},
          {EntityKind::kNode, "node-planner"},
          {EntityKind::kIdentity, "spiffe://example.org/agent/worker"},
          {EntityKind::kIdentity, "spiffe://example.org/agent/planner"},
          {EntityKind::kUser, UserKey("https://idp.example.org", "u-1")},
          {EntityKind::kIssuer, "https://idp.example.org"},
          {EntityKind::kSigningKey, "k1"},
          {EntityKind::kSigningKey, "k0"},
          {EntityKind::kTool, ToolKey(sample::kOrders, "query_orders")}};
}

TEST(RevocationTest, T3EveryEntityOfTheAncestryKills) {
  AccessToken token = sample::Token();
  token.key_id = "k1";
  EXPECT_EQ(RevocationSet().Kills(token), nullptr);
  for (const Entity& e : Ancestry()) {
    const RevocationSet set = One(e.kind, e.entity, token.context.rev + 1);
    ASSERT_NE(set.Kills(token), nullptr) << EntityKindName(e.kind) << " " << e.entity;
    EXPECT_EQ(set.Kills(token)->entity, e.entity);
    EXPECT_EQ(One(e.kind, e.entity + "x", token.context.rev + 1).Kills(token), nullptr) << e.entity;
  }
}

TEST(RevocationTest, T3AnAbsoluteKindKillsWhateverTheRev) {
  AccessToken token = sample::Token();
  token.key_id = "k1";
  token.context.rev = 1000;
  for (const Entity& e : Ancestry()) {
    EXPECT_EQ(One(e.kind, e.entity, 1000).Kills(token) != nullptr, IsAbsolute(e.kind)) << EntityKindName(e.kind);
    EXPECT_EQ(One(e.kind, e.entity, 1001).Kills(token) != nullptr, true) << EntityKindName(e.kind);
  }
}

TEST(RevocationTest, T3ReinstatementLetsIssueAgainAndRaisesNobody) {
  AccessToken token = sample::Token();
  const RevocationSet blocked = One(EntityKind::kIdentity, "spiffe://example.org/agent/worker", 18);
  EXPECT_NE(blocked.Blocks(EntityKind::kIdentity, "spiffe://example.org/agent/worker"), nullptr);
  const RevocationSet again = One(EntityKind::kIdentity, "spiffe://example.org/agent/worker", 18, true);
  EXPECT_EQ(again.Blocks(EntityKind::kIdentity, "spiffe://example.org/agent/worker"), nullptr);
  EXPECT_NE(again.Kills(token), nullptr);
  token.context.rev = 18;
  EXPECT_EQ(again.Kills(token), nullptr);
  EXPECT_NE(One(EntityKind::kTask, "task-1", 5, true).Blocks(EntityKind::kTask, "task-1"), nullptr);  // absolute: never
}

TEST(RevocationTest, T3ExternalTokensDieByTheirTime) {
  const RevocationSet set = One(EntityKind::kIssuer, "https://idp.example.org", 5, true);
  const auto killed = [&](absl::Time at) {
    return set.KillsExternal(EntityKind::kIssuer, "https://idp.example.org", at) != nullptr;
  };
  EXPECT_TRUE(killed(kNow - absl::Hours(1)));
  EXPECT_TRUE(killed(kNow + kRevocationSkew));
  EXPECT_FALSE(killed(kNow + kRevocationSkew + absl::Seconds(1)));
}

TEST(RevocationTest, TheNewestOfAnEntityCounts) {
  Revocation old{
      .kind = EntityKind::kNode, .entity = "n", .seq = 3, .not_before = kNow, .reason = {}, .reinstated = true};
  Revocation young = old;
  young.seq = 9;
  young.reinstated = false;
  for (const auto& order : {std::vector{old, young}, std::vector{young, old}}) {
    const RevocationSet set(order);
    EXPECT_EQ(set.size(), 1u);
    EXPECT_EQ(set.Find(EntityKind::kNode, "n")->seq, 9u);
    EXPECT_NE(set.Blocks(EntityKind::kNode, "n"), nullptr);
  }
  EXPECT_EQ(RevocationSet({old}).Find(EntityKind::kInstance, "n"), nullptr);  // kinds do not mix
}

// Whoever holds a stolen key writes into `rev` what he likes.
TEST(RevocationTest, T3ARevokedSigningKeyKillsWhateverTheRev) {
  AccessToken forged;
  forged.key_id = "k1";
  forged.context.rev = 1'000'000;
  const RevocationSet set({{.kind = EntityKind::kSigningKey, .entity = "k1", .seq = 7, .not_before = {}, .reason = {}}});
  EXPECT_NE(set.Kills(forged), nullptr);
  forged.key_id = "k2";
  EXPECT_EQ(set.Kills(forged), nullptr);
}

TEST(RevocationTest, KindsHaveTheNamesOfTheApi) {
  for (absl::string_view name : {"token", "chain", "task", "grant", "family", "instance", "node", "identity", "user",
                                 "issuer", "signing-key", "tool"}) {
    EntityKind kind;
    ASSERT_TRUE(ParseEntityKind(name, kind)) << name;
    EXPECT_EQ(EntityKindName(kind), name);
  }
  EntityKind kind;
  EXPECT_FALSE(ParseEntityKind("agent", kind));
}

}  // namespace
}  // namespace signet::oauth
