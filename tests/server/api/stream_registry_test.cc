#include "server/api/stream_registry.h"

#include <future>
#include <string>

#include <gmock/gmock.h>

#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using testing::StatusIs;

class StreamRegistryTest : public ::testing::Test {
 protected:
  StreamRegistryTest() { kit_.Attest(AgentOf("/spire/agent/join_token/a", "1")); }

  // A stream that keeps what it was ended with.
  struct Stream {
    std::promise<absl::Status> promise;
    std::future<absl::Status> ended = promise.get_future();
    std::unique_ptr<StreamRegistry::Handle> handle;
  };
  void Open(Stream& stream, CallerPtr caller, absl::Time deadline = absl::InfiniteFuture()) {
    stream.handle = registry_.Register(
        Method::kSync, std::move(caller), [&stream](const absl::Status& status) { stream.promise.set_value(status); },
        deadline);
  }
  // The registry and the feed applier have done all there was to do and wait.
  void Settle() { kit_.clock.AwaitWaiters(2); }
  static bool Live(const Stream& stream) {
    return stream.ended.wait_for(std::chrono::milliseconds(20)) == std::future_status::timeout;
  }

  const spiffe::Id id_ = IdOf("/spire/agent/join_token/a");
  ApiKit kit_;
  StreamRegistry registry_{kit_.authorizer, kit_.callers, *kit_.index, kit_.clock};
};

TEST_F(StreamRegistryTest, GoesOnWhileItsAuthorityLasts) {
  Stream stream;
  Open(stream, TlsCaller(id_));
  kit_.Create(EntryOf("/app"));  // concerns the agent, not its standing
  EXPECT_TRUE(Live(stream));
  EXPECT_EQ(registry_.size(), 1u);
  stream.handle.reset();
  EXPECT_EQ(registry_.size(), 0u);
}

TEST_F(StreamRegistryTest, EndsOnBan) {
  Stream stream;
  Open(stream, TlsCaller(id_));
  kit_.Ban(id_);
  EXPECT_THAT(stream.ended.get(), StatusIs(absl::StatusCode::kPermissionDenied, ::testing::HasSubstr("banned")));
}

TEST_F(StreamRegistryTest, EndsOnEviction) {
  Stream stream;
  Open(stream, TlsCaller(id_));
  kit_.Delete(id_);
  EXPECT_THAT(stream.ended.get(), StatusIs(absl::StatusCode::kPermissionDenied, ::testing::HasSubstr("not attested")));
}

TEST_F(StreamRegistryTest, EndsOnPurge) {
  Stream stream;
  AgentRecord old = AgentOf("/spire/agent/x509pop/old", "5");
  old.can_reattest = true;
  kit_.Attest(old);
  Open(stream, TlsCaller(old.id, "5"));
  const auto purged = testing::Await<size_t>(
      [&](auto done) { kit_.store->PruneAgents(kit_.clock.Now() + absl::Hours(24), false, 100, std::move(done)); });
  ASSERT_EQ(purged.value(), 1u);
  EXPECT_THAT(stream.ended.get(), StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(StreamRegistryTest, SupersededSerialHasAShortOverlap) {
  Stream stream;
  Open(stream, TlsCaller(id_, "1"));
  kit_.Attest(AgentOf("/spire/agent/join_token/a", "2"));
  EXPECT_TRUE(Live(stream));
  kit_.clock.AwaitWaiters(2);
  kit_.clock.Advance(StreamRegistry::kOverlap - absl::Seconds(1));
  EXPECT_TRUE(Live(stream));
  kit_.clock.AwaitWaiters(2);
  kit_.clock.Advance(absl::Seconds(2));
  EXPECT_THAT(stream.ended.get(), StatusIs(absl::StatusCode::kPermissionDenied, ::testing::HasSubstr("serial")));
}

TEST_F(StreamRegistryTest, EndsAtNotAfter) {
  Stream stream;
  Open(stream, TlsCaller(id_, "1", kit_.clock.Now() + absl::Minutes(10)));
  EXPECT_TRUE(Live(stream));
  for (int minute = 0; minute < 10; ++minute) {
    Settle();
    kit_.clock.Advance(absl::Minutes(1));
  }
  EXPECT_THAT(stream.ended.get(), StatusIs(absl::StatusCode::kPermissionDenied, ::testing::HasSubstr("ended")));
}

TEST_F(StreamRegistryTest, EndsWhenItsChainNoLongerVerifies) {
  Stream stays, ends;
  Open(stays, TlsCaller(id_));
  Settle();
  const auto change_bundle = [&] {
    BundleChange change;
    change.remove_expired_before = kit_.clock.Now();
    change.add_jwt.push_back({.key_id = absl::StrCat("k", absl::ToUnixNanos(absl::Now())),
                              .key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value().public_key(),
                              .expires_at = kit_.clock.Now() + absl::Hours(1)});
    const auto changed = testing::Await<spiffe::Bundle>(
        [&](auto done) { kit_.store->ChangeBundle(Own(), std::move(change), std::move(done)); });
    ASSERT_TRUE(changed.ok());
    kit_.CatchUp();
  };
  change_bundle();
  EXPECT_TRUE(Live(stays));  // another bundle, but its chain still verifies
  kit_.callers.verifies = false;
  change_bundle();
  EXPECT_THAT(stays.ended.get(), StatusIs(absl::StatusCode::kUnauthenticated, ::testing::HasSubstr("bundle")));
}

TEST_F(StreamRegistryTest, EndsAtItsDeadline) {
  Stream stream;
  Open(stream, std::make_shared<Caller>(), kit_.clock.Now() + absl::Seconds(30));
  Settle();
  kit_.clock.Advance(absl::Seconds(30));
  EXPECT_THAT(stream.ended.get(), StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST_F(StreamRegistryTest, ShutdownEndsOldAndNewStreams) {
  Stream before, after;
  Open(before, LocalCaller());
  registry_.FinishAll(absl::UnavailableError("going away"));
  EXPECT_THAT(before.ended.get(), StatusIs(absl::StatusCode::kUnavailable));
  Open(after, LocalCaller());
  EXPECT_THAT(after.ended.get(), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(StreamRegistryTest, AgentKnownToTheDatabaseAloneGoesOn) {
  ApiKit lagging(/*follow=*/false);
  StreamRegistry registry(lagging.authorizer, lagging.callers, *lagging.index, lagging.clock);
  lagging.Attest(AgentOf("/spire/agent/join_token/a", "1"));
  std::promise<absl::Status> promise;
  std::future<absl::Status> ended = promise.get_future();
  const auto handle =
      registry.Register(Method::kSync, TlsCaller(id_), [&](const absl::Status& s) { promise.set_value(s); });
  EXPECT_EQ(ended.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
}

}  // namespace
}  // namespace signet::server
