#include "server/entries/entry_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <thread>

#include "tests/server/datastore/contract.h"

namespace signet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::pair<std::string, EntryPtr> Put(spiffe::Entry entry) {
  std::string id = entry.id;
  return {std::move(id), std::make_shared<const spiffe::Entry>(std::move(entry))};
}
spiffe::Entry Entry(std::string id, absl::string_view path, absl::string_view parent,
                    const std::vector<std::string>& selectors = {"unix:uid:1"}) {
  spiffe::Entry entry = TestEntry(path, selectors, parent);
  entry.id = std::move(id);
  return entry;
}
std::pair<spiffe::Id, AgentPtr> Agent(absl::string_view path, const std::vector<std::string>& selectors = {},
                                      bool banned = false) {
  AgentRecord agent = TestAgent(path, absl::FromUnixSeconds(1'800'000'000));
  agent.selectors = TestSelectors(selectors);
  agent.banned = banned;
  return {agent.id, std::make_shared<const AgentRecord>(agent)};
}
const spiffe::Id kX = TestId("/spire/agent/x");

class EntryIndexTest : public ::testing::Test {
 protected:
  void SetEntries(std::vector<std::pair<std::string, EntryPtr>> entries) {
    index_->Apply({.seq = ++seq_, .entries = std::move(entries)});
  }
  void SetAgents(std::vector<std::pair<spiffe::Id, AgentPtr>> agents) {
    index_->Apply({.seq = ++seq_, .agents = std::move(agents)});
  }
  std::vector<std::string> Ids(const spiffe::Id& agent = kX) const {
    std::vector<std::string> ids;
    const std::vector<EntryPtr> entries = index_->AuthorizedEntries(agent);
    for (const EntryPtr& entry : entries) {
      ids.push_back(entry->id);
      EXPECT_EQ(index_->FindAuthorized(agent, entry->id), entry);
    }
    return ids;
  }
  std::unique_ptr<EntryIndex::Subscription> Listen(std::vector<AgentChange>& changes, const spiffe::Id& agent = kX) {
    return index_->Subscribe(agent, [&](const AgentChange& change) { changes.push_back(change); });
  }
  uint64_t seq_ = 0;
  std::unique_ptr<EntryIndex> index_ = EntryIndex::Create(TestTrustDomain());
};

TEST_F(EntryIndexTest, FindsWhatWasApplied) {
  SetEntries({Put(Entry("a", "/a", "/spire/agent/x"))});
  SetAgents({Agent("/spire/agent/x")});
  auto bundle = std::make_shared<const spiffe::Bundle>(spiffe::Bundle{.trust_domain = TestTrustDomain()});
  index_->Apply({.seq = 9, .bundles = {{TestTrustDomain(), bundle}}});
  EXPECT_EQ(index_->seq(), 9u);
  EXPECT_EQ(index_->FindEntry("a")->spiffe_id, TestId("/a"));
  EXPECT_EQ(index_->FindEntry("b"), nullptr);
  EXPECT_EQ(index_->FindAgent(kX)->id, kX);
  EXPECT_EQ(index_->FindBundle(TestTrustDomain()), bundle);
  EXPECT_EQ(index_->FindBundle(TestTrustDomain("other.test")), nullptr);
  EXPECT_EQ(index_->EntriesWithSpiffeId(TestId("/a")).size(), 1u);
  EXPECT_EQ(index_->entry_count(), 1u);
  EXPECT_EQ(index_->agent_count(), 1u);
}

TEST_F(EntryIndexTest, ListsAnAgentsEntriesById) {
  SetAgents({Agent("/spire/agent/x"), Agent("/spire/agent/y")});
  SetEntries({Put(Entry("c", "/c", "/spire/agent/x")), Put(Entry("a", "/a", "/spire/agent/x")),
              Put(Entry("b", "/b", "/spire/agent/y"))});
  EXPECT_THAT(Ids(), ElementsAre("a", "c"));
  EXPECT_EQ(index_->FindAuthorized(kX, "b"), nullptr);
}

// The set of an agent that is unknown or banned is empty: nothing is signed for it.
TEST_F(EntryIndexTest, UnknownAndBannedAgentsHaveNothing) {
  SetEntries({Put(Entry("a", "/a", "/spire/agent/x")), Put(Entry("n", "/alias", "/spire/server", {"k:v"})),
              Put(Entry("w", "/w", "/alias"))});
  EXPECT_THAT(Ids(), IsEmpty());
  SetAgents({Agent("/spire/agent/x", {"k:v"})});
  EXPECT_THAT(Ids(), ElementsAre("a", "n", "w"));
  SetAgents({Agent("/spire/agent/x", {"k:v"}, true)});
  EXPECT_THAT(Ids(), IsEmpty());
  EXPECT_EQ(index_->FindAuthorized(kX, "a"), nullptr);
  SetAgents({Agent("/spire/agent/x", {"k:v"})});
  EXPECT_THAT(Ids(), ElementsAre("a", "n", "w"));
  SetAgents({{kX, nullptr}});
  EXPECT_THAT(Ids(), IsEmpty());
}

TEST_F(EntryIndexTest, AliasesNeedAllTheirSelectors) {
  SetAgents({Agent("/spire/agent/x", {"k:1", "k:2", "k:3"}), Agent("/spire/agent/y", {"k:1"})});
  SetEntries({Put(Entry("n", "/alias", "/spire/server", {"k:1", "k:2"})), Put(Entry("w", "/w", "/alias")),
              Put(Entry("far", "/far", "/spire/server", {"k:1", "other:2"}))});
  EXPECT_THAT(Ids(), ElementsAre("n", "w"));
  EXPECT_THAT(Ids(TestId("/spire/agent/y")), IsEmpty());
  SetAgents({Agent("/spire/agent/x", {"k:1"})});
  EXPECT_THAT(Ids(), IsEmpty());
}

// P1: an entry without selectors is in every set by mathematics and must match no node.
TEST_F(EntryIndexTest, AnAliasWithoutSelectorsMatchesNobody) {
  SetAgents({Agent("/spire/agent/x", {"k:1"})});
  spiffe::Entry alias = Entry("n", "/alias", "/spire/server");
  alias.selectors.clear();
  SetEntries({Put(alias), Put(Entry("w", "/w", "/alias"))});
  EXPECT_THAT(Ids(), IsEmpty());
  SetEntries({{"n", nullptr}});
}

TEST_F(EntryIndexTest, AliasesChainAndACycleEnds) {
  SetAgents({Agent("/spire/agent/x", {"k:1"})});
  SetEntries({Put(Entry("1", "/a", "/spire/server", {"k:1"})), Put(Entry("2", "/b", "/a")), Put(Entry("3", "/c", "/b")),
              Put(Entry("4", "/a", "/c")), Put(Entry("5", "/self", "/self"))});
  EXPECT_THAT(Ids(), ElementsAre("1", "2", "3", "4"));
  SetEntries({{"2", nullptr}});
  EXPECT_THAT(Ids(), ElementsAre("1"));
}

TEST_F(EntryIndexTest, ASelectorChangeTakesEffectInBothDirections) {
  SetAgents({Agent("/spire/agent/x", {"k:1"})});
  SetEntries({Put(Entry("n", "/alias", "/spire/server", {"k:2"})), Put(Entry("w", "/w", "/alias"))});
  EXPECT_THAT(Ids(), IsEmpty());
  SetEntries({Put(Entry("n", "/alias", "/spire/server", {"k:1"}))});
  EXPECT_THAT(Ids(), ElementsAre("n", "w"));
  SetEntries({Put(Entry("n", "/alias", "/spire/agent/x", {"k:2"}))});  // now a child
  EXPECT_THAT(Ids(), ElementsAre("n", "w"));
  SetEntries({Put(Entry("n", "/alias", "/spire/server", {"k:3"}))});
  EXPECT_THAT(Ids(), IsEmpty());
}

TEST_F(EntryIndexTest, TellsOnlyTheAgentsConcerned) {
  SetAgents({Agent("/spire/agent/x", {"k:1"}), Agent("/spire/agent/y", {"k:2"})});
  std::vector<AgentChange> x, y;
  auto listen_x = Listen(x);
  auto listen_y = Listen(y, TestId("/spire/agent/y"));
  SetEntries({Put(Entry("w", "/w", "/alias"))});
  EXPECT_THAT(x, IsEmpty());
  SetEntries({Put(Entry("n", "/alias", "/spire/server", {"k:1"}))});
  ASSERT_EQ(x.size(), 1u);
  EXPECT_THAT(x[0].entry_ids, ElementsAre("n", "w"));  // what came into reach with it, too
  EXPECT_EQ(x[0].seq, seq_);
  SetEntries({{"w", nullptr}});
  EXPECT_THAT(x[1].entry_ids, ElementsAre("w"));
  SetAgents({Agent("/spire/agent/x", {"k:1"}, true)});
  EXPECT_TRUE(x[2].agent_changed);
  EXPECT_THAT(x[2].entry_ids, ElementsAre("n"));
  EXPECT_THAT(y, IsEmpty());
  listen_x.reset();
  SetAgents({Agent("/spire/agent/x", {"k:1"})});
  EXPECT_EQ(x.size(), 3u);
}

TEST_F(EntryIndexTest, TellsOfAnAgentThatComesWhileListenedFor) {
  std::vector<AgentChange> x;
  auto listening = Listen(x);
  SetEntries({Put(Entry("w", "/w", "/spire/agent/x"))});
  EXPECT_THAT(x, IsEmpty());
  SetAgents({Agent("/spire/agent/x")});
  ASSERT_EQ(x.size(), 1u);
  EXPECT_TRUE(x[0].agent_changed);
  EXPECT_THAT(x[0].entry_ids, ElementsAre("w"));
}

TEST_F(EntryIndexTest, BundlesConcernMembersAndThoseWhoFederate) {
  SetAgents({Agent("/spire/agent/x"), Agent("/spire/agent/y")});
  spiffe::Entry entry = Entry("w", "/w", "/spire/agent/x");
  entry.federates_with = {"other.test"};
  SetEntries({Put(entry)});
  std::vector<AgentChange> x, y, admin, foreign;
  auto listen_x = Listen(x);
  auto listen_y = Listen(y, TestId("/spire/agent/y"));
  auto listen_admin = Listen(admin, TestId("/admin"));  // no agent, but it wants to know what its chain is worth
  auto listen_foreign = Listen(foreign, spiffe::Id::Parse("spiffe://other.test/admin").value());
  const auto change = [&](absl::string_view name) {
    auto bundle = std::make_shared<const spiffe::Bundle>(spiffe::Bundle{.trust_domain = TestTrustDomain(name)});
    index_->Apply({.seq = ++seq_, .bundles = {{TestTrustDomain(name), bundle}}});
  };
  change("other.test");
  ASSERT_EQ(x.size(), 1u);
  EXPECT_THAT(x[0].bundles, ElementsAre(TestTrustDomain("other.test")));
  EXPECT_THAT(y, IsEmpty());
  EXPECT_THAT(admin, IsEmpty());
  EXPECT_EQ(foreign.size(), 1u);
  change("example.org");
  EXPECT_EQ(x.size(), 2u);
  EXPECT_EQ(y.size(), 1u);
  EXPECT_EQ(admin.size(), 1u);
  EXPECT_EQ(foreign.size(), 1u);
  change("unrelated.test");
  EXPECT_EQ(x.size() + y.size() + admin.size() + foreign.size(), 5u);
}

TEST_F(EntryIndexTest, SeveralMayListenAndOneMayLeaveFromItsCall) {
  SetAgents({Agent("/spire/agent/x")});
  std::unique_ptr<EntryIndex::Subscription> first;
  int first_calls = 0;
  first = index_->Subscribe(kX, [&](const AgentChange&) {
    ++first_calls;
    first.reset();
  });
  std::vector<AgentChange> second;
  auto listening = Listen(second);
  SetEntries({Put(Entry("a", "/a", "/spire/agent/x"))});
  SetEntries({Put(Entry("b", "/b", "/spire/agent/x"))});
  EXPECT_EQ(first_calls, 1);
  EXPECT_EQ(second.size(), 2u);
}

// --- against an oracle (P1, P2, N2)
// ------------------------------------------------------------------------------------

struct Model {
  std::map<std::string, spiffe::Entry> entries;
  std::map<spiffe::Id, AgentRecord> agents;

  // By the definition in entry_index.h, from nothing.
  std::set<std::string> Authorized(const spiffe::Id& id) const {
    std::set<std::string> result;
    auto agent = agents.find(id);
    if (agent == agents.end() || agent->second.banned) return result;
    std::set<spiffe::Id> parents = {id};
    for (size_t before = 0; before != result.size() + parents.size();) {
      before = result.size() + parents.size();
      for (const auto& [entry_id, entry] : entries) {
        const bool alias = spiffe::IsServerId(entry.parent_id);
        const bool mine = alias ? !entry.selectors.empty() &&
                                      std::includes(agent->second.selectors.begin(), agent->second.selectors.end(),
                                                    entry.selectors.begin(), entry.selectors.end())
                                : parents.contains(entry.parent_id);
        if (!mine) continue;
        result.insert(entry_id);
        parents.insert(entry.spiffe_id);
      }
    }
    return result;
  }
};

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int Below(int n) { return static_cast<int>(engine_() % static_cast<unsigned>(n)); }
  spiffe::Selectors Selectors(int kinds) {
    spiffe::Selectors selectors;
    for (int i = 0; i < kinds; ++i) {
      if (Below(2) == 0) selectors.push_back({"k", absl::StrCat(i)});
    }
    return selectors;
  }

 private:
  std::mt19937 engine_;
};

// One step of a random life: an entry or an agent is made, changed or removed.
EntryIndex::Update Step(Random& random, Model& model, int agents, int entries, uint64_t seq) {
  EntryIndex::Update update{.seq = seq};
  const auto agent_id = [&] { return TestId(absl::StrCat("/spire/agent/", random.Below(agents))); };
  const auto node_id = [&] { return TestId(absl::StrCat("/node/", random.Below(8))); };
  if (random.Below(4) == 0) {
    const spiffe::Id id = agent_id();
    if (random.Below(4) == 0) {
      model.agents.erase(id);
      update.agents.emplace_back(id, nullptr);
    } else {
      AgentRecord agent{.id = id, .selectors = random.Selectors(5), .banned = random.Below(8) == 0};
      model.agents.insert_or_assign(id, agent);
      update.agents.emplace_back(id, std::make_shared<const AgentRecord>(agent));
    }
    return update;
  }
  const std::string id = absl::StrCat(random.Below(entries));
  if (random.Below(4) == 0) {
    model.entries.erase(id);
    update.entries.emplace_back(id, nullptr);
    return update;
  }
  spiffe::Entry entry{.id = id, .spiffe_id = node_id(), .parent_id = node_id()};
  switch (random.Below(4)) {
    case 0:
      entry.parent_id = TestId("/spire/server");
      break;
    case 1:
      entry.parent_id = agent_id();
      break;
    default:
      break;
  }
  if (random.Below(3) == 0) entry.spiffe_id = TestId(absl::StrCat("/leaf/", id));
  entry.selectors = random.Selectors(5);
  model.entries.insert_or_assign(id, entry);
  update.entries.emplace_back(id, std::make_shared<const spiffe::Entry>(entry));
  return update;
}

void ExpectSame(const EntryIndex& index, const Model& model, const spiffe::Id& agent, int entries) {
  const std::set<std::string> expected = model.Authorized(agent);
  std::vector<std::string> found;
  const std::vector<EntryPtr> authorized = index.AuthorizedEntries(agent);
  for (const EntryPtr& entry : authorized) found.push_back(entry->id);
  ASSERT_THAT(found, ::testing::ElementsAreArray(expected));
  for (int i = 0; i < entries; ++i) {
    const std::string id = absl::StrCat(i);
    ASSERT_EQ(index.FindAuthorized(agent, id) != nullptr, expected.contains(id)) << agent.string() << " " << id;
  }
}

// 10^5 steps over small worlds full of aliases, chains and cycles; after each the agent concerned and one other agree.
TEST(EntryIndexPropertyTest, AgreesWithTheDefinitionAfterEveryStep) {
  int steps = 0;
  for (unsigned seed = 1; steps < 100'000; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Model model;
    auto index = EntryIndex::Create(TestTrustDomain());
    for (int i = 0; i < 200; ++i, ++steps) {
      index->Apply(Step(random, model, 4, 12, static_cast<uint64_t>(i)));
      ExpectSame(*index, model, TestId(absl::StrCat("/spire/agent/", random.Below(4))), 12);
      if (HasFatalFailure()) return;
    }
    EXPECT_EQ(index->entry_count(), model.entries.size());
    EXPECT_EQ(index->agent_count(), model.agents.size());
  }
}

// N2: all pairs of 50 agents and 50 entries.
TEST(EntryIndexPropertyTest, FiftyAgentsTimesFiftyEntries) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Model model;
    auto index = EntryIndex::Create(TestTrustDomain());
    for (int i = 0; i < 300; ++i) index->Apply(Step(random, model, 50, 50, static_cast<uint64_t>(i)));
    for (int a = 0; a < 50; ++a) {
      ExpectSame(*index, model, TestId(absl::StrCat("/spire/agent/", a)), 50);
      if (HasFatalFailure()) return;
    }
  }
}

// A listener that only ever looks up the ids it was told of ends with the same set as one who asks for everything.
TEST(EntryIndexPropertyTest, WhoFollowsTheNotesHoldsTheSet) {
  for (unsigned seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Model model;
    auto index = EntryIndex::Create(TestTrustDomain());
    std::vector<std::map<std::string, EntryPtr>> held(4);
    std::vector<std::unique_ptr<EntryIndex::Subscription>> subscriptions;
    for (int a = 0; a < 4; ++a) {
      const spiffe::Id agent = TestId(absl::StrCat("/spire/agent/", a));
      subscriptions.push_back(index->Subscribe(agent, [&, a, agent](const AgentChange& change) {
        for (const std::string& id : change.entry_ids) {
          if (EntryPtr entry = index->FindAuthorized(agent, id)) {
            held[a][id] = entry;
          } else {
            held[a].erase(id);
          }
        }
      }));
    }
    for (int i = 0; i < 300; ++i) {
      index->Apply(Step(random, model, 4, 12, static_cast<uint64_t>(i)));
      for (int a = 0; a < 4; ++a) {
        std::map<std::string, EntryPtr> expected;
        const std::vector<EntryPtr> authorized = index->AuthorizedEntries(TestId(absl::StrCat("/spire/agent/", a)));
        for (const EntryPtr& entry : authorized) expected[entry->id] = entry;
        ASSERT_EQ(held[a], expected);
      }
    }
  }
}

TEST(EntryIndexThreadsTest, ReadersGoOnWhileTheApplierWrites) {
  Random random(7);
  Model model;
  auto index = EntryIndex::Create(TestTrustDomain());
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&, r] {
      const spiffe::Id agent = TestId(absl::StrCat("/spire/agent/", r));
      while (!stop) {
        const std::vector<EntryPtr> entries = index->AuthorizedEntries(agent);
        for (const EntryPtr& entry : entries) ASSERT_FALSE(entry->id.empty());
        auto subscription = index->Subscribe(agent, [](const AgentChange&) {});
        (void)index->FindAuthorized(agent, "3");
      }
    });
  }
  for (int i = 0; i < 2000; ++i) index->Apply(Step(random, model, 4, 12, static_cast<uint64_t>(i)));
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace signet::server
