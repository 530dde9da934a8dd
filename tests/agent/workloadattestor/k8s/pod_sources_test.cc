// PodWatch and KubeletPods against a server that speaks HTTPS and does what API servers and kubelets do on bad days.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <fstream>
#include <future>
#include <mutex>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "agent/workloadattestor/k8s/kubelet_pods.h"
#include "agent/workloadattestor/k8s/pod_watch.h"
#include "tests/agent/workloadattestor/k8s/pod_json.h"
#include "tests/fakes/fake_api_server.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using fakes::FakeApiServer;
using ::signet::testing::BookmarkJson;
using ::signet::testing::EventJson;
using ::signet::testing::PodJson;
using ::signet::testing::PodListJson;
using ::signet::testing::StatusIs;
using ::signet::testing::Wanted;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

// A cluster of one node as the test wants it.
class Cluster {
 public:
  Cluster() : server_([this](const FakeApiServer::Request& request) { return Serve(request); }) {}

  FakeApiServer& server() { return server_; }
  void SetPods(std::vector<std::string> pods) {
    std::lock_guard lock(mutex_);
    pods_ = std::move(pods);
  }
  // Answers all requests so, until it is given none.
  void Break(std::optional<FakeApiServer::Answer> answer, bool watches_only = false) {
    std::lock_guard lock(mutex_);
    broken_ = std::move(answer);
    watches_only_ = watches_only;
  }
  // To the watch that is open, or the next one. "": the server ends it.
  void Send(const std::string& event) {
    std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_all();
  }
  int lists() const {
    std::lock_guard lock(mutex_);
    return lists_;
  }
  int watches() const {
    std::lock_guard lock(mutex_);
    return watches_;
  }
  std::string last_path() const {
    std::lock_guard lock(mutex_);
    return last_path_;
  }

 private:
  FakeApiServer::Answer Serve(const FakeApiServer::Request& request) {
    std::lock_guard lock(mutex_);
    last_path_ = request.path;
    const bool watch = absl::StrContains(request.path, "watch=1");
    ++(watch ? watches_ : lists_);
    if (broken_.has_value() && (watch || !watches_only_)) return *broken_;
    if (!watch) return {.body = PodListJson(pods_)};
    return {.stream = [this, number = watches_](FakeApiServer::Stream& stream) {
      for (;;) {
        std::string event;
        {
          std::unique_lock wait(mutex_);
          changed_.wait_for(wait, std::chrono::milliseconds(20),
                            [&] { return !events_.empty() || number != watches_; });
          if (number != watches_) return;  // its client has gone on to another
          if (events_.empty()) {
            if (stopping_) return;
            continue;
          }
          event = events_.front();
          events_.pop_front();
        }
        if (event.empty()) return;
        if (!stream.Send(event)) {
          std::lock_guard back(mutex_);
          events_.push_front(event);
          return;
        }
      }
    }};
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> pods_;
  std::optional<FakeApiServer::Answer> broken_;
  bool watches_only_ = false, stopping_ = false;
  std::deque<std::string> events_;
  int lists_ = 0, watches_ = 0;
  std::string last_path_;
  FakeApiServer server_;

 public:
  ~Cluster() {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
};

class PodSourcesTest : public ::testing::Test {
 protected:
  ~PodSourcesTest() override { source_.reset(); }

  std::unique_ptr<kubernetes::ApiClient> Client() {
    std::ofstream(dir_.file("config")) << cluster_.server().KubeConfig();
    auto client = kubernetes::ApiClient::Create({.kube_config_file = dir_.file("config")});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  void Watch(absl::Duration watch_for = absl::Minutes(3), absl::Duration timeout = absl::Seconds(5)) {
    source_ = std::make_unique<PodWatch>(PodWatch::Options{.node_name = "node1",
                                                           .answer_timeout = timeout,
                                                           .watch_for = watch_for,
                                                           .first_retry = absl::Milliseconds(2),
                                                           .last_retry = absl::Milliseconds(20)},
                                         Client(), index_, clock_, metrics_, health_);
  }
  void AskKubelet(std::unique_ptr<kubernetes::ApiClient> client, absl::Duration timeout = absl::Seconds(5)) {
    source_ = std::make_unique<KubeletPods>(KubeletPods::Options{.node_name = "node1",
                                                                 .timeout = timeout,
                                                                 .fetch_every = absl::Milliseconds(5),
                                                                 .poll_every = absl::Milliseconds(200),
                                                                 .last_retry = absl::Milliseconds(20)},
                                            std::move(client), index_, clock_, metrics_, health_);
  }
  bool Known(int n) {
    std::promise<absl::StatusOr<PodIndex::Hit>> promise;
    auto answer = promise.get_future();
    index_.Find(Wanted(n), true, -absl::InfiniteDuration(), [&](auto hit) { promise.set_value(std::move(hit)); });
    auto hit = answer.get();
    return hit.ok() && hit->pod != nullptr;
  }
  std::future<absl::StatusOr<PodIndex::Hit>> Wait(int n) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<PodIndex::Hit>>>();
    auto future = promise->get_future();
    index_.Find(Wanted(n), true, clock_.Steady() + absl::Seconds(20),
                [promise](auto hit) { promise->set_value(std::move(hit)); });
    return future;
  }
  bool HealthSays(const std::string& text) {
    return Eventually([&] { return absl::StrContains(health_.Json(), text); });
  }

  testing::TempDir dir_;
  SystemClock clock_;
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  telemetry::Health health_;
  Cluster cluster_;
  std::atomic<int> signals_ = 0;
  PodIndex index_{{}, clock_, [this] { ++signals_; }};
  std::unique_ptr<PodSource> source_;
};

TEST_F(PodSourcesTest, ListsThenFollowsTheWatch) {
  cluster_.SetPods({PodJson(1), PodJson(9, "", "another-node")});
  Watch();
  ASSERT_TRUE(Eventually([&] { return health_.ready() && index_.pods() == 1; }));
  EXPECT_TRUE(Known(1));
  EXPECT_FALSE(Known(9));  // whatever the server says
  auto waits = Wait(2);
  cluster_.Send(EventJson("ADDED", PodJson(2, "", "node1", false)));
  cluster_.Send(EventJson("MODIFIED", PodJson(2)));
  SIGNET_EXPECT_OK(waits.get());
  cluster_.Send(EventJson("MODIFIED", PodJson(1, R"("app":"other")")));
  EXPECT_TRUE(Eventually([&] { return signals_ == 2; }));
  cluster_.Send(EventJson("DELETED", PodJson(2)));
  EXPECT_TRUE(Eventually([&] { return index_.pods() == 1; }));
  EXPECT_EQ(cluster_.lists(), 1);
  EXPECT_THAT(cluster_.last_path(),
              AllOf(HasSubstr("fieldSelector=spec.nodeName%3dnode1%2cstatus.phase%21%3dSucceeded%2cstatus.phase"),
                    HasSubstr("allowWatchBookmarks=true"), HasSubstr("resourceVersion=100")));
}

TEST_F(PodSourcesTest, GoesOnWhereItWasWhenAWatchEnds) {
  Watch();
  ASSERT_TRUE(Eventually([&] { return cluster_.watches() == 1; }));
  cluster_.Send(EventJson("ADDED", PodJson(1)));
  cluster_.Send(BookmarkJson("777"));
  ASSERT_TRUE(Eventually([&] { return index_.pods() == 1; }));
  cluster_.Send("");
  ASSERT_TRUE(Eventually([&] { return cluster_.watches() == 2; }));
  EXPECT_THAT(cluster_.last_path(), HasSubstr("resourceVersion=777"));
  EXPECT_EQ(cluster_.lists(), 1);
  EXPECT_EQ(metrics_.pod_source_failures.value(), 0);
}

TEST_F(PodSourcesTest, ListsAnewWhenTheServerHasForgottenThePlace) {  // 410 Gone, both ways it is said
  cluster_.SetPods({PodJson(1)});
  Watch();
  ASSERT_TRUE(Eventually([&] { return index_.pods() == 1; }));
  cluster_.SetPods({PodJson(2)});
  cluster_.Send(EventJson("ERROR", R"({"kind":"Status","code":410,"message":"too old resource version"})"));
  ASSERT_TRUE(Eventually([&] { return Known(2); }));
  EXPECT_FALSE(Known(1));
  ASSERT_TRUE(Eventually([&] { return cluster_.watches() == 2; }));
  cluster_.Break(FakeApiServer::Answer{.status = 410, .body = R"({"kind":"Status","code":410,"message":"gone"})"},
                 true);
  cluster_.Send("");
  ASSERT_TRUE(Eventually([&] { return cluster_.lists() >= 4; }));
  cluster_.SetPods({PodJson(3)});
  cluster_.Break(std::nullopt);
  cluster_.Send(EventJson("ERROR", R"({"kind":"Status","code":410,"message":"too old resource version"})"));
  ASSERT_TRUE(Eventually([&] { return Known(3); }));
}

TEST_F(PodSourcesTest, SaysWhatIsWrongAndKeepsWhatItKnows) {
  cluster_.SetPods({PodJson(1)});
  struct {
    int status;
    std::string body, says;
  } const cases[] = {
      {401, R"({"kind":"Status","message":"Unauthorized"})", "its token is mounted"},
      {403, R"({"kind":"Status","message":"pods is forbidden: cannot list resource pods"})",
       "rights to list and watch"},
      {429, R"({"kind":"Status","message":"slow down"})", "come less often"},
      {500, "oops", "status 500"},
      {503, "", "reachable"},
  };
  // Before the first list the agent is not ready, afterwards it goes on with what it knows.
  cluster_.Break(FakeApiServer::Answer{.status = 403, .body = cases[1].body});
  Watch();
  EXPECT_TRUE(HealthSays("cannot list resource pods"));
  EXPECT_TRUE(HealthSays("rights to list and watch"));
  EXPECT_FALSE(health_.ready());
  cluster_.Break(std::nullopt);
  ASSERT_TRUE(Eventually([&] { return health_.ready(); }));
  for (const auto& c : cases) {
    cluster_.Break(FakeApiServer::Answer{.status = c.status, .body = c.body});
    cluster_.Send("");
    EXPECT_TRUE(HealthSays(c.says)) << c.status << health_.Json();
    EXPECT_TRUE(health_.ready());
    EXPECT_TRUE(Known(1));
    cluster_.Break(std::nullopt);
    EXPECT_TRUE(Eventually([&] { return !absl::StrContains(health_.Json(), "reason"); })) << health_.Json();
  }
  EXPECT_GE(metrics_.pod_source_failures.value(), 5);
}

TEST_F(PodSourcesTest, OutlivesASlowServerADeadOneAndFiftyMebibytes) {
  cluster_.SetPods({PodJson(1)});
  cluster_.Break(FakeApiServer::Answer{.hang = true});
  Watch(absl::Minutes(3), absl::Milliseconds(100));
  EXPECT_TRUE(HealthSays("no answer within"));
  cluster_.Break(FakeApiServer::Answer{.stream = [](FakeApiServer::Stream& stream) {
    const std::string chunk(1 << 20, ' ');
    for (int i = 0; i < 50 && stream.Send(chunk);) ++i;
  }});
  EXPECT_TRUE(HealthSays("larger than") || HealthSays("no answer within"));
  cluster_.Break(std::nullopt);
  ASSERT_TRUE(Eventually([&] { return Known(1); }));
  cluster_.server().CloseConnections();
  cluster_.Send(EventJson("ADDED", PodJson(2)));
  EXPECT_TRUE(Eventually([&] { return Known(2); }));
}

TEST_F(PodSourcesTest, LeavesOutAnOddPodAndNotTheOthers) {
  cluster_.SetPods({R"({"metadata":{"name":"-"}})", PodJson(1)});
  Watch();
  ASSERT_TRUE(Eventually([&] { return index_.pods() == 1; }));
  cluster_.Send(EventJson("ADDED", R"({"metadata":{"name":"-"}})"));
  cluster_.Send("not json\n");
  cluster_.Send(EventJson("ADDED", PodJson(2)));
  EXPECT_TRUE(Eventually([&] { return Known(2); }));
  EXPECT_EQ(cluster_.lists(), 1);
}

TEST_F(PodSourcesTest, WatchesNamespacesAlike) {
  PodIndex index({.namespaces = true}, clock_, nullptr);
  index.Put(testing::MakePod(1));
  const auto label = [&]() -> std::string {
    std::promise<std::string> promise;
    auto answer = promise.get_future();
    index.Find(Wanted(1), true, clock_.Steady(), [&](auto hit) {
      promise.set_value(hit.ok() ? hit->pod->its_namespace->labels[0].second : "not known");
    });
    return answer.get();
  };
  const auto json = [](const std::string& value) {
    return absl::StrCat(R"({"metadata":{"name":"shop","resourceVersion":"7","labels":{"team":")", value, R"("}}})");
  };
  cluster_.SetPods({json("a")});
  source_ = std::make_unique<PodWatch>(PodWatch::Options{.node_name = "node1", .namespaces = true}, Client(), index,
                                       clock_, metrics_, health_);
  EXPECT_TRUE(Eventually([&] { return label() == "a"; }));
  cluster_.Send(EventJson("MODIFIED", json("b")));
  EXPECT_TRUE(Eventually([&] { return label() == "b"; }));
  cluster_.Send(EventJson("ERROR", R"({"kind":"Status","code":410,"message":"too old resource version"})"));
  EXPECT_TRUE(Eventually([&] { return cluster_.lists() == 2; }));
  cluster_.Break(FakeApiServer::Answer{.status = 403, .body = R"({"message":"namespaces is forbidden"})"});
  cluster_.Send("");
  EXPECT_TRUE(HealthSays("turn namespace_labels off"));
  source_.reset();
}

TEST_F(PodSourcesTest, EndsAtOnce) {
  Watch();
  ASSERT_TRUE(Eventually([&] { return cluster_.watches() == 1; }));
  const absl::Time before = absl::Now();
  source_.reset();  // in the middle of a watch
  cluster_.Break(FakeApiServer::Answer{.hang = true});
  Watch();
  EXPECT_TRUE(Eventually([&] { return cluster_.lists() == 2; }));
  source_.reset();  // in the middle of a list
  EXPECT_LT(absl::Now() - before, absl::Seconds(4));
}

TEST_F(PodSourcesTest, AsksTheKubeletOnceForAllWhoWait) {
  cluster_.SetPods({PodJson(1)});
  AskKubelet(Client());
  ASSERT_TRUE(Eventually([&] { return Known(1); }));
  EXPECT_EQ(cluster_.last_path(), "/pods");
  const int before = cluster_.lists();
  std::vector<std::future<absl::StatusOr<PodIndex::Hit>>> waiting;
  for (int i = 0; i < 40; ++i) waiting.push_back(Wait(2));
  source_->Want();
  cluster_.SetPods({PodJson(1), PodJson(2)});
  for (int i = 0; i < 40; ++i) source_->Want();
  for (auto& future : waiting) SIGNET_EXPECT_OK(future.get());
  EXPECT_LT(cluster_.lists() - before, 20);
  cluster_.SetPods({PodJson(2)});
  EXPECT_TRUE(Eventually([&] { return !Known(1); }));
}

TEST_F(PodSourcesTest, RefusesAKubeletThatIsNotThisNodes) {  // F15
  cluster_.SetPods({PodJson(1), PodJson(2, "", "another-node")});
  AskKubelet(Client());
  EXPECT_TRUE(HealthSays("another-node"));
  EXPECT_EQ(index_.pods(), 0u);
  cluster_.Break(FakeApiServer::Answer{.status = 403, .body = "Forbidden"});
  EXPECT_TRUE(HealthSays("nodes/pods"));
  cluster_.Break(std::nullopt);
  cluster_.SetPods({PodJson(1)});
  EXPECT_TRUE(Eventually([&] { return Known(1); }));
}

TEST_F(PodSourcesTest, AKubeletThatHangsOrTalksTooMuchHoldsUpNobodyElse) {  // F15
  cluster_.SetPods({PodJson(1)});
  AskKubelet(Client(), absl::Milliseconds(200));
  ASSERT_TRUE(Eventually([&] { return Known(1); }));
  cluster_.Break(FakeApiServer::Answer{.hang = true});
  EXPECT_TRUE(HealthSays("no answer within"));
  EXPECT_TRUE(Known(1));
  cluster_.Break(FakeApiServer::Answer{.stream = [](FakeApiServer::Stream& stream) {
    const std::string chunk(1 << 20, ' ');
    for (int i = 0; i < 50 && stream.Send(chunk);) ++i;
  }});
  EXPECT_TRUE(Eventually([&] { return metrics_.pod_source_failures.value() >= 3; }));
  EXPECT_TRUE(Known(1));
}

// W8: something else listens where the kubelet should.
TEST_F(PodSourcesTest, RefusesAFakeKubeletWithAnotherCertificate) {
  FakeApiServer fake(
      [](const FakeApiServer::Request&) { return FakeApiServer::Answer{.body = PodListJson({PodJson(1)})}; });
  std::ofstream(dir_.file("token")) << "a-token";
  std::ofstream(dir_.file("ca.crt")) << cluster_.server().ca_pem();
  auto client = kubernetes::ApiClient::Create({.service_account_folder = dir_.path(),
                                               .in_cluster_server = absl::StrCat("https://127.0.0.1:", fake.port()),
                                               .server_name = "localhost"});
  SIGNET_ASSERT_OK(client);
  AskKubelet(*std::move(client));
  EXPECT_TRUE(HealthSays("certificate"));
  EXPECT_EQ(index_.pods(), 0u);
  // The right roots, but the name of another node.
  source_.reset();
  client =
      kubernetes::ApiClient::Create({.service_account_folder = dir_.path(),
                                     .in_cluster_server = absl::StrCat("https://127.0.0.1:", cluster_.server().port()),
                                     .server_name = "node1"});
  SIGNET_ASSERT_OK(client);
  AskKubelet(*std::move(client));
  EXPECT_TRUE(HealthSays("node1"));
  EXPECT_EQ(index_.pods(), 0u);
  // And as it should be.
  source_.reset();
  cluster_.SetPods({PodJson(1)});
  client =
      kubernetes::ApiClient::Create({.service_account_folder = dir_.path(),
                                     .in_cluster_server = absl::StrCat("https://127.0.0.1:", cluster_.server().port()),
                                     .server_name = "localhost"});
  SIGNET_ASSERT_OK(client);
  AskKubelet(*std::move(client));
  EXPECT_TRUE(Eventually([&] { return Known(1); }));
}

}  // namespace
}  // namespace signet::agent
