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
  // The fetch is done with when its bundle is stored: RefreshNow of nobody comes after it on a busy executor, so look.
  void AwaitSequence(absl::string_view name, uint64_t sequence) {
    const absl::Time end = absl::Now() + absl::Seconds(30);
    while (absl::Now() < end) {
      const absl::StatusOr<spiffe::Bundle> bundle = store_->GetBundle(Name(name));
      if (bundle.ok() && bundle->sequence_number >= sequence) return;
      absl::SleepFor(absl::Milliseconds(2));
    }
    FAIL() << "no bundle with sequence " << sequence;
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
  AwaitSequence("partner.org", 1);
  Rest();
  // It may not have taken note of the result yet; at its next step it has.
  for (int minute = 1; fetches() < 2; ++minute) {
    ASSERT_LT(minute, 5);
    clock_.Advance(absl::Minutes(1));
    Rest();
  }
  AwaitSequence("partner.org", 2);
}

TEST_F(BundleRefresherTest, KeepsTheBundleWhenAFetchFailsAndTriesAgainSoon) {
  Create(Peer("partner.org"));
  AwaitSequence("partner.org", 1);
  SetStatus(absl::UnavailableError("down"));
  EXPECT_THAT(testing::AwaitStatus([&](auto done) { refresher_.RefreshNow(Name("partner.org"), std::move(done)); }),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(SequenceOf("partner.org"), 1u);
}

TEST_F(BundleRefresherTest, AFailureIsTriedAgainBeforeTheInterval) {
  SetStatus(absl::UnavailableError("down"));
  Create(Peer("partner.org"));
  AwaitFetches(1);
  for (int step = 0; fetches() < 2; ++step) {
    ASSERT_LT(step, 100);
    Rest();
    clock_.Advance(absl::Seconds(5));  // the first backoff at most
  }
}

TEST_F(BundleRefresherTest, AChangedEndpointIsFetchedAtOnce) {
  Create(Peer("partner.org"));
  AwaitSequence("partner.org", 1);
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

TEST_F(BundleRefresherTest, RefreshNowFetchesWhatIsNotDue) {
  Create(Peer("partner.org"));
  AwaitSequence("partner.org", 1);
  SIGNET_EXPECT_OK(
      testing::AwaitStatus([&](auto done) { refresher_.RefreshNow(Name("partner.org"), std::move(done)); }));
  EXPECT_EQ(SequenceOf("partner.org"), 2u);
}

}  // namespace
}  // namespace signet::server
