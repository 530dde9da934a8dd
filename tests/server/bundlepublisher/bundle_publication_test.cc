#include "server/bundlepublisher/bundle_publication.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "common/kubernetes/api_client.h"
#include "common/telemetry/metrics.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What a publisher was given, and what it shall say to it. Outlives the publishers.
struct Board {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<size_t> published;  // authorities in each bundle
  absl::Status answer;
  bool hold = false, cancelled = false;

  void Await(size_t count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return published.size() >= count; });
  }
  void Set(const absl::Status& status) {
    std::lock_guard lock(mutex);
    answer = status;
  }
  void Release() {
    std::lock_guard lock(mutex);
    hold = false;
    changed.notify_all();
  }
  size_t count() {
    std::lock_guard lock(mutex);
    return published.size();
  }
};

class BoardPublisher final : public BundlePublisher {
 public:
  BoardPublisher(Board& board, std::string name) : board_(board), name_(std::move(name)) {}
  std::string name() const override { return name_; }
  absl::Status Publish(const spiffe::Bundle& bundle) override {
    std::unique_lock lock(board_.mutex);
    board_.published.push_back(bundle.x509_authorities.size());
    board_.changed.notify_all();
    board_.changed.wait(lock, [&] { return !board_.hold || board_.cancelled; });
    return board_.cancelled ? absl::CancelledError("cancelled") : board_.answer;
  }
  void Cancel() override {
    std::lock_guard lock(board_.mutex);
    board_.cancelled = true;
    board_.changed.notify_all();
  }

 private:
  Board& board_;
  const std::string name_;
};

class BundlePublicationTest : public ::testing::Test {
 protected:
  void Begin(size_t boards = 1) {
    BundlePublishers publishers;
    for (size_t i = 0; i < boards; ++i) {
      publishers.push_back(std::make_unique<BoardPublisher>(boards_[i], "board " + std::to_string(i)));
    }
    publication_ = std::make_unique<BundlePublication>(td_, *index_, std::move(publishers), health_, metrics_, clock_);
  }
  // The bundle becomes one with `authorities` of them.
  void Change(size_t authorities) {
    auto bundle = std::make_shared<spiffe::Bundle>(spiffe::Bundle{.trust_domain = td_});
    while (roots_.size() < authorities) {
      roots_.push_back(testing::SelfSigned(testing::CaTemplate("root", clock_.Now())).certificate);
    }
    for (size_t i = 0; i < authorities; ++i) bundle->x509_authorities.push_back({roots_[i]});
    EntryIndex::Update update;
    update.seq = ++seq_;
    update.bundles = {{td_, bundle}};
    index_->Apply(std::move(update));
  }

  const spiffe::TrustDomain td_ = *spiffe::TrustDomain::Parse("td");
  fakes::FakeClock clock_;
  telemetry::Health health_;
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  std::unique_ptr<EntryIndex> index_ = EntryIndex::Create(td_);
  std::vector<crypto::Certificate> roots_;
  uint64_t seq_ = 0;
  Board boards_[2];
  std::unique_ptr<BundlePublication> publication_;
};

TEST_F(BundlePublicationTest, PublishesAtStartOnChangeAndNowAndThen) {
  Board& board = boards_[0];
  Change(1);
  Begin();
  board.Await(1);
  clock_.AwaitRest(1);
  const size_t at_start = board.count();
  Change(2);
  board.Await(at_start + 1);
  EXPECT_EQ(board.published.back(), 2u);
  clock_.AwaitRest(1);
  clock_.Advance(BundlePublication::kAgain + absl::Seconds(1));  // somebody else may have altered it
  board.Await(at_start + 2);
  clock_.AwaitRest(1);
  EXPECT_EQ(metrics_.bundles_published.value(), 2) << "the same again is not counted";
}

TEST_F(BundlePublicationTest, WaitsForTheFirstBundle) {
  Begin();
  clock_.AwaitRest(1);
  EXPECT_EQ(boards_[0].count(), 0u);
  Change(1);
  boards_[0].Await(1);
}

TEST_F(BundlePublicationTest, ChangesThatComeMeanwhileAreOne) {
  Board& board = boards_[0];
  board.hold = true;
  Change(1);
  Begin();
  board.Await(1);
  for (size_t i = 2; i <= 9; ++i) Change(i);
  board.Release();
  board.Await(2);
  clock_.AwaitRest(1);
  EXPECT_EQ(board.count(), 2u);
  EXPECT_EQ(board.published.back(), 9u);
}

TEST_F(BundlePublicationTest, TriesAgainAndSaysWhyItFails) {  // the API server is down
  Board& board = boards_[0];
  board.Set(absl::UnavailableError("nobody listens"));
  Change(1);
  Begin();
  board.Await(1);
  clock_.AwaitRest(1);
  EXPECT_THAT(health_.Json(), HasSubstr("bundle_publisher board 0"));
  EXPECT_THAT(health_.Json(), HasSubstr("nobody listens"));
  EXPECT_TRUE(health_.ready()) << "the server serves all the same";
  EXPECT_GE(metrics_.bundle_publications_failed.value(), 1);
  board.Set(absl::OkStatus());
  const size_t tries = board.count();
  clock_.Advance(BundlePublication::kLongestRetry);
  board.Await(tries + 1);
  clock_.AwaitRest(1);
  EXPECT_THAT(health_.Json(), Not(HasSubstr("nobody listens")));
  EXPECT_EQ(metrics_.bundles_published.value(), 1);
}

TEST_F(BundlePublicationTest, StaysAwayAsLongAsItIsToldTo) {  // 429
  Board& board = boards_[0];
  board.Set(kubernetes::WithRetryAfter(absl::ResourceExhaustedError("429"), absl::Minutes(10)));
  Change(1);
  Begin();
  board.Await(1);
  clock_.AwaitRest(1);
  const size_t tries = board.count();
  clock_.Advance(absl::Minutes(9));
  clock_.AwaitRest(1);
  EXPECT_EQ(board.count(), tries);
  clock_.Advance(absl::Minutes(2));
  board.Await(tries + 1);
}

TEST_F(BundlePublicationTest, OnePublisherWaitsForNoOther) {
  boards_[0].hold = true;
  Change(1);
  Begin(2);
  boards_[0].Await(1);
  boards_[1].Await(1);
  Change(2);
  boards_[1].Await(2);
  publication_.reset();  // ends the one that is held
  EXPECT_TRUE(boards_[0].cancelled);
}

TEST_F(BundlePublicationTest, ItsEndTakesBackWhatItSaid) {
  boards_[0].Set(absl::UnavailableError("nobody listens"));
  Change(1);
  Begin();
  boards_[0].Await(1);
  clock_.AwaitRest(1);
  publication_.reset();
  EXPECT_THAT(health_.Json(), Not(HasSubstr("nobody listens")));
}

}  // namespace
}  // namespace signet::server
