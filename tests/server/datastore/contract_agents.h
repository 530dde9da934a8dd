// The AgentStore and JoinTokenStore parts of the contract.
#pragma once

#include <atomic>
#include <thread>

#include "tests/server/datastore/contract.h"

namespace signet::server {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;

class AgentContract : public StoreContract {
 protected:
  absl::Status Attest(Attestation attestation, absl::Duration later = absl::ZeroDuration()) {
    return testing::AwaitStatus(
        [&](auto done) { store().Attest(std::move(attestation), now_ + later, std::move(done)); });
  }
  absl::Status Ban(const spiffe::Id& id) {
    return testing::AwaitStatus([&](auto done) { store().BanAgent(id, std::move(done)); });
  }
  absl::Status CreateToken(JoinTokenRecord token) {
    return testing::AwaitStatus([&](auto done) { store().CreateJoinToken(std::move(token), std::move(done)); });
  }
  std::vector<std::string> List(const AgentFilter& filter) {
    std::vector<std::string> paths;
    PageRequest request{.after = "", .limit = 2};
    do {
      const Page<AgentRecord> page = store().ListAgents(filter, request).value();
      for (const AgentRecord& agent : page.items) paths.emplace_back(agent.id.path());
      request.after = page.next;
    } while (!request.after.empty());
    EXPECT_EQ(store().CountAgents(filter).value(), paths.size());
    return paths;
  }
  AgentRecord agent_ = TestAgent("/spire/agent/x", now_ + absl::Hours(1));
};

TEST_P(AgentContract, KeepsEveryField) {
  agent_.selectors = TestSelectors({"k8s_psat:cluster:c", "k8s_psat:agent_ns:n"});
  agent_.can_reattest = true;
  agent_.agent_version = "0.1.0";
  SIGNET_ASSERT_OK(Attest({.agent = agent_}));
  Reopen();
  EXPECT_EQ(store().GetAgent(agent_.id).value(), agent_);
  EXPECT_THAT(store().GetAgent(TestId("/spire/agent/none")), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(AgentContract, AttestationReplacesTheRecord) {
  agent_.selectors = TestSelectors({"a:1", "a:2"});
  SIGNET_ASSERT_OK(Attest({.agent = agent_}));
  agent_.selectors = TestSelectors({"a:2", "a:3"});
  agent_.serial = "18";
  SIGNET_ASSERT_OK(Attest({.agent = agent_}));
  EXPECT_EQ(store().GetAgent(agent_.id).value(), agent_);
  EXPECT_THAT(List({.selectors = SelectorFilter{TestSelectors({"a:1"}), Match::kAny}}), ElementsAre());
  EXPECT_THAT(List({.selectors = SelectorFilter{agent_.selectors, Match::kExact}}), ElementsAre("/spire/agent/x"));
}

TEST_P(AgentContract, ABannedAgentStaysOut) {
  SIGNET_ASSERT_OK(Attest({.agent = agent_}));
  SIGNET_ASSERT_OK(Ban(agent_.id));
  Reopen();
  const AgentRecord banned = store().GetAgent(agent_.id).value();
  EXPECT_TRUE(banned.banned);
  EXPECT_EQ(banned.serial, "");
  EXPECT_THAT(Attest({.agent = agent_}), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(testing::AwaitStatus(
                  [&](auto done) { store().SetNewSerial(agent_.id, "19", now_ + absl::Hours(2), std::move(done)); }),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_EQ(store().GetAgent(agent_.id).value(), banned);
}

TEST_P(AgentContract, ABannedAgentDoesNotEvenSpendAToken) {
  SIGNET_ASSERT_OK(Attest({.agent = agent_}));
  SIGNET_ASSERT_OK(Ban(agent_.id));
  const std::string hash(32, 'h');
  SIGNET_ASSERT_OK(CreateToken({.token_sha256 = hash, .expires_at = now_ + absl::Minutes(1)}));
  EXPECT_THAT(Attest({.agent = agent_, .consume_token_sha256 = hash}), StatusIs(absl::StatusCode::kPermissionDenied));
  SIGNET_EXPECT_OK(store().FindJoinToken(hash, now_));
}

TEST_P(AgentContract, BothSerialsAreCurrentUntilTheNewOneIsUsed) {
  SIGNET_ASSERT_OK(Attest({.agent = agent_}));
  const absl::Time later = now_ + absl::Hours(2);
  SIGNET_ASSERT_OK(
      testing::AwaitStatus([&](auto done) { store().SetNewSerial(agent_.id, "18", later, std::move(done)); }));
  AgentRecord stored = store().GetAgent(agent_.id).value();
  EXPECT_EQ(stored.serial, "17");
  EXPECT_EQ(stored.new_serial, "18");
  EXPECT_EQ(stored.new_expires_at, later);

  const auto confirm = [&](std::string serial) {
    return testing::AwaitStatus([&](auto done) { store().ConfirmSerial(agent_.id, serial, std::move(done)); });
  };
  EXPECT_THAT(confirm("99"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(confirm(""), StatusIs(absl::StatusCode::kFailedPrecondition));
  SIGNET_EXPECT_OK(confirm("18"));
  SIGNET_EXPECT_OK(confirm("18"));
  stored = store().GetAgent(agent_.id).value();
  EXPECT_EQ(stored.serial, "18");
  EXPECT_EQ(stored.new_serial, "");
  EXPECT_EQ(stored.expires_at, later);
}

TEST_P(AgentContract, ChangesOfAnUnknownAgentAreRefused) {
  const spiffe::Id id = TestId("/spire/agent/none");
  EXPECT_THAT(Ban(id), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { store().DeleteAgent(id, std::move(done)); }),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { store().SetAgentVersion(id, "1", std::move(done)); }),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { store().SetNewSerial(id, "1", now_, std::move(done)); }),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { store().ConfirmSerial(id, "1", std::move(done)); }),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(AgentContract, DeletesAndKeepsTheVersion) {
  SIGNET_ASSERT_OK(Attest({.agent = agent_}));
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store().SetAgentVersion(agent_.id, "9", std::move(done)); }));
  EXPECT_EQ(store().GetAgent(agent_.id).value().agent_version, "9");
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store().DeleteAgent(agent_.id, std::move(done)); }));
  EXPECT_THAT(List({}), ElementsAre());
}

TEST_P(AgentContract, FiltersLists) {
  AgentRecord pop = TestAgent("/spire/agent/pop", now_ + absl::Hours(3)), old = TestAgent("/spire/agent/old", now_);
  pop.attestation_type = "x509pop";
  pop.can_reattest = true;
  for (const AgentRecord& agent : {agent_, pop, old}) SIGNET_ASSERT_OK(Attest({.agent = agent}));
  SIGNET_ASSERT_OK(Ban(old.id));
  EXPECT_THAT(List({}), ElementsAre("/spire/agent/x", "/spire/agent/pop", "/spire/agent/old"));
  EXPECT_THAT(List({.attestation_type = "x509pop"}), ElementsAre("/spire/agent/pop"));
  EXPECT_THAT(List({.banned = true}), ElementsAre("/spire/agent/old"));
  EXPECT_THAT(List({.banned = false, .can_reattest = false}), ElementsAre("/spire/agent/x"));
  EXPECT_THAT(List({.expires_before = now_ + absl::Seconds(1)}), ElementsAre("/spire/agent/old"));
  EXPECT_THAT(store().ListAgents({.selectors = SelectorFilter{}}, {}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(AgentContract, PrunesNeitherBannedNorRenewedNorTofuUnasked) {
  AgentRecord pop = TestAgent("/spire/agent/pop", now_), banned = TestAgent("/spire/agent/banned", now_),
              renewed = TestAgent("/spire/agent/renewed", now_), tofu = TestAgent("/spire/agent/tofu", now_);
  pop.can_reattest = banned.can_reattest = renewed.can_reattest = true;
  for (const AgentRecord& agent : {agent_, pop, banned, renewed, tofu}) SIGNET_ASSERT_OK(Attest({.agent = agent}));
  SIGNET_ASSERT_OK(Ban(banned.id));
  SIGNET_ASSERT_OK(testing::AwaitStatus(
      [&](auto done) { store().SetNewSerial(renewed.id, "18", now_ + absl::Hours(1), std::move(done)); }));
  const auto prune = [&](bool tofu_too) {
    return testing::Await<size_t>(
               [&](auto done) { store().PruneAgents(now_ + absl::Minutes(1), tofu_too, 10, std::move(done)); })
        .value();
  };
  EXPECT_EQ(prune(false), 1u);
  EXPECT_THAT(List({}),
              ElementsAre("/spire/agent/x", "/spire/agent/banned", "/spire/agent/renewed", "/spire/agent/tofu"));
  EXPECT_EQ(prune(true), 1u);
  EXPECT_THAT(List({}), ElementsAre("/spire/agent/x", "/spire/agent/banned", "/spire/agent/renewed"));
}

// N3: of 64 racers on one token exactly one wins, whatever they call themselves.
TEST_P(AgentContract, OneTokenLetsExactlyOneOfManyRacersIn) {
  for (int round = 0; round < 20; ++round) {
    const std::string hash(32, static_cast<char>('a' + round));
    SIGNET_ASSERT_OK(CreateToken({.token_sha256 = hash, .expires_at = now_ + absl::Minutes(1)}));
    std::atomic<int> ready = 0, won = 0, refused = 0;
    std::vector<std::thread> racers;
    for (int i = 0; i < 64; ++i) {
      racers.emplace_back([&, i] {
        AgentRecord agent = TestAgent(absl::StrCat("/spire/agent/", round, "/", i), now_ + absl::Hours(1));
        ++ready;
        while (ready < 64) std::this_thread::yield();
        const absl::Status status =
            Attest({.agent = agent, .consume_token_sha256 = hash, .key_sha256 = std::string(32, static_cast<char>(i))});
        if (status.ok()) ++won;
        if (absl::IsNotFound(status)) ++refused;
      });
    }
    for (std::thread& racer : racers) racer.join();
    EXPECT_EQ(won, 1);
    EXPECT_EQ(refused, 63);
    EXPECT_EQ(store().CountAgents({}).value(), static_cast<size_t>(round + 1));
  }
}

TEST_P(AgentContract, TokensAreSpentOnceAndOnlyInTheirTime) {
  const std::string hash(32, 'h'), old(32, 'o');
  SIGNET_ASSERT_OK(CreateToken({.token_sha256 = old, .expires_at = now_}));
  SIGNET_ASSERT_OK(
      CreateToken({.token_sha256 = hash, .expires_at = now_ + absl::Seconds(1), .alias_id = TestId("/al")}));
  EXPECT_THAT(CreateToken({.token_sha256 = hash, .expires_at = now_}), StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(store().FindJoinToken(hash, now_).value().alias_id, TestId("/al"));
  EXPECT_THAT(store().FindJoinToken(hash, now_ + absl::Seconds(1)), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Attest({.agent = agent_, .consume_token_sha256 = old}), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store().GetAgent(agent_.id), StatusIs(absl::StatusCode::kNotFound));  // nothing half-written
  SIGNET_EXPECT_OK(Attest({.agent = agent_, .consume_token_sha256 = hash}));
  EXPECT_THAT(Attest({.agent = agent_, .consume_token_sha256 = hash}), StatusIs(absl::StatusCode::kNotFound));
  Reopen();
  EXPECT_THAT(store().FindJoinToken(hash, now_), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(testing::Await<size_t>([&](auto done) { store().PruneJoinTokens(now_, std::move(done)); }).value(), 1u);
}

// The answer to an attestation may be lost: the key that spent a token may show it again, and nobody else may.
TEST_P(AgentContract, ASpentTokenStaysWithItsKeyForAWhile) {
  const std::string hash(32, 'h'), key(32, 'k'), other(32, 'x');
  SIGNET_ASSERT_OK(CreateToken({.token_sha256 = hash, .expires_at = now_ + absl::Seconds(1)}));
  EXPECT_EQ(store().FindJoinToken(hash, now_).value().spent_by, "");
  SIGNET_ASSERT_OK(Attest({.agent = agent_, .consume_token_sha256 = hash, .key_sha256 = key}));
  Reopen();
  EXPECT_EQ(store().FindJoinToken(hash, now_).value().spent_by, key);

  AgentRecord again = agent_;
  again.serial = "4242";
  EXPECT_THAT(Attest({.agent = again, .consume_token_sha256 = hash, .key_sha256 = other}),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Attest({.agent = again, .consume_token_sha256 = hash}), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(store().GetAgent(agent_.id).value().serial, agent_.serial);
  SIGNET_ASSERT_OK(Attest({.agent = again, .consume_token_sha256 = hash, .key_sha256 = key}));
  EXPECT_EQ(store().GetAgent(agent_.id).value().serial, "4242");

  // Trying again does not prolong it, and an agent that an operator removed does not come back by it.
  const Attestation retry{.agent = again, .consume_token_sha256 = hash, .key_sha256 = key};
  SIGNET_ASSERT_OK(Attest(retry, absl::Minutes(4)));
  EXPECT_THAT(Attest(retry, kSpentTokenLasts), StatusIs(absl::StatusCode::kNotFound));
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { store().DeleteAgent(agent_.id, std::move(done)); }));
  EXPECT_THAT(Attest(retry), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store().GetAgent(agent_.id), StatusIs(absl::StatusCode::kNotFound));

  const absl::Time over = now_ + kSpentTokenLasts;
  EXPECT_THAT(store().FindJoinToken(hash, over), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(testing::Await<size_t>([&](auto done) { store().PruneJoinTokens(over, std::move(done)); }).value(), 1u);
}

TEST_P(AgentContract, ASpentTokensValueCanBeMadeAnew) {
  const std::string hash(32, 'h');
  SIGNET_ASSERT_OK(CreateToken({.token_sha256 = hash, .expires_at = now_ + absl::Seconds(1)}));
  SIGNET_ASSERT_OK(Attest({.agent = agent_, .consume_token_sha256 = hash, .key_sha256 = std::string(32, 'k')}));
  SIGNET_ASSERT_OK(CreateToken({.token_sha256 = hash, .expires_at = now_ + absl::Seconds(2)}));
  EXPECT_EQ(store().FindJoinToken(hash, now_).value().spent_by, "");
}

TEST_P(AgentContract, TheAliasIsMadeWithTheAgentAndAnExistingOneStays) {
  spiffe::Entry alias = TestEntry("/alias", {"spiffe_id:spiffe://example.org/spire/agent/x"});
  SIGNET_ASSERT_OK(Attest({.agent = agent_, .alias = alias}));
  SIGNET_ASSERT_OK(Attest({.agent = agent_, .alias = alias}));
  const Page<spiffe::Entry> entries = store().ListEntries({}, {}).value();
  ASSERT_EQ(entries.items.size(), 1u);
  EXPECT_EQ(entries.items[0].spiffe_id, TestId("/alias"));
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(AgentContract);

}  // namespace signet::server
