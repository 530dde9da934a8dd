#include "server/pruner.h"

#include <thread>

#include <gmock/gmock.h>

#include "tests/server/api/api_kit.h"

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

  Pruner pruner(absl::Hours(1), *kit.store, *kit.store, *kit.store, kit.clock);
  Until([&] { return !kit.store->GetAgent(agent.id).ok(); });  // it prunes at start
  EXPECT_TRUE(kit.store->GetAgent(tofu.id).ok());
  EXPECT_EQ(kit.store->CountEntries({}).value(), 2u);
  for (int i = 0; i < 2; ++i) {
    kit.clock.AwaitWaiters(2);
    kit.clock.Advance(Pruner::kInterval);
  }
  Until([&] { return kit.store->CountEntries({}).value() == 1; });
}

}  // namespace
}  // namespace signet::server
