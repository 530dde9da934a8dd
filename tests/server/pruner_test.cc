#include "server/pruner.h"

#include <thread>

#include <gmock/gmock.h>

#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

// The store's writer works on a thread of its own: the condition becomes true soon or the test times out.
template <typename Condition>
void Until(Condition condition) {
  while (!condition()) std::this_thread::yield();
}

TEST(PrunerTest, DeletesWhatHasEnded) {
  ApiKit kit;
  spiffe::Entry ends = EntryOf("/ends"), stays = EntryOf("/stays");
  ends.expires_at = kit.clock.Now() + absl::Minutes(7);
  kit.Create(ends);
  kit.Create(stays);
  AgentRecord agent = AgentOf("/spire/agent/x509pop/old", "1");
  agent.expires_at = kit.clock.Now() - absl::Hours(2);
  agent.can_reattest = true;
  kit.Attest(agent);
  AgentRecord tofu = AgentOf("/spire/agent/join_token/old", "1");  // could not attest again: stays
  tofu.expires_at = agent.expires_at;
  kit.Attest(tofu);

  Consume consume;
  consume.once = {{"jti", kit.clock.Now() + absl::Minutes(7)}};
  consume.new_refresh = RefreshRecord{.hash = std::string(32, 'h'), .expires_at = kit.clock.Now() + absl::Minutes(7)};
  SIGNET_ASSERT_OK(
      testing::AwaitStatus([&](auto done) { kit.store->Commit(consume, kit.clock.Now(), std::move(done)); }));
  for (const auto& [kind, age] : {std::pair{oauth::EntityKind::kFamily, absl::Hours(25)},
                                  std::pair{oauth::EntityKind::kFamily, absl::Hours(23)},
                                  std::pair{oauth::EntityKind::kToken, absl::Hours(2)}}) {
    RevokeChange change;
    change.revocation.kind = kind;
    change.revocation.entity = absl::StrCat(absl::ToInt64Hours(age));
    change.revocation.not_before = kit.clock.Now() - age;
    SIGNET_ASSERT_OK(
        testing::Await<uint64_t>([&](auto done) { kit.store->Revoke(change, kit.clock.Now(), std::move(done)); }));
  }

  Pruner pruner(absl::Hours(1), *kit.store, *kit.store, *kit.store, *kit.store, *kit.store, kit.clock);
  Until([&] { return !kit.store->GetAgent(agent.id).ok(); });  // it prunes at start
  EXPECT_TRUE(kit.store->GetAgent(tofu.id).ok());
  EXPECT_EQ(kit.store->CountEntries({}).value(), 2u);
  for (int i = 0; i < 2; ++i) {
    kit.clock.AwaitWaiters(2);
    kit.clock.Advance(Pruner::kInterval);
  }
  Until([&] { return kit.store->CountEntries({}).value() == 1; });
  Until([&] { return !kit.store->GetRefresh(consume.new_refresh->hash).ok(); });
  Until([&] { return kit.store->ListRevocations({}).value().items.size() == 1; });
  EXPECT_TRUE(kit.store->GetRevocation(oauth::EntityKind::kFamily, "23").ok());
}

}  // namespace
}  // namespace signet::server
