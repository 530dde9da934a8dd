#include "server/sync/sync_conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/spiffe/entry_digest.h"
#include "common/spiffe/wire.h"
#include "tests/server/datastore/contract.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

const spiffe::Id kAgent = TestId("/spire/agent/x");

// The agent's side, as agent_sync.proto tells it.
struct AgentSide {
  std::string epoch;
  std::map<std::string, spiffe::Entry> entries;
  std::map<std::string, std::string> bundles;
  std::map<std::string, std::pair<int64_t, int64_t>> listed;
  bool listing = false, complete = false;
  uint64_t seq = 0;

  std::string Digest() const {
    std::vector<spiffe::EntryVersion> versions;
    for (const auto& [id, entry] : entries) versions.push_back({id, entry.revision, entry.created_at});
    return spiffe::EntryDigest(versions);
  }
  v1::AgentMessage Hello() const {
    v1::AgentMessage message;
    message.mutable_hello()->set_epoch(epoch);
    message.mutable_hello()->set_digest(Digest());
    message.mutable_hello()->mutable_bundle_revisions()->insert(bundles.begin(), bundles.end());
    return message;
  }
  // Answers, when there is one to give.
  std::optional<v1::AgentMessage> On(const v1::ServerMessage& message) {
    EXPECT_LT(message.ByteSizeLong(), 1u << 20);
    seq = std::max(seq, message.seq());
    if (message.has_revisions()) {
      listing = true;
      for (const auto& entry : message.revisions().entries())
        listed[entry.id()] = {entry.revision(), entry.created_at()};
      if (!message.revisions().last()) return std::nullopt;
      v1::AgentMessage want;
      for (const auto& [id, version] : listed) {
        auto held = entries.find(id);
        if (held != entries.end() && held->second.revision == version.first &&
            absl::ToUnixSeconds(held->second.created_at) == version.second) {
          continue;
        }
        want.mutable_want()->add_entry_ids(id);
      }
      want.mutable_want()->set_last(true);
      return want;
    }
    for (const auto& upsert : message.delta().upserts()) {
      spiffe::Entry entry = spiffe::EntryFromWire(upsert).value();
      entry.revision = upsert.revision_number();
      entry.created_at = absl::FromUnixSeconds(upsert.created_at());
      if (listing) listed[entry.id] = {entry.revision, upsert.created_at()};
      entries.insert_or_assign(entry.id, entry);
    }
    for (const auto& id : message.delta().removed_ids()) {
      entries.erase(id);
      listed.erase(id);
    }
    for (const auto& bundle : message.delta().bundles()) bundles[bundle.bundle().trust_domain()] = bundle.revision();
    for (const auto& name : message.delta().removed_bundles()) bundles.erase(name);
    if (message.has_complete()) {
      complete = true;
      epoch = message.complete().epoch();
      if (std::exchange(listing, false))
        std::erase_if(entries, [&](const auto& e) { return !listed.contains(e.first); });
      listed.clear();
    }
    return std::nullopt;
  }
};

class SyncConversationTest : public ::testing::Test {
 protected:
  SyncConversationTest() {
    SetBundle("example.org");
    Apply({.agents = {{kAgent, std::make_shared<const AgentRecord>(TestAgent("/spire/agent/x", absl::Now()))}}});
  }
  void Apply(EntryIndex::Update update) {
    update.seq = ++seq_;
    index_->Apply(std::move(update));
  }
  void Set(const std::string& id, int64_t revision = 0, std::vector<std::string> federates_with = {}) {
    spiffe::Entry entry = TestEntry("/" + id);
    entry.id = id;
    entry.revision = revision;
    entry.federates_with = std::move(federates_with);
    Apply({.entries = {{id, std::make_shared<const spiffe::Entry>(entry)}}});
  }
  void Remove(const std::string& id) { Apply({.entries = {{id, nullptr}}}); }
  void SetBundle(absl::string_view name) {
    spiffe::Bundle bundle{.trust_domain = TestTrustDomain(name)};
    bundle.x509_authorities.push_back({testing::SelfSigned(testing::CaTemplate(name, absl::Now())).certificate});
    Apply({.bundles = {{bundle.trust_domain, std::make_shared<const spiffe::Bundle>(bundle)}}});
  }
  // A new stream; what it is told from now on of changes.
  void Connect(AgentSide& agent) {
    subscription_.reset();
    bundles_ = std::make_unique<BundleUpdates>(*index_);
    conversation_ = std::make_unique<SyncConversation>(options_, kAgent, *index_, *bundles_);
    subscription_ =
        index_->Subscribe(kAgent, [this](const AgentChange& change) { conversation_->OnChange(change, steady_); });
    agent.complete = false;
    SIGNET_ASSERT_OK(conversation_->OnMessage(agent.Hello(), steady_));
  }
  // Everything there is to say; the kinds of messages in order.
  std::vector<std::string> Talk(AgentSide& agent) {
    std::vector<std::string> kinds;
    v1::ServerMessage message;
    while (conversation_->Next(message)) {
      kinds.push_back(message.has_revisions() ? "revisions" : message.has_delta() ? "delta" : "complete");
      if (auto answer = agent.On(message)) {
        EXPECT_THAT(conversation_->OnMessage(*answer, steady_), testing::IsOk());
      }
    }
    return kinds;
  }
  std::vector<std::string> Ids(const AgentSide& agent) {
    std::vector<std::string> ids;
    for (const auto& [id, entry] : agent.entries) {
      ids.push_back(id);
      EXPECT_EQ(entry, *index_->FindEntry(id));
    }
    return ids;
  }
  absl::Status Say(const v1::AgentMessage& message) { return conversation_->OnMessage(message, steady_); }

  uint64_t seq_ = 0;
  absl::Duration steady_ = absl::Seconds(100);
  std::unique_ptr<EntryIndex> index_ = EntryIndex::Create(TestTrustDomain());
  SyncConversation::Options options_{TestTrustDomain(), "epoch-1", 2000};
  std::unique_ptr<BundleUpdates> bundles_;
  std::unique_ptr<SyncConversation> conversation_;
  std::unique_ptr<EntryIndex::Subscription> subscription_;
};

TEST_F(SyncConversationTest, ANewAgentIsBroughtUpToDateInChunks) {
  for (int i = 0; i < 200; ++i) Set(absl::StrCat("e", i));
  AgentSide agent;
  Connect(agent);
  const std::vector<std::string> kinds = Talk(agent);
  EXPECT_EQ(Ids(agent).size(), 200u);
  EXPECT_THAT(agent.bundles, ::testing::SizeIs(1));
  EXPECT_TRUE(agent.complete);
  EXPECT_EQ(agent.epoch, "epoch-1");
  EXPECT_EQ(agent.seq, seq_);
  EXPECT_GT(std::count(kinds.begin(), kinds.end(), "revisions"), 2);
  EXPECT_GT(std::count(kinds.begin(), kinds.end(), "delta"), 5);
  EXPECT_EQ(kinds.back(), "complete");
}

TEST_F(SyncConversationTest, AnAgentThatHoldsAllIsToldSoAtOnce) {
  Set("a");
  AgentSide agent;
  Connect(agent);
  Talk(agent);
  Connect(agent);
  EXPECT_THAT(Talk(agent), ElementsAre("complete"));
  SetBundle("example.org");
  Connect(agent);
  EXPECT_THAT(Talk(agent), ElementsAre("delta", "complete"));  // the bundle alone
}

TEST_F(SyncConversationTest, OnlyWhatDiffersIsSentAgain) {
  Set("a");
  Set("b");
  Set("c");
  AgentSide agent;
  Connect(agent);
  Talk(agent);
  Set("b", 1);
  Remove("c");
  Set("d");
  Connect(agent);
  v1::ServerMessage message;
  ASSERT_TRUE(conversation_->Next(message));
  const auto want = agent.On(message);
  EXPECT_THAT(want->want().entry_ids(), ElementsAre("b", "d"));
  SIGNET_ASSERT_OK(Say(*want));
  Talk(agent);
  EXPECT_THAT(Ids(agent), ElementsAre("a", "b", "d"));
}

TEST_F(SyncConversationTest, AnotherEpochIsSentWhole) {
  Set("a");
  AgentSide agent;
  Connect(agent);
  Talk(agent);
  // The database was restored: the same revision now means something else.
  agent.epoch = "epoch-0";
  agent.entries.at("a").hint = "of the other history";
  Connect(agent);
  EXPECT_THAT(Talk(agent), ElementsAre("revisions", "delta", "complete"));
  EXPECT_THAT(Ids(agent), ElementsAre("a"));
  EXPECT_EQ(agent.epoch, "epoch-1");
}

TEST_F(SyncConversationTest, ChangesComeAsDeltasWithTheirPosition) {
  AgentSide agent;
  Connect(agent);
  Talk(agent);
  EXPECT_THAT(Talk(agent), IsEmpty());
  Set("a");
  EXPECT_THAT(Talk(agent), ElementsAre("delta"));
  EXPECT_EQ(agent.seq, seq_);
  Set("b");
  Set("a", 1);
  Remove("b");
  EXPECT_THAT(Talk(agent), ElementsAre("delta"));
  EXPECT_THAT(Ids(agent), ElementsAre("a"));
  EXPECT_EQ(agent.seq, seq_);
}

TEST_F(SyncConversationTest, ThePositionIsNotClaimedBeforeItIsReached) {
  AgentSide agent;
  Connect(agent);
  Talk(agent);
  const uint64_t before = agent.seq;
  for (int i = 0; i < 100; ++i) Set(absl::StrCat("e", i));
  v1::ServerMessage message;
  while (conversation_->Next(message)) {
    agent.On(message);
    EXPECT_EQ(agent.seq == seq_, agent.entries.size() == 100u);
    if (agent.entries.size() < 100u) {
      EXPECT_EQ(agent.seq, before);
    }
  }
  EXPECT_EQ(agent.seq, seq_);
}

TEST_F(SyncConversationTest, ChangesDuringTheSynchronisationAreNotLost) {
  for (int i = 0; i < 100; ++i) Set(absl::StrCat("e", i));
  AgentSide agent;
  Connect(agent);
  v1::ServerMessage message;
  for (int step = 0; conversation_->Next(message); ++step) {
    if (auto answer = agent.On(message)) {
      SIGNET_ASSERT_OK(Say(*answer));
    }
    Remove(absl::StrCat("e", step));
    Set(absl::StrCat("e", 99 - step), 1);
    Set(absl::StrCat("n", step));
    if (step == 30) break;
  }
  Talk(agent);
  EXPECT_TRUE(agent.complete);
  const std::vector<EntryPtr> authorized = index_->AuthorizedEntries(kAgent);
  EXPECT_EQ(Ids(agent).size(), authorized.size());
  EXPECT_EQ(agent.seq, seq_);
}

TEST_F(SyncConversationTest, BundlesFollowTheEntriesThatFederate) {
  SetBundle("a.test");
  SetBundle("b.test");
  Set("1", 0, {"a.test", "unknown.test"});
  AgentSide agent;
  Connect(agent);
  Talk(agent);
  EXPECT_THAT(agent.bundles, UnorderedElementsAre(::testing::Key("example.org"), ::testing::Key("a.test")));
  SetBundle("b.test");
  EXPECT_THAT(Talk(agent), IsEmpty());  // none of its business

  Set("2", 0, {"b.test"});
  v1::ServerMessage message;
  ASSERT_TRUE(conversation_->Next(message));
  EXPECT_EQ(message.delta().upserts_size(), 1);
  EXPECT_EQ(message.delta().bundles_size(), 1);  // together: no entry is without its bundles
  agent.On(message);

  const std::string before = agent.bundles["a.test"];
  SetBundle("a.test");
  Talk(agent);
  EXPECT_NE(agent.bundles["a.test"], before);

  Set("1", 1);  // federates no more
  Remove("2");
  Talk(agent);
  EXPECT_THAT(agent.bundles, UnorderedElementsAre(::testing::Key("example.org")));

  Set("1", 2, {"unknown.test"});
  Talk(agent);
  SetBundle("unknown.test");
  Talk(agent);
  EXPECT_THAT(agent.bundles, UnorderedElementsAre(::testing::Key("example.org"), ::testing::Key("unknown.test")));
}

TEST_F(SyncConversationTest, ABundleHeldForNothingIsTakenBack) {
  AgentSide agent;
  agent.bundles = {{"old.test", "r"}, {"example.org", "r"}};
  Connect(agent);
  Talk(agent);
  EXPECT_THAT(agent.bundles, UnorderedElementsAre(::testing::Key("example.org")));
}

TEST_F(SyncConversationTest, MeasuresFromTheChangeToItsAcknowledgement) {
  AgentSide agent;
  Connect(agent);
  Talk(agent);
  Set("a");
  steady_ += absl::Seconds(1);
  Set("b");
  Talk(agent);
  steady_ += absl::Seconds(2);
  v1::AgentMessage ack;
  ack.mutable_ack()->set_seq(agent.seq);
  SIGNET_ASSERT_OK(Say(ack));
  EXPECT_THAT(conversation_->TakePropagation(), ElementsAre(absl::Seconds(3)));
  SIGNET_ASSERT_OK(Say(ack));
  EXPECT_THAT(conversation_->TakePropagation(), IsEmpty());
}

TEST_F(SyncConversationTest, RefusesWhatNoAgentOfOursSays) {
  Set("a");
  const auto fresh = [&] { conversation_ = std::make_unique<SyncConversation>(options_, kAgent, *index_, *bundles_); };
  bundles_ = std::make_unique<BundleUpdates>(*index_);
  v1::AgentMessage ack, want, hello, empty;
  ack.mutable_ack()->set_seq(1);
  want.mutable_want()->set_last(true);
  hello.mutable_hello();
  for (const auto& first : {ack, want, empty}) {
    fresh();
    EXPECT_THAT(Say(first), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("AgentSync")));
  }
  fresh();
  SIGNET_ASSERT_OK(Say(hello));
  EXPECT_THAT(Say(hello), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Say(want), StatusIs(absl::StatusCode::kInvalidArgument));  // nothing was listed yet
  v1::ServerMessage message;
  ASSERT_TRUE(conversation_->Next(message));
  for (int i = 0; i < 2; ++i) want.mutable_want()->add_entry_ids(absl::StrCat("made-up", i));
  EXPECT_THAT(Say(want), StatusIs(absl::StatusCode::kInvalidArgument));  // more than was listed
  for (int i = 0; i < 500; ++i) want.mutable_want()->add_entry_ids(absl::StrCat("made-up", i));
  EXPECT_THAT(Say(want), StatusIs(absl::StatusCode::kInvalidArgument));
  fresh();
  hello.mutable_hello()->set_agent_version(std::string(200, 'v'));
  EXPECT_THAT(Say(hello), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(SyncConversationTest, AnswersAWantOnlyWithWhatTheAgentIsAuthorisedFor) {
  Set("mine");
  spiffe::Entry foreign = TestEntry("/foreign", {"unix:uid:1"}, "/spire/agent/other");
  foreign.id = "foreign";
  Apply({.entries = {{"foreign", std::make_shared<const spiffe::Entry>(foreign)}}});
  AgentSide agent;
  Connect(agent);
  v1::ServerMessage message;
  ASSERT_TRUE(conversation_->Next(message));
  v1::AgentMessage want;
  want.mutable_want()->add_entry_ids("foreign");
  want.mutable_want()->set_last(true);
  SIGNET_ASSERT_OK(Say(want));
  std::vector<std::string> sent;
  while (conversation_->Next(message)) {
    for (const auto& entry : message.delta().upserts()) sent.push_back(entry.id());
  }
  EXPECT_EQ(std::count(sent.begin(), sent.end(), "foreign"), 0);
}

}  // namespace
}  // namespace signet::server
