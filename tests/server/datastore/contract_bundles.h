// The BundleStore, JournalStore and ChangeFeed parts of the contract.
#pragma once

#include <atomic>

#include "tests/server/datastore/contract.h"
#include "tests/testing/test_ca.h"

namespace signet::server {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class BundleContract : public StoreContract {
 protected:
  spiffe::Bundle ChangeIt(BundleChange change) {
    return testing::Await<spiffe::Bundle>(
               [&](auto done) { store().ChangeBundle(TestTrustDomain(), std::move(change), std::move(done)); })
        .value();
  }
  spiffe::X509Authority Root(absl::Time not_after) {
    crypto::CertificateTemplate t = testing::CaTemplate("root", now_);
    t.not_after = not_after;
    return {testing::SelfSigned(t).certificate};
  }
  spiffe::JwtAuthority JwtKey(std::string id, absl::Time expires_at) {
    return {std::move(id), crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value().public_key(), expires_at};
  }
};

TEST_P(BundleContract, IsMadeByItsFirstChangeAndGrows) {
  EXPECT_THAT(store().GetBundle(TestTrustDomain()), StatusIs(absl::StatusCode::kNotFound));
  spiffe::X509Authority root = Root(now_ + absl::Hours(1));
  root.tainted = true;
  const spiffe::JwtAuthority key = JwtKey("kid", now_ + absl::Hours(2));
  const spiffe::Bundle first = ChangeIt({.add_x509 = {root}, .add_jwt = {key}});
  EXPECT_THAT(first.x509_authorities, ElementsAre(root));
  EXPECT_THAT(first.jwt_authorities, ElementsAre(key));
  EXPECT_EQ(first.sequence_number, 1u);
  Reopen();
  EXPECT_EQ(store().GetBundle(TestTrustDomain()).value(), first);
  EXPECT_THAT(store().ListBundles().value(), ElementsAre(first));
}

TEST_P(BundleContract, SequenceNumberGrowsOnlyWithTheContent) {
  const spiffe::X509Authority root = Root(now_ + absl::Hours(1));
  EXPECT_EQ(ChangeIt({.add_x509 = {root}}).sequence_number, 1u);
  const uint64_t seq = store().LastSeq().value();
  EXPECT_EQ(ChangeIt({.add_x509 = {root}}).sequence_number, 1u);
  EXPECT_EQ(store().LastSeq().value(), seq);
  EXPECT_EQ(ChangeIt({.add_x509 = {Root(now_ + absl::Hours(1))}}).sequence_number, 2u);
}

TEST_P(BundleContract, DropsWhatHasEnded) {
  const spiffe::X509Authority old = Root(now_), fresh = Root(now_ + absl::Hours(1));
  const spiffe::JwtAuthority old_key = JwtKey("old", now_), endless = JwtKey("endless", absl::UnixEpoch());
  ChangeIt({.add_x509 = {old, fresh}, .add_jwt = {old_key, endless}});
  const spiffe::Bundle pruned = ChangeIt({.remove_expired_before = now_ + absl::Seconds(1)});
  EXPECT_THAT(pruned.x509_authorities, ElementsAre(fresh));
  EXPECT_THAT(pruned.jwt_authorities, ElementsAre(endless));
}

TEST_P(BundleContract, JournalAndBundleAreWrittenTogether) {
  EXPECT_THAT(store().LoadJournal("a"), StatusIs(absl::StatusCode::kNotFound));
  const std::string bytes("\0journal\xff", 9);
  const auto save = [&](std::string server, std::string journal, BundleChange change) {
    return testing::Await<spiffe::Bundle>([&](auto done) {
      store().SaveJournal(server, std::move(journal), TestTrustDomain(), std::move(change), std::move(done));
    });
  };
  const spiffe::X509Authority root = Root(now_ + absl::Hours(1));
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::Bundle bundle, save("a", bytes, {.add_x509 = {root}}));
  EXPECT_THAT(bundle.x509_authorities, ElementsAre(root));
  SIGNET_ASSERT_OK(save("b", "other", {}));
  Reopen();
  EXPECT_EQ(store().LoadJournal("a").value(), bytes);
  EXPECT_EQ(store().LoadJournal("b").value(), "other");
  EXPECT_EQ(store().GetBundle(TestTrustDomain()).value(), bundle);
}

class FeedContract : public StoreContract {
 protected:
  std::vector<std::string> KeysAfter(uint64_t seq) {
    std::vector<std::string> keys;
    const std::vector<Change> changes = store().ReadChanges(seq, 0).value();
    for (const Change& change : changes) {
      EXPECT_GT(change.seq, seq);
      seq = change.seq;
      keys.push_back(change.key);
    }
    return keys;
  }
};

TEST_P(FeedContract, EachChangeIsThereInOrderAndARefusedOneIsNot) {
  EXPECT_EQ(store().LastSeq().value(), 0u);
  spiffe::Entry entry = TestEntry("/a");
  entry.id = "e";
  SIGNET_ASSERT_OK(testing::CreateEntries(store(), {entry, entry}, now_));  // the second is refused
  const AgentRecord agent = TestAgent("/spire/agent/x", now_ + absl::Hours(1));
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store().Attest({.agent = agent}, now_, std::move(done)); }));
  EXPECT_THAT(KeysAfter(0), ElementsAre("e", agent.id.string()));
  const uint64_t seq = store().LastSeq().value();
  (void)testing::AwaitStatus([&](auto done) { store().BanAgent(TestId("/spire/agent/none"), std::move(done)); });
  EXPECT_EQ(store().LastSeq().value(), seq);
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store().BanAgent(agent.id, std::move(done)); }));
  SIGNET_ASSERT_OK(testing::Await<std::vector<absl::Status>>([&](auto done) {
    store().DeleteEntries({"e", "none"}, std::move(done));
  }));
  EXPECT_THAT(KeysAfter(seq), ElementsAre(agent.id.string(), "e"));
  Reopen();
  EXPECT_THAT(KeysAfter(seq), ElementsAre(agent.id.string(), "e"));
  EXPECT_EQ(store().ReadChanges(seq, 1).value().size(), 1u);
}

TEST_P(FeedContract, APositionOfAnotherHistoryIsRefused) {
  SIGNET_ASSERT_OK(testing::CreateEntries(store(), {TestEntry("/a")}, now_));
  EXPECT_THAT(store().ReadChanges(1, 0), testing::IsOkAndHolds(IsEmpty()));
  EXPECT_THAT(store().ReadChanges(2, 0), StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_P(FeedContract, WakesAfterTheCommitAndBeforeTheCompletion) {
  std::atomic<int> wakes = 0;
  uint64_t seen = 0;
  store().SetWakeUp([&] {
    ++wakes;
    seen = store().LastSeq().value();
  });
  SIGNET_ASSERT_OK(testing::CreateEntries(store(), {TestEntry("/a")}, now_));
  EXPECT_EQ(wakes, 1);
  EXPECT_EQ(seen, 1u);
  (void)testing::AwaitStatus([&](auto done) { store().BanAgent(TestId("/spire/agent/none"), std::move(done)); });
  EXPECT_EQ(wakes, 1);  // nothing changed
  store().SetWakeUp(nullptr);
}

TEST_P(FeedContract, TheEpochStaysWithTheDatabase) {
  const std::string epoch = store().Epoch().value();
  EXPECT_FALSE(epoch.empty());
  Reopen();
  EXPECT_EQ(store().Epoch().value(), epoch);
  EXPECT_NE(GetParam().make()->store().Epoch().value(), epoch);
}

TEST_P(FeedContract, ChecksOut) { SIGNET_EXPECT_OK(store().Check()); }

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(BundleContract);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FeedContract);

}  // namespace signet::server
