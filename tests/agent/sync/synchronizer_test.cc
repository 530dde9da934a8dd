// The agent's heart against a server in memory: start, follow, rotate, outage, restart, withdrawal, ban.
#include "agent/sync/synchronizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "common/telemetry/metrics.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_server_client.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::StatusIs;

class FakeNodeAttestor final : public NodeAttestor {
 public:
  absl::string_view type() const override { return "test"; }
  absl::StatusOr<std::string> Payload() override { return "evidence"; }
  absl::StatusOr<std::string> Respond(absl::string_view) override {
    return absl::FailedPreconditionError("no challenges");
  }
};

// One life of the agent's process over the files of a folder.
class Life {
 public:
  Life(const std::string& folder, fakes::FakeClock& clock, fakes::FakeServerClient& server, spiffe::Bundle first_trust)
      : cache(Td(), clock, metrics, {}),
        store({folder, Td()}, clock),
        identity(store, Stored(), clock),
        sealed(SealedCache::Open(folder, Td(), clock).value()),
        pushed(clock),
        synchronizer({Td(), cache, server, identity, attestor, sealed.get(), clock, metrics, health,
                      [first_trust] { return first_trust; },
                      [this](absl::Status why) {
                        std::lock_guard lock(mutex);
                        fatal = std::move(why);
                      },
                      &pushed,
                      [this](const std::string& head) {
                        std::lock_guard lock(mutex);
                        heads.push_back(head);
                      }}) {}

  StoredAgent Stored() {
    StoredAgent stored = store.Load().value();
    if (stored.bundle.has_value()) cache.Apply({{}, {}, {*stored.bundle}, {}});
    return stored;
  }
  std::optional<absl::Status> Fatal() {
    std::lock_guard lock(mutex);
    return fatal;
  }
  std::vector<std::string> Held() {
    std::vector<std::string> ids;
    for (const HeldSvid& held : cache.Snapshot().svids) ids.push_back(held.entry->id);
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  std::string SerialOf(const std::string& id) {
    for (const HeldSvid& held : cache.Snapshot().svids) {
      if (held.entry->id == id) return held.svid->leaf().serial();
    }
    return "";
  }

  telemetry::Metrics registry;
  Metrics metrics{registry};
  telemetry::Health health;
  LatestValue<std::unique_ptr<NodeAttestor>> attestor{std::make_unique<FakeNodeAttestor>()};
  MemorySvidCache cache;
  AgentStore store;
  AgentIdentity identity;
  std::unique_ptr<SealedCache> sealed;
  std::mutex mutex;
  std::optional<absl::Status> fatal;
  std::vector<std::string> heads;
  PushedTokens pushed;
  Synchronizer synchronizer;
};

class SynchronizerTest : public ::testing::Test {
 protected:
  void Begin(fakes::FakeServerClient& server) {
    life_.reset();
    life_.emplace(dir_.path(), clock_, server, server.bundle());
    life_->synchronizer.Restore();
    life_->synchronizer.Start();
  }
  void Begin() { Begin(*server_); }
  // A new process over the same files. The server object stays, but its calls were shut down with the old process.
  void Restart(bool server_away) {
    life_.reset();
    auto next = std::make_unique<fakes::FakeServerClient>(clock_);
    next->SetAway(server_away);
    server_ = std::move(next);
    Begin();
  }
  // As after kill -9: the files are what they are at this moment, whatever an orderly end would still write.
  void KillAndRestart() {
    std::map<std::string, std::string> files;
    for (const char* name : {"agent.state", "cache.key", "cache.changes", "cache.sealed"}) {  // as Load() reads them
      if (auto content = fs::ReadFile(dir_.file(name), 1 << 20); content.ok()) files[name] = *std::move(content);
    }
    life_.reset();
    for (const auto& file : std::filesystem::directory_iterator(dir_.path())) std::filesystem::remove(file.path());
    for (const auto& [name, content] : files) SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file(name), content));
    Restart(true);
  }
  // Until nothing happens any more while the clock stands still.
  void Settle() { clock_.AwaitRest(4); }  // sync, mint, seal and the cache's notifier
  template <typename Condition>
  void Eventually(const char* what, Condition condition) {
    Settle();
    ASSERT_TRUE(condition()) << "in vain: " << what;
  }
  template <typename Condition>
  void AdvanceUntil(const char* what, absl::Duration step, Condition condition) {
    for (int steps = 0; steps < 1000; ++steps) {
      Settle();
      if (condition()) return;
      clock_.Advance(step);
    }
    FAIL() << "in vain: " << what;
  }
  std::unique_ptr<SvidCache::Subscription> Want(const std::vector<std::string>& selectors) {
    return life_->cache.Subscribe(Sel(selectors), [this](UpdatePtr update) {
      std::lock_guard lock(mutex_);
      last_ = std::move(update);
    });
  }
  std::vector<std::string> Shown() {
    std::lock_guard lock(mutex_);
    std::vector<std::string> ids;
    if (last_ != nullptr) {
      for (const Identity& identity : last_->identities) ids.push_back(identity.entry->id);
    }
    return ids;
  }
  // What follows while the clock stands still is not sealed, but recorded.
  void AwaitFirstSeal() {
    Eventually("a first seal", [&] { return fs::ReadFile(dir_.file("cache.sealed"), 1 << 20).ok(); });
  }
  bool ready() { return life_->cache.ready(); }

  testing::TempDir dir_;
  fakes::FakeClock clock_;
  std::unique_ptr<fakes::FakeServerClient> server_ = std::make_unique<fakes::FakeServerClient>(clock_);
  std::mutex mutex_;
  UpdatePtr last_;
  std::optional<Life> life_;
};

TEST_F(SynchronizerTest, AttestsSyncsAndMintsWhatIsWanted) {
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  server_->Put(EntryOf("b", {"unix:uid:2"}));
  Begin();
  Eventually("ready", [&] { return ready(); });
  EXPECT_EQ(server_->calls().minted, 0);  // on demand
  auto stream = Want({"unix:uid:1"});
  Eventually("shown", [&] { return Shown() == std::vector<std::string>{"a"}; });
  EXPECT_EQ(server_->calls().minted, 1);
  EXPECT_EQ(server_->calls().attests, 1);
  EXPECT_TRUE(life_->health.ready());
}

TEST_F(SynchronizerTest, AChangeReachesTheStreamWithoutAPoll) {
  Begin();
  Eventually("ready", [&] { return ready(); });
  auto stream = Want({"unix:uid:1"});
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Eventually("created", [&] { return Shown() == std::vector<std::string>{"a"}; });
  server_->Remove("a");
  AdvanceUntil("removed", absl::Milliseconds(10), [&] { return Shown().empty(); });
}

TEST_F(SynchronizerTest, RotatesAtHalfLifeWithAFreshKey) {
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("minted", [&] { return life_->Held() == std::vector<std::string>{"a"}; });
  const std::string key = life_->cache.Snapshot().svids[0].svid->leaf().public_key().spki_der();
  clock_.Advance(absl::Minutes(26));
  AdvanceUntil("rotated", absl::Seconds(30), [&] { return server_->calls().minted == 2; });
  Eventually("kept", [&] { return life_->cache.Snapshot().svids[0].svid->leaf().public_key().spki_der() != key; });
}

TEST_F(SynchronizerTest, TheAgentsOwnSvidIsRenewedAndSurvivesARestart) {
  Begin();
  Eventually("ready", [&] { return ready(); });
  clock_.Advance(absl::Minutes(26));
  AdvanceUntil("renewed", absl::Seconds(30), [&] { return server_->calls().renews == 1; });
  Eventually("in use", [&] { return !life_->identity.Due(); });
  const std::string serial = life_->identity.svid()->leaf().serial();
  Restart(true);
  ASSERT_NE(life_->identity.svid(), nullptr);
  EXPECT_EQ(life_->identity.svid()->leaf().serial(), serial);
  EXPECT_EQ(server_->calls().attests, 0);
}

TEST_F(SynchronizerTest, MintsInBatchesUrgentFirst) {
  for (int i = 0; i < 450; ++i) server_->Put(EntryOf(absl::StrCat("e", i), {"unix:uid:1"}, i));
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("all", [&] { return Shown().size() == 450; });
  for (const auto& batch : server_->calls().batches) EXPECT_LE(batch.size(), 200u);
}

TEST_F(SynchronizerTest, ServerAwayKeepsServingAndCatchesUp) {  // F8
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("shown", [&] { return Shown() == std::vector<std::string>{"a"}; });
  server_->SetAway(true);
  AdvanceUntil("noticed", absl::Milliseconds(10), [&] { return absl::StrContains(life_->health.Json(), "degraded"); });
  clock_.Advance(absl::Minutes(20));
  EXPECT_THAT(Shown(), ElementsAre("a"));
  EXPECT_TRUE(life_->health.ready());
  server_->Put(EntryOf("b", {"unix:uid:1"}, 200));
  server_->SetAway(false);
  AdvanceUntil("caught up", absl::Seconds(1), [&] { return Shown() == std::vector<std::string>{"a", "b"}; });
  Eventually("healthy", [&] { return !absl::StrContains(life_->health.Json(), "degraded"); });
}

TEST_F(SynchronizerTest, RetriesWithBackoffNotInACircle) {
  server_->SetAway(true);
  Begin();
  Eventually("tried", [&] { return server_->calls().attests > 0; });
  for (int i = 0; i < 600; ++i) {
    clock_.Advance(absl::Seconds(1));
    Settle();
  }
  EXPECT_LE(server_->calls().attests, 60);  // 30 s cap, at least half of it
  EXPECT_FALSE(life_->Fatal().has_value());
  EXPECT_FALSE(life_->health.ready());
}

TEST_F(SynchronizerTest, AStreamThatFailsAtOnceIsNotReopenedInACircle) {
  Begin();
  Eventually("ready", [&] { return ready(); });
  server_->SetAway(true);
  const int before = server_->calls().streams;
  for (int i = 0; i < 300; ++i) {
    clock_.Advance(absl::Seconds(1));
    Settle();
  }
  EXPECT_LE(server_->calls().streams - before, 40);
}

TEST_F(SynchronizerTest, ExpiredSvidIsNotServedWhileTheServerIsAway) {  // I6
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  Eventually("ready", [&] { return ready(); });
  auto stream = Want({"unix:uid:1"});
  Eventually("shown", [&] { return Shown() == std::vector<std::string>{"a"}; });
  server_->SetAway(true);
  clock_.Advance(absl::Minutes(61));
  Eventually("dropped", [&] { return life_->cache.counts().x509_svids == 0; });
}

TEST_F(SynchronizerTest, RestartWithTheServerDownServesEveryUnexpiredSvid) {  // F3
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  server_->Put(EntryOf("b", {"unix:uid:2"}));
  Begin();
  AwaitFirstSeal();
  auto one = Want({"unix:uid:1"});
  auto two = Want({"unix:uid:2"});
  Eventually("held", [&] { return life_->Held().size() == 2; });
  const std::string serial = life_->SerialOf("a");
  one.reset();
  two.reset();
  KillAndRestart();      // the clock has not moved: there has been no other seal
  EXPECT_TRUE(ready());  // before any server has answered
  EXPECT_THAT(life_->Held(), ElementsAre("a", "b"));
  clock_.Advance(absl::Minutes(10));
  EXPECT_EQ(life_->SerialOf("a"), serial);
  auto stream = Want({"unix:uid:1"});
  Eventually("served", [&] { return Shown() == std::vector<std::string>{"a"}; });
  EXPECT_TRUE(absl::StrContains(life_->health.Json(), "degraded"));
}

TEST_F(SynchronizerTest, WithdrawnIsDurableBeforeItIsAcknowledged) {  // the removal-resurrection test
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  server_->Put(EntryOf("b", {"unix:uid:1"}, 200));
  Begin();
  AwaitFirstSeal();
  auto stream = Want({"unix:uid:1"});
  Eventually("held", [&] { return life_->Held().size() == 2; });
  server_->Remove("a");
  server_->Await([](const auto& calls) { return calls.last_ack == 3; });
  stream.reset();
  KillAndRestart();
  EXPECT_TRUE(ready());
  EXPECT_THAT(life_->Held(), ElementsAre("b"));
  EXPECT_THAT(life_->cache.MatchingEntries(Sel({"unix:uid:1"})), SizeIs(1));
}

TEST_F(SynchronizerTest, EqualDigestTransfersNothingAndAnotherEpochEverything) {
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  Eventually("ready", [&] { return ready(); });
  EXPECT_THAT(server_->calls().wants, SizeIs(1));
  server_->SetAway(true);
  server_->SetAway(false);
  AdvanceUntil("again", absl::Seconds(1), [&] {
    return server_->calls().streams >= 2 && absl::StrContains(life_->health.Json(), "\"server\":{\"state\":\"ready\"");
  });
  EXPECT_THAT(server_->calls().wants, SizeIs(1));
  server_->NewEpoch();
  AdvanceUntil("listed", absl::Seconds(1), [&] { return server_->calls().wants.size() == 2; });
  EXPECT_THAT(server_->calls().wants[1], IsEmpty());  // the same versions are held already
}

TEST_F(SynchronizerTest, OnlyCompleteWithdraws) {
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  server_->Put(EntryOf("b", {"unix:uid:1"}, 200));
  Begin();
  Eventually("ready", [&] { return ready(); });
  server_->SetAway(true);
  server_->Remove("a");  // while nobody listens
  EXPECT_EQ(life_->cache.counts().entries, 2u);
  server_->SetAway(false);
  AdvanceUntil("withdrawn", absl::Seconds(1), [&] { return life_->cache.counts().entries == 1; });
}

TEST_F(SynchronizerTest, BannedDropsTheSvidAndTheSealAndStops) {  // the ban test
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("held", [&] { return life_->Held().size() == 1; });
  AwaitFirstSeal();
  server_->Notify(SyncMessage::Notice::kBanned);
  Eventually("fatal", [&] { return life_->Fatal().has_value(); });
  EXPECT_THAT(*life_->Fatal(), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("banned")));
  EXPECT_EQ(life_->identity.svid(), nullptr);
  stream.reset();
  life_.reset();
  EXPECT_THAT(fs::ReadFile(dir_.file("cache.sealed"), 1 << 20), StatusIs(absl::StatusCode::kNotFound));
  AgentStore store({dir_.path(), Td()}, clock_);
  EXPECT_FALSE(store.Load()->svid.has_value());
}

TEST_F(SynchronizerTest, BanIsLearntFromARefusedCallToo) {
  Begin();
  Eventually("ready", [&] { return ready(); });
  server_->Refuse(Refusal::kBanned);
  AdvanceUntil("fatal", absl::Seconds(1), [&] { return life_->Fatal().has_value(); });
}

TEST_F(SynchronizerTest, EvictedAttestsAgain) {
  Begin();
  Eventually("ready", [&] { return ready(); });
  server_->Refuse(Refusal::kNotAttested);
  AdvanceUntil("attested", absl::Seconds(1), [&] { return server_->calls().attests == 2; });
  AdvanceUntil("synced", absl::Seconds(1),
               [&] { return absl::StrContains(life_->health.Json(), "\"server\":{\"state\":\"ready\""); });
  EXPECT_FALSE(life_->Fatal().has_value());
}

TEST_F(SynchronizerTest, EvictedWithoutAWayBackStopsAndLeavesNothing) {
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("held", [&] { return life_->Held().size() == 1; });
  server_->RefuseEvidence(absl::InvalidArgumentError("join token is spent"));
  server_->Refuse(Refusal::kNotAttested);
  AdvanceUntil("fatal", absl::Seconds(1), [&] { return life_->Fatal().has_value(); });
  EXPECT_THAT(*life_->Fatal(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("join token")));
  stream.reset();
  life_.reset();
  EXPECT_THAT(fs::ReadFile(dir_.file("cache.sealed"), 1 << 20), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(SynchronizerTest, RefusedFirstAttestationIsTheEnd) {
  server_->RefuseEvidence(absl::PermissionDeniedError("unknown token"));
  Begin();
  Eventually("fatal", [&] { return life_->Fatal().has_value(); });
  EXPECT_THAT(*life_->Fatal(), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("join token")));
}

TEST_F(SynchronizerTest, ClockSteppingBackReissuesNothing) {  // F7: the clock-step test
  for (int i = 0; i < 20; ++i) server_->Put(EntryOf(absl::StrCat("e", i), {"unix:uid:1"}));
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("held", [&] { return life_->Held().size() == 20; });
  for (const absl::Duration step :
       {-absl::Seconds(1), -absl::Minutes(5), -absl::Hours(1), -absl::Hours(24), -absl::Hours(24 * 3652)}) {
    clock_.StepWall(step);
    clock_.Advance(absl::Seconds(5));
    Settle();
  }
  EXPECT_EQ(server_->calls().minted, 20);
  EXPECT_EQ(server_->calls().renews, 0);
  clock_.Advance(absl::Minutes(34));  // half life by the steady clock
  AdvanceUntil("rotated", absl::Seconds(1), [&] { return server_->calls().minted == 40; });
}

TEST_F(SynchronizerTest, TaintReplacesEverythingAtOnce) {
  for (int i = 0; i < 5; ++i) server_->Put(EntryOf(absl::StrCat("e", i), {"unix:uid:1"}));
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("held", [&] { return life_->Held().size() == 5; });
  server_->SetBundle(server_->authority().bundle(true));
  Eventually("replaced", [&] { return server_->calls().minted == 10 && server_->calls().renews == 1; });
  Settle();
  EXPECT_EQ(server_->calls().minted, 10);  // the same key has signed again: no circle
  EXPECT_EQ(server_->calls().renews, 1);
}

TEST_F(SynchronizerTest, AnEntryTheServerWillNotSignForDoesNotHoldUpTheOthers) {
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  server_->Put(EntryOf("bad", {"unix:uid:1"}, 50));
  server_->RefuseEntry("bad");
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("shown", [&] { return Shown() == std::vector<std::string>{"a"}; });
  const int mints = server_->calls().mints;
  clock_.Advance(absl::Seconds(10));
  Settle();
  EXPECT_EQ(server_->calls().mints, mints);  // put off, not asked in a circle
  AdvanceUntil("asked again", absl::Seconds(5), [&] { return server_->calls().mints > mints; });
}

TEST_F(SynchronizerTest, ServerWithoutPushIsPolled) {
  server_->OnlyPolling();
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  auto stream = Want({"unix:uid:1"});
  Eventually("shown", [&] { return Shown() == std::vector<std::string>{"a"}; });
  server_->Put(EntryOf("b", {"unix:uid:1"}, 200));
  AdvanceUntil("created", absl::Seconds(1), [&] { return Shown() == std::vector<std::string>{"a", "b"}; });
  server_->Remove("a");
  AdvanceUntil("removed", absl::Seconds(1), [&] { return Shown() == std::vector<std::string>{"b"}; });
}

// --- what is pushed of access tokens
// ---------------------------------------------------------------------------------

SyncMessage Tokens(TokenUpdate update) {
  SyncMessage message;
  message.kind = SyncMessage::Kind::kTokens;
  message.seq = update.seq;
  message.tokens = std::move(update);
  return message;
}

TEST_F(SynchronizerTest, T4TheTokenStateIsAskedForOnceAWorkloadAsks) {
  Begin();
  server_->Await([](const auto& calls) { return calls.interests == std::vector<bool>{false}; });
  life_->pushed.Want();
  server_->Await([](const auto& calls) { return calls.interests == std::vector<bool>{false, true}; });
  server_->SetAway(true);  // the next stream asks at once
  server_->SetAway(false);
  AdvanceUntil("asked again", absl::Seconds(1), [&] {
    return server_->calls().interests == std::vector<bool>{false, true, true};
  });
}

TEST_F(SynchronizerTest, T4BeatsAndTokenStateReachTheReadersAndAreNotAcknowledged) {
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  server_->Await([](const auto& calls) { return calls.last_ack > 0; });
  const uint64_t acknowledged = server_->calls().last_ack;
  server_->Push(Tokens({.whole = true, .complete = true, .seq = 1000, .issuer = "https://id.example.org"}));
  Eventually("told", [&] { return life_->pushed.Get().seq == 1000; });
  SyncMessage beat;
  beat.kind = SyncMessage::Kind::kHeartbeat;
  beat.seq = 1001;
  clock_.Advance(absl::Seconds(5));
  server_->Push(beat);
  Eventually("told", [&] { return life_->pushed.Get().seq == 1001; });
  EXPECT_EQ(life_->pushed.Get().heartbeat_age, absl::ZeroDuration());
  EXPECT_EQ(server_->calls().last_ack, acknowledged);
}

TEST_F(SynchronizerTest, T10TheLatestAuditHeadIsKept) {
  server_->Put(EntryOf("a", {"unix:uid:1"}));
  Begin();
  server_->Await([](const auto& calls) { return calls.last_ack > 0; });
  SyncMessage head;
  head.kind = SyncMessage::Kind::kAuditHead;
  head.audit_head = "a.b.c";
  server_->Push(head);
  Eventually("told", [&] {
    std::lock_guard lock(life_->mutex);
    return life_->heads == std::vector<std::string>{"a.b.c"};
  });
}

}  // namespace
}  // namespace signet::agent
