#include "server/token/refresh_grant.h"

#include <gtest/gtest.h>

#include "common/crypto/digest.h"
#include "tests/server/token/service_kit.h"

namespace signet::server {
namespace {

class RefreshGrantTest : public ::testing::Test {
 protected:
  std::string First() { return kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop()).Get("refresh_token"); }
  Read Refresh(const std::string& token, FormFields fields = {}, const std::string& client = "") {
    fields["grant_type"] = "refresh_token";
    fields["refresh_token"] = token;
    return kit.Token(client.empty() ? kit.planner : client, fields);
  }

  ServiceKit kit;
};

TEST_F(RefreshGrantTest, OnlyATaskHasRefreshTokens) {
  EXPECT_FALSE(First().empty());
  const Read without =
      kit.Exchange(kit.planner, kit.UserToken(), {{"resource", World::kWorkerUri}, {"scope", "work:run"}});
  EXPECT_EQ(without.status, 200);
  EXPECT_FALSE(without.body.contains("refresh_token"));
  const std::string hop = kit.Exchange(kit.worker, kit.FirstToken(), {{"resource", World::kOrdersUri}}).text;
  EXPECT_EQ(hop.find("refresh_token"), std::string::npos);  // later hops get none
}

TEST_F(RefreshGrantTest, RotatesAtEachUse) {
  const std::string first = First();
  const Read second = Refresh(first);
  ASSERT_EQ(second.status, 200) << second.text;
  EXPECT_NE(second.Get("refresh_token"), first);
  const Read third = Refresh(second.Get("refresh_token"));
  EXPECT_EQ(third.status, 200) << third.text;
}

TEST_F(RefreshGrantTest, SurvivesTheRotationOfTheSvid) {  // D.2 item 8
  const std::string first = First();
  Client client = kit.clients.Get(kit.planner);
  client.x5t_s256 = "the next certificate";
  kit.clients.Add(client);
  EXPECT_EQ(Refresh(first).status, 200);
}

TEST_F(RefreshGrantTest, ScopeMayShrinkButNotGrow) {
  const Read narrowed = Refresh(First(), {{"scope", "work:run"}});
  ASSERT_EQ(narrowed.status, 200) << narrowed.text;
  EXPECT_EQ(narrowed.Get("scope"), "work:run");
  const Read wider = Refresh(narrowed.Get("refresh_token"), {{"resource", World::kOtherUri}, {"scope", "x"}});
  EXPECT_EQ(wider.error(), "invalid_target");
}

TEST_F(RefreshGrantTest, AnotherInstanceIsRefused) {
  const std::string first = First();
  EXPECT_EQ(Refresh(first, {}, kit.worker).error(), "invalid_grant");
  Client twin = kit.clients.Get(kit.planner);
  twin.instance = "another-node's";
  kit.clients.Add(twin);
  EXPECT_EQ(Refresh(first).reason(), "instance_mismatch");
}

TEST_F(RefreshGrantTest, ReuseKillsTheFamily) {
  const std::string first = First();
  const std::string second = Refresh(first).Get("refresh_token");
  kit.clock.Advance(absl::Seconds(11));
  const Read again = Refresh(first);
  EXPECT_EQ(again.error(), "invalid_grant");
  EXPECT_EQ(again.reason(), "revoked");
  EXPECT_EQ(Refresh(second).reason(), "revoked");  // the good one is dead too
  const std::vector<Alert> alerts = kit.alerts->List("", 10);
  EXPECT_TRUE(std::any_of(alerts.begin(), alerts.end(), [](const Alert& a) { return a.kind == "refresh-reuse"; }));
}

TEST_F(RefreshGrantTest, AReplayedRequestIsRefusedAndRevokesNothing) {
  const std::string first = First();
  const TokenRequest request =
      kit.RequestOf(kit.planner, {{"grant_type", "refresh_token"}, {"refresh_token", first}});
  const Read second = kit.Send(request);
  ASSERT_EQ(second.status, 200) << second.text;
  kit.clock.Advance(absl::Seconds(11));
  EXPECT_EQ(kit.Send(request).error(), "invalid_dpop_proof");
  EXPECT_EQ(Refresh(second.Get("refresh_token")).status, 200);  // the family lives
}

TEST_F(RefreshGrantTest, T11TheLostAnswerIsGivenAgainForTenSeconds) {
  const std::string first = First();
  const Read lost = Refresh(first);
  ASSERT_EQ(lost.status, 200) << lost.text;
  kit.clock.Advance(absl::Seconds(9));
  const Read again = Refresh(first);
  EXPECT_EQ(again.status, 200) << again.text;
  EXPECT_EQ(again.text, lost.text);                           // the same bytes
  EXPECT_EQ(Refresh(lost.Get("refresh_token")).status, 200);  // and the family lives
}

TEST_F(RefreshGrantTest, T11ToTheSameCertificateOnly) {
  const std::string first = First();
  const Read lost = Refresh(first);
  Client client = kit.clients.Get(kit.planner);
  client.x5t_s256 = "a thief's certificate";
  kit.clients.Add(client);
  EXPECT_EQ(Refresh(first).reason(), "revoked");
}

// Lets another request pass between the first read of a refresh token and what is made of it.
class OvertakenUses final : public TokenUseStore {
 public:
  explicit OvertakenUses(TokenUseStore& store) : store_(store) {}
  void Commit(Consume consume, absl::Time now, StatusCompletion done) override {
    store_.Commit(std::move(consume), now, std::move(done));
  }
  absl::StatusOr<RefreshRecord> GetRefresh(const std::string& hash) override {
    absl::StatusOr<RefreshRecord> record = store_.GetRefresh(hash);
    if (auto overtake = std::exchange(overtake_, nullptr)) overtake();
    return record;
  }
  void PruneUses(absl::Time now, Completion<size_t> done) override { store_.PruneUses(now, std::move(done)); }
  absl::StatusOr<std::vector<AuditRecord>> ReadAudit(const std::string& server_id, uint64_t epoch, uint64_t after_seq,
                                                     size_t limit) override {
    return store_.ReadAudit(server_id, epoch, after_seq, limit);
  }
  absl::StatusOr<std::vector<AuditRecord>> ReadAuditOfChain(const std::string& txn, size_t limit) override {
    return store_.ReadAuditOfChain(txn, limit);
  }
  absl::StatusOr<AuditRecord> LastAudit(const std::string& server_id) override { return store_.LastAudit(server_id); }
  absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> AuditChains() override { return store_.AuditChains(); }
  void Overtake(std::function<void()> overtake) { overtake_ = std::move(overtake); }

 private:
  TokenUseStore& store_;
  std::function<void()> overtake_;
};

class RefreshRaceTest : public RefreshGrantTest {
 protected:
  // Of a request with `token` that read it before `quicker` used it.
  Read Slower(const std::string& token, std::function<void()> quicker) {
    uses.Overtake(std::move(quicker));
    std::promise<TokenAnswer> answer;
    slow->Token(kit.RequestOf(kit.planner, {{"grant_type", "refresh_token"}, {"refresh_token", token}}),
                [&](TokenAnswer a) { answer.set_value(std::move(a)); });
    return ServiceKit::ReadAnswer(answer.get_future().get());
  }

  OvertakenUses uses{*kit.store};
  TokenServiceDeps base = kit.Deps();
  std::unique_ptr<TokenService> slow = MakeTokenService(
      {base.issuer, base.token_endpoint, base.clients, base.registry, base.gate, base.signer, base.audit, uses,
       base.revoker, base.issuer_keys, base.alerts, {}, base.executor, base.clock, base.metrics});
};

TEST_F(RefreshRaceTest, T11TwoAtOnceByTheSameKeyGetOneAnswer) {
  const std::string first = First();
  Read quick;
  const Read late = Slower(first, [&] { quick = Refresh(first); });
  ASSERT_EQ(quick.status, 200) << quick.text;
  EXPECT_EQ(late.text, quick.text);
  EXPECT_EQ(Refresh(quick.Get("refresh_token")).status, 200);  // the family lives
}

TEST_F(RefreshRaceTest, T11TwoAtOnceByDifferentKeysKillTheFamily) {
  const std::string first = First();
  const Client client = kit.clients.Get(kit.planner);
  Read quick;
  const Read late = Slower(first, [&] {
    Client thief = client;
    thief.x5t_s256 = "a thief's certificate";
    kit.clients.Add(thief);
    quick = Refresh(first);
    kit.clients.Add(client);
  });
  ASSERT_EQ(quick.status, 200) << quick.text;
  EXPECT_EQ(late.reason(), "revoked");
  EXPECT_EQ(Refresh(quick.Get("refresh_token")).reason(), "revoked");
}

TEST_F(RefreshGrantTest, T11TheKeptAnswerIsSealed) {
  const std::string first = First();
  const Read lost = Refresh(first);
  const RefreshRecord record = kit.store->GetRefresh(crypto::Sha256(first)).value();
  EXPECT_TRUE(record.used);
  EXPECT_FALSE(record.successor.empty());
  EXPECT_EQ(record.successor.find(lost.token()), std::string::npos);
  EXPECT_EQ(record.successor.find("access_token"), std::string::npos);
}

TEST_F(RefreshGrantTest, T11NotAfterARevocation) {
  const std::string first = First();
  Refresh(first);
  ASSERT_TRUE(kit.Revoke(oauth::EntityKind::kTask, "task-1").ok());
  EXPECT_EQ(Refresh(first).reason(), "revoked");
}

TEST_F(RefreshGrantTest, AfterTheCheckpointTheUserMustAuthorizeAgain) {
  std::string token = First();
  kit.clock.Advance(absl::Minutes(59));
  const Read late = Refresh(token);
  ASSERT_EQ(late.status, 200) << late.text;
  EXPECT_LE(late.body.at("expires_in").as_int64(), 60);
  kit.clock.Advance(absl::Minutes(2));
  const Read over = Refresh(late.Get("refresh_token"));
  EXPECT_EQ(over.error(), "invalid_grant");
  EXPECT_EQ(over.reason(), "reauthorization_required");
}

TEST_F(RefreshGrantTest, WithdrawnRightsShowAtTheNextRefresh) {  // T7
  const std::string first = First();
  kit.Put(UserRightsRecord{.issuer = World::kUserIssuer, .subject = "u-1", .atoms = {}, .at = kit.clock.Now()});
  EXPECT_EQ(Refresh(first).error(), "invalid_scope");
}

TEST_F(RefreshGrantTest, UnknownTokensAreRefused) {
  EXPECT_EQ(Refresh("rt-unknown").error(), "invalid_grant");
  EXPECT_EQ(Refresh("").error(), "invalid_request");
}

TEST_F(RefreshGrantTest, T1TaskAndSessionCannotBeReplaced) {
  EXPECT_EQ(Refresh(First(), {{"session", "s-2"}}).reason(), "session_mismatch");
}

}  // namespace
}  // namespace signet::server
