// What an agent is told of the token service. T4: it may answer locally only from a state that is whole and of a known
// position; T10: it keeps the audit head.
#include "server/sync/token_updates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "tests/fakes/fake_clock.h"

namespace signet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr size_t kNoLimit = 512 * 1024;

// Resources and revocations in the test's hands; the rest of the registry is empty.
class FakeRegistry final : public TokenRegistry {
 public:
  void Put(const std::string& uri, size_t tools = 1) {
    auto resource = std::make_shared<ResourceRecord>();
    resource->uri = uri;
    resource->servers = {"spiffe://td/agent/tools"};
    for (size_t i = 0; i < tools; ++i) {
      resource->tools.push_back({.name = absl::StrCat("tool", i), .hash = "h", .risk = oauth::Risk::kLow});
    }
    resources_[uri] = std::move(resource);
    Changed({.resources = {uri}});
  }
  void Remove(const std::string& uri) {
    resources_.erase(uri);
    Changed({.resources = {uri}});
  }
  void Revoke(const std::string& jti) {
    const oauth::Revocation revocation{.kind = oauth::EntityKind::kToken, .entity = jti, .seq = seq_ + 1};
    all_.push_back(revocation);
    Changed({.revocations = {revocation}});
  }
  void Forget() {
    all_.clear();
    Changed({});
  }
  void Other() { Changed({}); }  // a change of something else

  uint64_t seq() const override { return seq_; }
  std::shared_ptr<const ResourceRecord> FindResource(const std::string& uri) const override {
    const auto it = resources_.find(uri);
    return it == resources_.end() ? nullptr : it->second;
  }
  std::shared_ptr<const oauth::RevocationSet> revocations() const override {
    return std::make_shared<const oauth::RevocationSet>(all_);
  }
  std::vector<std::shared_ptr<const ResourceRecord>> Resources() const override {
    std::vector<std::shared_ptr<const ResourceRecord>> all;
    for (const auto& [_, resource] : resources_) all.push_back(resource);
    return all;
  }
  std::unique_ptr<Subscription> Subscribe(Listener on_change) override {
    listener_ = std::move(on_change);
    return std::make_unique<Subscription>();
  }
  std::shared_ptr<const IdentityRecord> FindIdentity(const std::string&) const override { return nullptr; }
  std::shared_ptr<const IdentityRecord> IdentityOf(const std::string&) const override { return nullptr; }
  std::shared_ptr<const IssuerRecord> FindIssuer(const std::string&) const override { return nullptr; }
  std::shared_ptr<const GrantRecord> FindGrant(const std::string&) const override { return nullptr; }
  std::vector<std::shared_ptr<const GrantRecord>> GrantsOf(const std::string&, const std::string&,
                                                           const std::string&) const override {
    return {};
  }
  std::shared_ptr<const TaskRecord> FindTask(const std::string&) const override { return nullptr; }
  std::shared_ptr<const UserRightsRecord> FindUserRights(const std::string&, const std::string&) const override {
    return nullptr;
  }
  absl::Status LoadAll(DataStore&, uint64_t) override { return absl::OkStatus(); }
  absl::Status Apply(DataStore&, const std::vector<Change>&, uint64_t) override { return absl::OkStatus(); }

 private:
  void Changed(ChangeNote note) {
    note.seq = ++seq_;
    if (listener_) listener_(note);
  }
  uint64_t seq_ = 10;
  std::map<std::string, std::shared_ptr<const ResourceRecord>> resources_;
  std::vector<oauth::Revocation> all_;
  Listener listener_;
};

class FakeSigner final : public TokenSigner {
 public:
  void SetKeys(const std::vector<std::string>& kids) {
    auto keys = std::make_shared<oauth::Keys>();
    for (const std::string& kid : kids) keys->emplace(kid, key_.public_key());
    MutexLock lock(mutex_);
    keys_ = std::move(keys);
  }
  absl::StatusOr<std::string> SignToken(const oauth::AccessToken&) override { return absl::UnimplementedError(""); }
  absl::StatusOr<std::string> SignReceipt(const oauth::Receipt&) override { return absl::UnimplementedError(""); }
  absl::StatusOr<std::string> SignRecord(absl::string_view, absl::string_view) override {
    return absl::UnimplementedError("");
  }
  std::shared_ptr<const oauth::Keys> token_keys() const override {
    MutexLock lock(mutex_);
    return keys_;
  }
  std::shared_ptr<const oauth::Keys> receipt_keys() const override { return token_keys(); }
  std::string active_kid() const override { return "k1"; }
  absl::Time active_not_after() const override { return absl::InfiniteFuture(); }

 private:
  const crypto::PrivateKey key_ = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  mutable Mutex mutex_;
  std::shared_ptr<const oauth::Keys> keys_ = std::make_shared<const oauth::Keys>();
};

class TokenUpdatesTest : public ::testing::Test {
 protected:
  TokenUpdatesTest() { signer_.SetKeys({"k1"}); }

  void Make(TokenUpdates::Options options = {}) {
    options.issuer = "https://id.example.org";
    options.introspection_endpoint = "https://id.example.org/oauth2/introspect";
    options.offline_grace = absl::Seconds(7);
    updates_ = std::make_unique<TokenUpdates>(options, registry_, signer_, clock_);
  }
  // An agent's stream; kept as the service keeps it.
  struct Stream {
    explicit Stream(TokenUpdates& updates) : waiting(&updates) {
      subscription = updates.Subscribe([this](const TokenUpdates::Note& note) {
        MutexLock lock(mutex);
        waiting.OnNote(note);
        beats += note.beat;
      });
    }
    void Want(bool wanted = true) {
      subscription->SetInterested(wanted);
      MutexLock lock(mutex);
      waiting.OnInterest(wanted);
    }
    std::vector<v1::ServerMessage> Take(size_t max_bytes = kNoLimit) {
      MutexLock lock(mutex);
      std::vector<v1::ServerMessage> messages;
      v1::ServerMessage message;
      while (waiting.Next(max_bytes, message)) messages.push_back(std::exchange(message, {}));
      return messages;
    }
    bool Beaten(int times) {
      MutexLock lock(mutex);
      return beats >= times;
    }
    Mutex mutex;
    WaitingTokens waiting;
    int beats = 0;
    std::unique_ptr<TokenUpdates::Subscription> subscription;
  };
  // Has the beating thread beat once more.
  // Interest calls for a beat at once: it is over on return, and the next one comes when the clock moves.
  void Want(Stream& stream) {
    stream.Want();
    clock_.AwaitRest(1);
  }
  void BeatOnce(Stream& stream) {
    int before;
    {
      MutexLock lock(stream.mutex);
      before = stream.beats;
    }
    while (!stream.Beaten(before + 1)) {
      clock_.AwaitWaiters(1);
      clock_.Advance(absl::Seconds(1));
    }
  }

  fakes::FakeClock clock_;
  FakeRegistry registry_;
  FakeSigner signer_;
  std::unique_ptr<TokenUpdates> updates_;
};

// What the agent holds after `messages`; checks how they follow each other.
struct Held {
  std::map<std::string, v1::TokenResource> resources;
  std::map<std::string, v1::TokenRevocation> revocations;
  std::vector<std::string> kids;
  uint64_t seq = 0;
  bool truncated = false;

  void On(const std::vector<v1::ServerMessage>& messages) {
    for (const v1::ServerMessage& message : messages) {
      seq = std::max(seq, message.seq());
      if (!message.has_token_state()) continue;
      const v1::TokenState& state = message.token_state();
      EXPECT_EQ(state.complete(), message.seq() > 0) << "a position is reached with the last message alone";
      if (state.whole() || state.truncated()) *this = {.seq = message.seq(), .truncated = state.truncated()};
      for (const auto& r : state.revocations()) revocations[r.entity()] = r;
      for (const auto& r : state.resources()) resources[r.uri()] = r;
      for (const auto& uri : state.removed_resources()) resources.erase(uri);
      if (!state.token_keys().empty()) kids.clear();
      for (const auto& key : state.token_keys()) kids.push_back(key.kid());
    }
  }
};

TEST_F(TokenUpdatesTest, WhoOnlyAsksWhereIsToldNoState) {
  registry_.Put("https://a");
  Make();
  Stream stream(*updates_);
  EXPECT_THAT(stream.Take(), IsEmpty());
  stream.Want(false);
  const auto messages = stream.Take();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].token_state().issuer(), "https://id.example.org");
  EXPECT_FALSE(messages[0].token_state().whole());
  EXPECT_EQ(messages[0].seq(), 0u);
  registry_.Put("https://b");
  EXPECT_THAT(stream.Take(), IsEmpty());
}

TEST_F(TokenUpdatesTest, T4TheWholeStateThenItsPosition) {
  registry_.Put("https://a");
  registry_.Revoke("t1");
  Make();
  Stream stream(*updates_);
  Want(stream);
  Held held;
  const auto messages = stream.Take();
  held.On(messages);
  EXPECT_TRUE(messages.front().token_state().whole());
  EXPECT_EQ(messages.front().token_state().offline_grace_ms(), 7000u);  // T4: it is the server's to say
  EXPECT_TRUE(messages.back().has_heartbeat());
  EXPECT_EQ(held.seq, 12u);
  EXPECT_THAT(held.resources, SizeIs(1));
  EXPECT_EQ(held.resources["https://a"].tools(0).risk(), 1u);
  EXPECT_EQ(held.resources["https://a"].minimum_binding(), 2u);
  EXPECT_EQ(held.revocations["t1"].seq(), 12u);
  EXPECT_THAT(held.kids, ElementsAre("k1"));
}

TEST_F(TokenUpdatesTest, EachChangeIsToldAndRevocationsComeFirst) {
  registry_.Put("https://a");
  Make();
  Stream stream(*updates_);
  Want(stream);
  Held held;
  held.On(stream.Take());
  registry_.Put("https://b", 100);
  registry_.Put("https://b", 2);
  registry_.Remove("https://a");
  for (int i = 0; i < 6; ++i) registry_.Revoke(absl::StrCat("t", i));
  const auto messages = stream.Take(70);
  ASSERT_GE(messages.size(), 2u);
  EXPECT_THAT(messages.front().token_state().revocations(), SizeIs(5));
  EXPECT_THAT(messages.front().token_state().resources(), IsEmpty());
  EXPECT_THAT(messages.back().token_state().resources(0).tools(), SizeIs(2));
  held.On(messages);
  EXPECT_EQ(held.seq, registry_.seq());
  EXPECT_THAT(held.resources, SizeIs(1));
}

TEST_F(TokenUpdatesTest, T4ABeatSaysTheServersPositionAndComesOnlyWhenNothingWaits) {
  Make();
  Stream stream(*updates_);
  Want(stream);
  stream.Take();
  registry_.Other();
  EXPECT_THAT(stream.Take(), IsEmpty());
  BeatOnce(stream);
  auto messages = stream.Take();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_TRUE(messages[0].has_heartbeat());
  EXPECT_EQ(messages[0].seq(), registry_.seq());

  registry_.Revoke("t1");
  BeatOnce(stream);
  messages = stream.Take();
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_TRUE(messages[0].has_token_state());
  EXPECT_TRUE(messages[1].has_heartbeat());
}

TEST_F(TokenUpdatesTest, WhatChangesWhileTheWholeIsSentIsToldAfterIt) {
  for (int i = 0; i < 20; ++i) registry_.Put(absl::StrCat("https://", i));
  Make();
  Stream stream(*updates_);
  Want(stream);
  Held held;
  v1::ServerMessage first;
  {
    MutexLock lock(stream.mutex);
    ASSERT_TRUE(stream.waiting.Next(200, first));
  }
  held.On({first});
  registry_.Revoke("t1");
  registry_.Remove("https://7");
  registry_.Put("https://8", 3);
  const auto rest = stream.Take(200);
  EXPECT_GT(rest.size(), 5u);
  for (const auto& message : rest) EXPECT_LT(message.ByteSizeLong(), 400u);
  held.On(rest);
  EXPECT_THAT(held.resources, SizeIs(19));
  EXPECT_THAT(held.resources["https://8"].tools(), SizeIs(3));
  EXPECT_TRUE(held.revocations.contains("t1"));
  EXPECT_EQ(held.seq, registry_.seq());
}

TEST_F(TokenUpdatesTest, T4OverTheCapNothingIsToldInPart) {
  registry_.Put("https://a");
  Make({.max_revocations = 2});
  Stream stream(*updates_);
  Want(stream);
  Held held;
  held.On(stream.Take());
  for (const char* jti : {"t1", "t2", "t3"}) registry_.Revoke(jti);
  const auto messages = stream.Take();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_TRUE(messages[0].token_state().truncated());
  EXPECT_THAT(messages[0].token_state().revocations(), IsEmpty());
  EXPECT_EQ(messages[0].seq(), 0u);
  BeatOnce(stream);
  EXPECT_THAT(stream.Take(), IsEmpty()) << "no heartbeat without a state";

  registry_.Forget();
  held.On(stream.Take());
  EXPECT_FALSE(held.truncated);
  EXPECT_THAT(held.resources, SizeIs(1));
  EXPECT_EQ(held.seq, registry_.seq());
}

TEST_F(TokenUpdatesTest, KeysAreToldWhenTheyChange) {
  Make();
  Stream stream(*updates_);
  Want(stream);
  Held held;
  BeatOnce(stream);
  held.On(stream.Take());
  signer_.SetKeys({"k1", "k2"});
  BeatOnce(stream);
  held.On(stream.Take());
  EXPECT_THAT(held.kids, ElementsAre("k1", "k2"));
}

TEST_F(TokenUpdatesTest, T10TheAuditHeadGoesToEveryAgent) {
  Make();
  updates_->SetHead("head1");
  Stream idle(*updates_), interested(*updates_);
  Want(interested);
  for (Stream* stream : {&idle, &interested}) {
    std::vector<std::string> heads;
    for (const auto& message : stream->Take()) {
      if (message.has_audit_head()) heads.push_back(message.audit_head().head());
    }
    EXPECT_THAT(heads, ElementsAre("head1"));
  }
  updates_->SetHead("head2");
  updates_->SetHead("head3");
  const auto messages = idle.Take();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].audit_head().head(), "head3");
}

TEST_F(TokenUpdatesTest, WhoIsNoLongerInterestedIsToldNothing) {
  Make();
  Stream stream(*updates_);
  Want(stream);
  stream.Take();
  stream.Want(false);
  stream.Take();
  registry_.Revoke("t1");
  EXPECT_THAT(stream.Take(), IsEmpty());
}

TEST(WaitingTokensTest, WithoutATokenServiceNothingIsTold) {
  WaitingTokens waiting(nullptr);
  waiting.OnInterest(true);
  v1::ServerMessage message;
  EXPECT_FALSE(waiting.Next(kNoLimit, message));
}

}  // namespace
}  // namespace signet::server
