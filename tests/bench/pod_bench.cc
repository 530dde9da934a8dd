// The attestor for pods by itself, in this process: what it adds to an attestation from a warm index, what 250 churning
// pods cost, and how long after the API server's event a waiting process is attested. The event comes over HTTPS from a
// server of the test's; the process is this one, with the cgroup of a pod in its facts.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <fstream>
#include <future>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/workloadattestor/attestation.h"
#include "agent/workloadattestor/k8s.h"
#include "agent/workloadattestor/k8s/pod_watch.h"
#include "agent/workloadattestor/unix.h"
#include "common/log/log.h"
#include "tests/agent/workloadattestor/k8s/pod_json.h"
#include "tests/bench/measure.h"
#include "tests/fakes/fake_api_server.h"
#include "tests/testing/temp_dir.h"

namespace signet::bench {
namespace {

using namespace agent;  // NOLINT
using ::signet::testing::ContainerId;
using ::signet::testing::EventJson;
using ::signet::testing::PodJson;
using ::signet::testing::PodUid;

constexpr int kPods = 250;

// This process, in a pod's cgroup.
class PodProcess final : public PeerProcess {
 public:
  PodProcess(std::shared_ptr<const PeerProcess> real, int pod) : real_(std::move(real)), pod_(pod) {}
  pid_t pid() const override { return real_->pid(); }
  uid_t uid() const override { return real_->uid(); }
  gid_t gid() const override { return real_->gid(); }
  uint64_t cgroup_key() const override { return static_cast<uint64_t>(pod_); }
  absl::StatusOr<Facts> ReadFacts() const override {
    absl::StatusOr<Facts> facts = real_->ReadFacts();
    if (facts.ok()) {
      facts->other_cgroups.clear();
      facts->cgroup = absl::StrCat("/kubepods/burstable/pod", PodUid(pod_), "/", ContainerId(pod_));
    }
    return facts;
  }
  absl::Status StillTheSame(const Facts& before) const override { return real_->StillTheSame(before); }
  bool alive() const override { return real_->alive(); }
  absl::StatusOr<int> OpenExecutable() const override { return real_->OpenExecutable(); }

 private:
  const std::shared_ptr<const PeerProcess> real_;
  const int pod_;
};

// One node's API server: lists kPods pods, then sends what it is told to.
class Server {
 public:
  Server() : server_([this](const fakes::FakeApiServer::Request& request) { return Serve(request); }) {}
  ~Server() { Send(""); }
  std::string KubeConfig() { return server_.KubeConfig(); }
  void Send(const std::string& event) {
    std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_all();
  }

 private:
  fakes::FakeApiServer::Answer Serve(const fakes::FakeApiServer::Request& request) {
    if (!absl::StrContains(request.path, "watch=1")) {
      std::vector<std::string> pods;
      for (int i = 0; i < kPods; ++i) pods.push_back(PodJson(i));
      return {.body = testing::PodListJson(pods)};
    }
    return {.stream = [this](fakes::FakeApiServer::Stream& stream) {
      for (;;) {
        std::string event;
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock, [&] { return !events_.empty(); });
          event = std::move(events_.front());
          events_.pop_front();
        }
        if (event.empty() || !stream.Send(event)) return;
      }
    }};
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> events_;
  fakes::FakeApiServer server_;
};

class Bench {
 public:
  Bench() {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
    pinner_ = *PeerPinner::Create(PinMethod::kAuto);
    self_ = *pinner_->Pin(pair[0]);
    std::ofstream(dir_.file("config")) << server_.KubeConfig();
    std::vector<std::unique_ptr<WorkloadAttestor>> unix_alone, both;
    unix_alone.push_back(std::make_unique<UnixAttestor>(UnixAttestor::Options{}, clock_));
    both.push_back(std::make_unique<UnixAttestor>(UnixAttestor::Options{}, clock_));
    K8sAttestor::Options options;
    options.roots = {""};
    both.push_back(std::make_unique<K8sAttestor>(
        std::move(options),
        [this](PodIndex& index) {
          index_ = &index;
          auto client = kubernetes::ApiClient::Create({.kube_config_file = dir_.file("config")});
          std::vector<std::unique_ptr<PodSource>> sources;
          sources.push_back(std::make_unique<PodWatch>(PodWatch::Options{.node_name = "node1"}, *std::move(client),
                                                       index, clock_, metrics_, health_));
          return sources;
        },
        clock_));
    unix_ = Attestation::Create({.pending_per_uid = 1000}, std::move(unix_alone), clock_, metrics_);
    k8s_ = Attestation::Create({.pending_per_uid = 1000}, std::move(both), clock_, metrics_);
    while (index_->pods() != kPods) absl::SleepFor(absl::Milliseconds(1));
  }

  std::future<absl::Time> Start(Attestation& attestation, int pod, size_t selectors) {
    auto promise = std::make_shared<std::promise<absl::Time>>();
    auto future = promise->get_future();
    auto workload = std::make_shared<const Workload>(rpc::UnixConnection(), std::make_shared<PodProcess>(self_, pod));
    attestation.Attest(std::move(workload), [promise, selectors](absl::StatusOr<EvidencePtr> evidence) {
      if (!evidence.ok() || (*evidence)->selectors.size() < selectors) abort();
      promise->set_value(absl::Now());
    });
    return future;
  }

  void Warm() {
    const size_t bare = 4, pod = 12;  // at least so many selectors
    Samples of_unix, of_k8s;
    for (int i = 0; i < 20000; ++i) {
      absl::Time began = absl::Now();
      of_unix.Add(Start(*unix_, i % kPods, bare).get() - began);
      began = absl::Now();
      of_k8s.Add(Start(*k8s_, i % kPods, pod).get() - began);
    }
    PrintRow("K1", "attestation of a pod's process, warm index: p50 (p99)",
             absl::StrCat(Micros(of_k8s.Percentile(0.5)), " (", Micros(of_k8s.Percentile(0.99)), "), ",
                          Micros(of_k8s.Percentile(0.5) - of_unix.Percentile(0.5)), " over unix alone, ",
                          Micros(of_unix.Percentile(0.5))),
             "100 us over unix");
  }

  // Each pod changes its labels every ten seconds; the server's share of the work is in the figure, too.
  void Churn() {
    const absl::Duration length = absl::Seconds(10);
    const double before = CpuSeconds(getpid());
    const absl::Time began = absl::Now();
    int events = 0, attestations = 0;
    while (absl::Now() - began < length) {
      const absl::Duration passed = absl::Now() - began;
      for (; events < passed / absl::Milliseconds(40); ++events) {
        server_.Send(EventJson("MODIFIED", PodJson(events % kPods, absl::StrCat("\"turn\":\"", events, "\""))));
      }
      for (; attestations < passed / absl::Milliseconds(100); ++attestations) {
        Start(*k8s_, attestations % kPods, 12).get();
      }
      absl::SleepFor(absl::Milliseconds(20));
    }
    const double cores = (CpuSeconds(getpid()) - before) / absl::ToDoubleSeconds(length);
    PrintRow("K2", absl::StrCat(kPods, " pods, 25 changes and 10 attestations a second"),
             absl::StrFormat("%.4f cores", cores), "0.02 cores");
  }

  void EventToAnswer() {
    Samples samples;
    for (int i = 0; i < 1000; ++i) {
      const int pod = 10000 + i;
      std::future<absl::Time> answer = Start(*k8s_, pod, 12);
      while (index_->waiting() == 0) absl::SleepFor(absl::Microseconds(100));
      const absl::Time sent = absl::Now();
      server_.Send(EventJson("ADDED", PodJson(pod)));
      samples.Add(answer.get() - sent);
    }
    PrintRow("K3", "event of the API server -> its pod's process attested: p50, p99",
             absl::StrCat(Micros(samples.Percentile(0.5)), ", ", Micros(samples.Percentile(0.99))),
             "100 ms, SVID included");
  }

 private:
  testing::TempDir dir_;
  SystemClock clock_;
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  telemetry::Health health_;
  Server server_;
  std::unique_ptr<PeerPinner> pinner_;
  std::shared_ptr<const PeerProcess> self_;
  PodIndex* index_ = nullptr;
  std::unique_ptr<Attestation> unix_, k8s_;
};

}  // namespace
}  // namespace signet::bench

int main() {
  signet::bench::Bench bench;
  bench.Warm();
  bench.Churn();
  bench.EventToAnswer();
  return 0;
}
