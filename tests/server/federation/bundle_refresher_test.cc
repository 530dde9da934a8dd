#include "server/federation/bundle_refresher.h"

#include <condition_variable>
#include <mutex>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"
#include "tests/testing/test_store.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;

spiffe::TrustDomain Name(absl::string_view name) { return spiffe::TrustDomain::Parse(name).value(); }
FederationRelationship Peer(absl::string_view name, std::string url = "https://a/") {
  return {.trust_domain = Name(name), .bundle_endpoint_url = std::move(url)};
}

TEST(PollIntervalTest, IsAQuarterOfTheHintWithinBounds) {
  EXPECT_EQ(PollInterval(absl::ZeroDuration()), absl::Seconds(75));
  EXPECT_EQ(PollInterval(absl::Seconds(1)), absl::Seconds(15));
  EXPECT_EQ(PollInterval(absl::Minutes(10)), absl::Seconds(150));
  EXPECT_EQ(PollInterval(absl::Hours(1000)), absl::Hours(6));
}

class BundleRefresherTest : public ::testing::Test {
 protected:
  // Answers with `answer_`; each fetch can be waited for.
  absl::StatusOr<spiffe::Bundle> Fetch(const FederationRelationship& peer) {
    std::lock_guard lock(mutex_);
    fetched_.push_back(peer.bundle_endpoint_url);
    changed_.notify_all();
    if (!status_.ok()) return status_;
    spiffe::Bundle bundle{.trust_domain = peer.trust_domain};
    bundle.refresh_hint = absl::Minutes(4);
    bundle.sequence_number = fetched_.size();
    return bundle;
  }
  void AwaitFetches(size_t count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return fetched_.size() >= count; }));
  }
  void Rest() { clock_.AwaitRest(1); }
  size_t fetches() {
    std::lock_guard lock(mutex_);
    return fetched_.size();
  }
  void SetStatus(absl::Status status) {
    std::lock_guard lock(mutex_);
    status_ = std::move(status);
  }
  void Create(FederationRelationship peer) {
    SIGNET_ASSERT_OK(testing::Await<std::vector<FederationResult>>(
        [&](auto done) { store_->CreateFederations({std::move(peer)}, std::move(done)); }));
    refresher_.Reload();
  }
  uint64_t SequenceOf(absl::string_view name) { return store_->GetBundle(Name(name)).value().sequence_number; }
  // Until `count` fetches are over and the worker waits for its next moment.
  void AwaitIdle(size_t count) {
    const absl::Time end = absl::Now() + absl::Seconds(30);
    while (absl::Now() < end) {
      const BundleRefresher::Counts counts = refresher_.counts();
      if (fetches() == count && counts.peers == 1 && counts.fetching == 0) return Rest();
      absl::SleepFor(absl::Milliseconds(1));
    }
    FAIL() << "no end of " << count << " fetches";
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> fetched_;
  absl::Status status_;
  fakes::FakeClock clock_;
  testing::TestStore store_;
  BundleRefresher refresher_{*store_, [this](const FederationRelationship& peer) { return Fetch(peer); }, clock_};
};

TEST_F(BundleRefresherTest, FetchesANewRelationshipAtOnceAndAgainAtAQuarterOfTheHint) {
  Create(Peer("partner.org"));
  AwaitIdle(1);
  EXPECT_EQ(SequenceOf("partner.org"), 1u);
  clock_.Advance(absl::Seconds(59));
  Rest();
  EXPECT_EQ(fetches(), 1u);
  clock_.Advance(absl::Seconds(1));
  AwaitIdle(2);
  EXPECT_EQ(SequenceOf("partner.org"), 2u);
}

TEST_F(BundleRefresherTest, KeepsTheBundleWhenAFetchFailsAndTriesAgainSoon) {
  Create(Peer("partner.org"));
  AwaitIdle(1);
  SetStatus(absl::UnavailableError("down"));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { refresher_.RefreshNow(Name("partner.org"), std::move(done)); }),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(SequenceOf("partner.org"), 1u);
}

TEST_F(BundleRefresherTest, AFailureIsTriedAgainBeforeTheInterval) {
  SetStatus(absl::UnavailableError("down"));
  Create(Peer("partner.org"));
  AwaitIdle(1);
  EXPECT_EQ(refresher_.counts().failing, 1u);
  SetStatus(absl::OkStatus());
  clock_.Advance(absl::Seconds(5));  // the first backoff at most
  AwaitIdle(2);
  EXPECT_EQ(refresher_.counts().failing, 0u);
}

TEST_F(BundleRefresherTest, AChangedEndpointIsFetchedAtOnce) {
  Create(Peer("partner.org"));
  AwaitIdle(1);
  SIGNET_ASSERT_OK(testing::Await<std::vector<FederationResult>>(
      [&](auto done) { store_->UpdateFederations({Peer("partner.org", "https://b/")}, {}, std::move(done)); }));
  refresher_.Reload();
  AwaitFetches(2);
  std::lock_guard lock(mutex_);
  EXPECT_EQ(fetched_.back(), "https://b/");
}

TEST_F(BundleRefresherTest, RefreshNowOfAStrangerIsNotFound) {
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { refresher_.RefreshNow(Name("none.org"), std::move(done)); }),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(fetches(), 0u);
}

TEST_F(BundleRefresherTest, FetchesNothingOnceStopped) {
  Create(Peer("partner.org"));
  AwaitIdle(1);
  refresher_.Stop();
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { refresher_.RefreshNow(Name("partner.org"), std::move(done)); }),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(fetches(), 1u);
}

// What another server wrote to the same database.
TEST_F(BundleRefresherTest, NoticesWhatItIsNotToldWithinAMinute) {
  Rest();
  SIGNET_ASSERT_OK(testing::Await<std::vector<FederationResult>>(
      [&](auto done) { store_->CreateFederations({Peer("partner.org")}, std::move(done)); }));
  clock_.Advance(BundleRefresher::kReread);
  AwaitIdle(1);
}

TEST_F(BundleRefresherTest, RefreshNowFetchesWhatIsNotDue) {
  Create(Peer("partner.org"));
  AwaitIdle(1);
  SIGNET_EXPECT_OK(
      testing::AwaitStatus([&](auto done) { refresher_.RefreshNow(Name("partner.org"), std::move(done)); }));
  EXPECT_EQ(SequenceOf("partner.org"), 2u);
}

}  // namespace
}  // namespace signet::server
