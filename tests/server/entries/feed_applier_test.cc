#include "server/entries/feed_applier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/time/clock.h"
#include "tests/server/datastore/contract.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;

class FeedApplierTest : public ::testing::Test {
 protected:
  void Start(size_t writer_feed_rows = 65'536) {
    applier_.reset();
    store_.reset();
    store_ = SqliteDataStore::Open(
                 {.path = dir_.file("db"), .writer = {.feed_rows = static_cast<int64_t>(writer_feed_rows)}})
                 .value();
    index_ = EntryIndex::Create(TestTrustDomain());
    applier_ = FeedApplier::Create(*store_, *index_, clock_).value();
  }
  std::string CreateEntry(absl::string_view path) {
    return testing::CreateEntries(*store_, {TestEntry(path)}, now_).value().front().record->id;
  }
  void CatchUp() { ASSERT_TRUE(applier_->WaitFor(store_->LastSeq().value(), absl::Seconds(20))); }

  const absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);
  testing::TempDir dir_;
  SystemClock clock_;
  std::unique_ptr<SqliteDataStore> store_;
  std::unique_ptr<EntryIndex> index_;
  std::unique_ptr<FeedApplier> applier_;
};

TEST_F(FeedApplierTest, LoadsAllBeforeItReturns) {
  Start();
  std::vector<spiffe::Entry> entries;
  for (int i = 0; i < 2500; ++i) entries.push_back(TestEntry(absl::StrCat("/", i)));
  SIGNET_ASSERT_OK(testing::CreateEntries(*store_, std::move(entries), now_));
  const AgentRecord agent = TestAgent("/spire/agent/x", now_);
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store_->Attest({.agent = agent}, now_, std::move(done)); }));
  const spiffe::X509Authority root{testing::SelfSigned(testing::CaTemplate("root", now_)).certificate};
  SIGNET_ASSERT_OK(testing::Await<spiffe::Bundle>(
      [&](auto done) { store_->ChangeBundle(TestTrustDomain(), {.add_x509 = {root}}, std::move(done)); }));
  Start();
  EXPECT_EQ(index_->entry_count(), 2500u);
  EXPECT_EQ(index_->AuthorizedEntries(agent.id).size(), 2500u);
  EXPECT_EQ(*index_->FindAgent(agent.id), agent);
  EXPECT_EQ(index_->FindBundle(TestTrustDomain())->x509_authorities.size(), 1u);
  EXPECT_EQ(index_->seq(), store_->LastSeq().value());
}

TEST_F(FeedApplierTest, FollowsEveryKindOfChange) {
  Start();
  const AgentRecord agent = TestAgent("/spire/agent/x", now_);
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store_->Attest({.agent = agent}, now_, std::move(done)); }));
  const std::string a = CreateEntry("/a"), b = CreateEntry("/b");
  CatchUp();
  EXPECT_EQ(index_->AuthorizedEntries(agent.id).size(), 2u);
  SIGNET_ASSERT_OK(
      testing::Await<std::vector<absl::Status>>([&](auto done) { store_->DeleteEntries({a}, std::move(done)); }));
  const spiffe::X509Authority root{testing::SelfSigned(testing::CaTemplate("root", now_)).certificate};
  SIGNET_ASSERT_OK(testing::Await<spiffe::Bundle>(
      [&](auto done) { store_->ChangeBundle(TestTrustDomain(), {.add_x509 = {root}}, std::move(done)); }));
  CatchUp();
  EXPECT_EQ(index_->FindEntry(a), nullptr);
  EXPECT_NE(index_->FindAuthorized(agent.id, b), nullptr);
  EXPECT_EQ(index_->FindBundle(TestTrustDomain())->sequence_number, 1u);
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store_->BanAgent(agent.id, std::move(done)); }));
  CatchUp();
  EXPECT_TRUE(index_->FindAgent(agent.id)->banned);
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store_->DeleteAgent(agent.id, std::move(done)); }));
  CatchUp();
  EXPECT_EQ(index_->FindAgent(agent.id), nullptr);
  SIGNET_EXPECT_OK(applier_->Check());
}

TEST_F(FeedApplierTest, ReadsAllAnewWhenTheFeedDoesNotReachBack) {
  Start(100);
  const std::string gone = CreateEntry("/gone");
  CatchUp();
  applier_.reset();  // nobody follows while the feed moves on
  SIGNET_ASSERT_OK(
      testing::Await<std::vector<absl::Status>>([&](auto done) { store_->DeleteEntries({gone}, std::move(done)); }));
  for (int batch = 0; batch < 10; ++batch) {
    std::vector<spiffe::Entry> entries;
    for (int i = 0; i < 500; ++i) entries.push_back(TestEntry(absl::StrCat("/", batch, "/", i)));
    SIGNET_ASSERT_OK(testing::CreateEntries(*store_, std::move(entries), now_));
  }
  ASSERT_THAT(store_->ReadChanges(index_->seq(), 1), StatusIs(absl::StatusCode::kOutOfRange));
  // A store whose feed has been cut under a follower: the wrapper shows an old position first.
  class Behind final : public EntryIndex {
   public:
    explicit Behind(EntryIndex& real, uint64_t seq) : real_(real), old_(seq) {}
    uint64_t seq() const override { return cut_ ? old_ : real_.seq(); }
    EntryPtr FindEntry(const std::string& id) const override { return real_.FindEntry(id); }
    AgentPtr FindAgent(const spiffe::Id& id) const override { return real_.FindAgent(id); }
    AgentPtr FindAgentByHash(const std::string& hash) const override { return real_.FindAgentByHash(hash); }
    BundlePtr FindBundle(const spiffe::TrustDomain& name) const override { return real_.FindBundle(name); }
    std::vector<EntryPtr> AuthorizedEntries(const spiffe::Id& id) const override { return real_.AuthorizedEntries(id); }
    EntryPtr FindAuthorized(const spiffe::Id& a, const std::string& e) const override {
      return real_.FindAuthorized(a, e);
    }
    std::vector<EntryPtr> EntriesWithSpiffeId(const spiffe::Id& id) const override {
      return real_.EntriesWithSpiffeId(id);
    }
    size_t entry_count() const override { return real_.entry_count(); }
    size_t agent_count() const override { return real_.agent_count(); }
    std::unique_ptr<Subscription> Subscribe(const spiffe::Id& id, Listener call) override {
      return real_.Subscribe(id, std::move(call));
    }
    void Apply(Update update) override {
      if (update.whole) cut_ = false;
      const bool end_of_load = !update.whole && update.seq > 0 && !loaded_;
      if (end_of_load) loaded_ = cut_ = true;
      real_.Apply(std::move(update));
    }

   private:
    EntryIndex& real_;
    const uint64_t old_;
    bool loaded_ = false;
    std::atomic<bool> cut_ = false;
  };
  Behind behind(*index_, index_->seq());
  ASSERT_NE(index_->FindEntry(gone), nullptr);  // the load in pages does not take it away
  applier_ = FeedApplier::Create(*store_, behind, clock_).value();
  CatchUp();
  EXPECT_EQ(index_->FindEntry(gone), nullptr);
  EXPECT_EQ(index_->entry_count(), 5000u);
  applier_.reset();
}

}  // namespace
}  // namespace signet::server
