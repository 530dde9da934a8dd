#include "agent/workloadattestor/k8s/pod_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/agent/workloadattestor/k8s/pod_kit.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::signet::testing::ContainerId;
using ::signet::testing::MakePod;
using ::signet::testing::PodUid;
using ::signet::testing::StatusIs;
using ::signet::testing::Wanted;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Answer = std::future<absl::StatusOr<PodIndex::Hit>>;
constexpr auto kUnavailable = absl::StatusCode::kUnavailable;

class PodIndexTest : public ::testing::Test {
 protected:
  Answer Find(const PodContainer& wanted, bool need_container = true) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<PodIndex::Hit>>>();
    Answer answer = promise->get_future();
    index_.Find(wanted, need_container, clock_.Steady() + absl::Seconds(10),
                [promise](auto hit) { promise->set_value(std::move(hit)); });
    return answer;
  }
  static bool Ready(const Answer& answer) {
    return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  void ExpireAll(std::vector<Answer>& answers) {
    for (int i = 0; i < 1000; ++i) {
      clock_.Advance(absl::Seconds(11));
      bool all = true;
      for (const Answer& a : answers) all &= a.wait_for(std::chrono::milliseconds(5)) == std::future_status::ready;
      if (all) return;
    }
    FAIL() << "nobody ended the wait";
  }

  fakes::FakeClock clock_;
  std::atomic<int> signals_ = 0;
  PodIndex index_{
      {.max_waiting = 6, .max_waiting_per_pod = 3, .deletions_remembered = 2}, clock_, [this] { ++signals_; }};
};

TEST_F(PodIndexTest, FindsAPodAndItsContainerAtOnce) {
  index_.Put(MakePod(1));
  index_.Put(MakePod(2));
  auto hit = Find(Wanted(1)).get();
  SIGNET_ASSERT_OK(hit);
  EXPECT_EQ(hit->pod->pod.name, "web-1");
  EXPECT_EQ(hit->container, &hit->pod->pod.containers[0]);
  hit = Find(Wanted(1), false).get();
  SIGNET_ASSERT_OK(hit);
  EXPECT_EQ(hit->container, nullptr);
  EXPECT_EQ(signals_, 0);
}

TEST_F(PodIndexTest, FindsAPodByItsContainerAlone) {
  index_.Put(MakePod(1));
  auto hit = Find({"", ContainerId(1)}, false).get();
  SIGNET_ASSERT_OK(hit);
  EXPECT_EQ(hit->pod->pod.name, "web-1");
  Answer later = Find({"", ContainerId(2)});
  EXPECT_FALSE(Ready(later));
  index_.Put(MakePod(2));
  SIGNET_EXPECT_OK(later.get());
  kubernetes::Pod liar = MakePod(3);
  liar.containers[0].id = ContainerId(1);
  index_.Put(liar);
  EXPECT_THAT(Find({"", ContainerId(1)}).get(), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("two pods")));
}

TEST_F(PodIndexTest, WaitsForThePodAndThenForItsContainer) {  // the kubelet posts container ids late
  Answer answer = Find(Wanted(1));
  Answer of_pod = Find(Wanted(1), false);
  EXPECT_FALSE(Ready(answer));
  index_.Put(MakePod(2));
  index_.Put(MakePod(1, false));
  EXPECT_FALSE(Ready(answer));
  SIGNET_EXPECT_OK(of_pod.get());
  index_.Put(MakePod(1));
  auto hit = answer.get();
  SIGNET_ASSERT_OK(hit);
  EXPECT_NE(hit->container, nullptr);
  EXPECT_EQ(index_.waiting(), 0u);
}

TEST_F(PodIndexTest, WaitsNoLongerThanItMay) {
  index_.SetTrouble("pods", "the API server answers 403");
  index_.Put(MakePod(2, false));
  std::vector<Answer> answers;
  answers.push_back(Find(Wanted(1)));
  answers.push_back(Find(Wanted(2)));
  ExpireAll(answers);
  EXPECT_THAT(answers[0].get(), StatusIs(kUnavailable, AllOf(HasSubstr(PodUid(1)), HasSubstr("not known"),
                                                             HasSubstr("the API server answers 403"))));
  EXPECT_THAT(answers[1].get(), StatusIs(kUnavailable, HasSubstr(ContainerId(2))));
  EXPECT_EQ(index_.waiting(), 0u);
}

TEST_F(PodIndexTest, BoundsWhoWaits) {
  std::vector<Answer> answers;
  for (int i = 0; i < 3; ++i) answers.push_back(Find(Wanted(1)));
  EXPECT_THAT(Find(Wanted(1)).get(), StatusIs(kUnavailable, HasSubstr(PodUid(1))));
  // Others are not hindered by it.
  index_.Put(MakePod(7));
  SIGNET_EXPECT_OK(Find(Wanted(7)).get());
  for (int i = 2; i < 5; ++i) answers.push_back(Find(Wanted(i)));
  EXPECT_THAT(Find(Wanted(5)).get(), StatusIs(kUnavailable, HasSubstr("too many")));
  index_.Put(MakePod(1));
  for (int i = 0; i < 3; ++i) SIGNET_EXPECT_OK(answers[i].get());
  answers.erase(answers.begin(), answers.begin() + 3);
  EXPECT_FALSE(Ready(Find(Wanted(5))));
  ExpireAll(answers);
}

TEST_F(PodIndexTest, SaysWhatIsOutdated) {
  index_.Put(MakePod(1));
  index_.Put(MakePod(2));
  const KnownPodPtr one = Find(Wanted(1)).get()->pod, two = Find(Wanted(2)).get()->pod;
  kubernetes::Pod same = MakePod(1);
  same.resource_version = "77";
  same.phase = "Running";
  index_.Put(same);
  EXPECT_FALSE(one->outdated);  // nothing a selector is made of
  EXPECT_EQ(signals_, 0);
  same.labels = {{"app", "other"}};
  index_.Put(same);
  EXPECT_TRUE(one->outdated);
  EXPECT_FALSE(two->outdated);  // 250 churning pods are nobody else's concern
  EXPECT_EQ(signals_, 1);
  EXPECT_EQ(Find(Wanted(1)).get()->pod->pod.labels[0].second, "other");
}

TEST_F(PodIndexTest, TellsTheProcessesOfADeletedPodAtOnce) {
  index_.Put(MakePod(1));
  const KnownPodPtr pod = Find(Wanted(1)).get()->pod;
  index_.Delete(MakePod(1));
  EXPECT_TRUE(pod->outdated);
  EXPECT_EQ(signals_, 1);
  auto hit = Find(Wanted(1)).get();
  SIGNET_ASSERT_OK(hit);
  EXPECT_EQ(hit->pod, nullptr);
  // Also those that wait for its container.
  index_.Put(MakePod(2, false));
  Answer waits = Find(Wanted(2));
  index_.Delete(MakePod(2, false));
  EXPECT_EQ(waits.get()->pod, nullptr);
  // Deletions are not remembered without end.
  index_.Delete(MakePod(3));
  EXPECT_FALSE(Ready(Find(Wanted(1))));
}

TEST_F(PodIndexTest, ReplacesAllByAList) {
  for (int i = 1; i <= 3; ++i) index_.Put(MakePod(i));
  const KnownPodPtr one = Find(Wanted(1)).get()->pod, two = Find(Wanted(2)).get()->pod,
                    three = Find(Wanted(3)).get()->pod;
  Answer four = Find(Wanted(4));
  kubernetes::Pod changed = MakePod(2);
  changed.labels.clear();
  index_.Replace({MakePod(1), changed, MakePod(4)});
  EXPECT_FALSE(one->outdated);
  EXPECT_TRUE(two->outdated);
  EXPECT_TRUE(three->outdated);
  EXPECT_EQ(signals_, 1);  // for all of it
  EXPECT_EQ(Find(Wanted(3)).get()->pod, nullptr);
  SIGNET_EXPECT_OK(four.get());
  EXPECT_EQ(index_.pods(), 3u);
}

TEST_F(PodIndexTest, KnowsStaticPodsByTheirHash) {
  const std::string hash(32, '4');
  kubernetes::Pod mirror = MakePod(1);
  mirror.static_uid = hash;
  index_.Put(mirror);
  // Its container must be the one: anybody may write such an annotation.
  SIGNET_EXPECT_OK(Find({hash, ContainerId(1)}, false).get());
  Answer other = Find({hash, ContainerId(9)}, false);
  EXPECT_FALSE(Ready(other));
  // A mirror that is made anew is not ended by the end of the old one.
  kubernetes::Pod anew = mirror;
  anew.uid = PodUid(2);
  index_.Put(anew);
  index_.Delete(mirror);
  EXPECT_NE(Find({hash, ContainerId(1)}).get()->pod, nullptr);
  index_.Delete(anew);
  EXPECT_EQ(Find({hash, ContainerId(1)}).get()->pod, nullptr);
}

// A pod that names another's uid as the one it runs under does not take its place.
TEST_F(PodIndexTest, NoAnnotationTakesAnotherPodsPlace) {
  index_.Put(MakePod(1));
  kubernetes::Pod liar = MakePod(2);
  liar.namespace_name = "evil";
  liar.static_uid = PodUid(1);
  index_.Put(liar);
  EXPECT_EQ(Find(Wanted(1)).get()->pod->pod.namespace_name, "shop");
  EXPECT_EQ(Find(Wanted(2)).get()->pod->pod.namespace_name, "evil");
}

// Who may create pods can call one the mirror of any static pod. Its processes neither become that pod's nor lose what
// they are, whether the liar comes, changes or goes.
TEST_F(PodIndexTest, NoAnnotationTakesAStaticPodsPlace) {
  const std::string hash(32, '4');
  kubernetes::Pod mirror = MakePod(1), liar = MakePod(2, false);
  mirror.static_uid = liar.static_uid = hash;
  liar.namespace_name = "evil";
  index_.Put(mirror);
  const KnownPodPtr before = Find({hash, ContainerId(1)}).get()->pod;
  const auto still_the_mirrors = [&] {
    Answer answer = Find({hash, ContainerId(1)});
    if (!Ready(answer)) return false;
    auto hit = answer.get();
    return hit.ok() && hit->pod == before;
  };
  index_.Put(liar);
  EXPECT_TRUE(still_the_mirrors());
  liar.labels.clear();
  index_.Put(liar);
  EXPECT_TRUE(still_the_mirrors());
  index_.Delete(liar);
  EXPECT_TRUE(still_the_mirrors());
  index_.Replace({liar, mirror});
  EXPECT_TRUE(still_the_mirrors());
  EXPECT_FALSE(before->outdated);
  // Were its status to claim the container too, nobody is believed.
  liar.containers[0].id = ContainerId(1);
  index_.Put(liar);
  EXPECT_THAT(Find({hash, ContainerId(1)}).get().status(), StatusIs(absl::StatusCode::kPermissionDenied));
  index_.Replace({mirror});
  EXPECT_TRUE(still_the_mirrors());
}

TEST_F(PodIndexTest, APodThatHasEndedIsNone) {
  index_.Put(MakePod(1));
  const KnownPodPtr pod = Find(Wanted(1)).get()->pod;
  kubernetes::Pod ended = MakePod(1);
  ended.phase = "Failed";
  index_.Put(ended);
  EXPECT_TRUE(pod->outdated);
  EXPECT_EQ(signals_, 1);
  EXPECT_EQ(Find(Wanted(1)).get()->pod, nullptr);
  index_.Put(MakePod(2));
  ended = MakePod(2);
  ended.phase = "Succeeded";
  index_.Replace({ended});
  EXPECT_EQ(Find(Wanted(2)).get()->pod, nullptr);
  EXPECT_EQ(index_.pods(), 0u);
}

TEST_F(PodIndexTest, APodThatSaysTooMuchIsRefusedAtOnce) {
  index_.Put(MakePod(1));
  const KnownPodPtr before = Find(Wanted(1)).get()->pod;
  kubernetes::Pod large = MakePod(1, false);
  large.too_large = true;
  index_.Put(large);
  EXPECT_TRUE(before->outdated);
  EXPECT_THAT(Find(Wanted(1)).get().status(), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("larger than")));
  EXPECT_THAT(Find(Wanted(1), false).get().status(), StatusIs(absl::StatusCode::kPermissionDenied));
  index_.Put(MakePod(1));
  SIGNET_EXPECT_OK(Find(Wanted(1)).get());
}

// The same name is not the same pod.
TEST_F(PodIndexTest, APodMadeAnewUnderItsNameIsAnother) {
  kubernetes::Pod old = MakePod(1), anew = MakePod(2);
  anew.name = old.name;
  anew.labels = {{"app", "other"}};
  index_.Put(old);
  const KnownPodPtr before = Find(Wanted(1)).get()->pod;
  index_.Delete(old);
  index_.Put(anew);
  EXPECT_TRUE(before->outdated);
  EXPECT_EQ(Find(Wanted(1)).get()->pod, nullptr);
  EXPECT_EQ(Find(Wanted(2)).get()->pod->pod.labels[0].second, "other");
}

TEST(PodIndexNamespacesTest, APodIsKnownOnlyWithItsNamespace) {
  fakes::FakeClock clock;
  int signals = 0;
  PodIndex index({.namespaces = true}, clock, [&] { ++signals; });
  std::vector<PodIndex::Hit> hits;
  const auto find = [&] {
    index.Find(Wanted(1), true, clock.Steady() + absl::Seconds(10), [&](auto hit) {
      SIGNET_ASSERT_OK(hit);
      hits.push_back(*hit);
    });
  };
  index.Put(MakePod(1));
  find();
  EXPECT_TRUE(hits.empty());
  index.PutNamespace({"other", {{"team", "x"}}});
  EXPECT_TRUE(hits.empty());
  index.ReplaceNamespaces({{"shop", {{"team", "a"}}}});
  ASSERT_EQ(hits.size(), 1u);
  EXPECT_EQ(hits[0].pod->its_namespace->labels[0].second, "a");
  signals = 0;
  index.PutNamespace({"shop", {{"team", "a"}}});
  EXPECT_FALSE(hits[0].pod->outdated);
  index.PutNamespace({"shop", {{"team", "b"}}});
  EXPECT_TRUE(hits[0].pod->outdated);
  EXPECT_EQ(signals, 1);
  find();
  ASSERT_EQ(hits.size(), 2u);
  EXPECT_EQ(hits[1].pod->its_namespace->labels[0].second, "b");
  kubernetes::Pod changed = MakePod(1);
  changed.labels.clear();
  index.Put(changed);
  find();
  EXPECT_EQ(hits[2].pod->its_namespace->labels[0].second, "b");
  index.DeleteNamespace("shop");
  EXPECT_TRUE(hits[2].pod->outdated);
}

TEST_F(PodIndexTest, AnswersWhoWaitsWhenItGoes) {
  fakes::FakeClock clock;
  auto index = std::make_unique<PodIndex>(PodIndex::Options{}, clock, nullptr);
  absl::Status status;
  index->Find(Wanted(1), true, absl::InfiniteDuration(), [&](auto hit) { status = hit.status(); });
  index.reset();
  EXPECT_THAT(status, StatusIs(kUnavailable));
}

}  // namespace
}  // namespace signet::agent
