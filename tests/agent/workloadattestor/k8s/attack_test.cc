// Attacks on "which pod is this process of" (W1, W5, W6), with real processes, real cgroups and real namespaces, on
// both ways to pin: each tries to get the victim's selectors, none may. Needs root and a cgroup hierarchy to write
// into.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <future>
#include <optional>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "agent/workloadattestor/attestation.h"
#include "agent/workloadattestor/k8s.h"
#include "tests/agent/workloadattestor/k8s/pod_kit.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::signet::testing::ChildProcess;
using ::signet::testing::ConnectOrExit;
using ::signet::testing::ContainerId;
using ::signet::testing::MakePod;
using ::signet::testing::PodUid;
using ::signet::testing::StatusIs;
using ::signet::testing::TempDir;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Steps = ChildProcess::Steps;
using Answer = std::future<absl::StatusOr<EvidencePtr>>;
constexpr auto kDenied = absl::StatusCode::kPermissionDenied;

// A folder in the cgroup2 hierarchy and in one of version 1 where there is one, as runc makes a container's on a hybrid
// node; removed at the end, with what is in it.
class Cgroup {
 public:
  explicit Cgroup(const std::string& path) {
    std::ifstream mounts("/proc/self/mounts");
    bool one_of_v1 = false;
    for (std::string device, where, type, options, rest; mounts >> device >> where >> type >> options;) {
      std::getline(mounts, rest);
      const bool pids = type == "cgroup" && absl::StrContains(options, "pids") && !one_of_v1;
      if (type != "cgroup2" && !pids) continue;
      one_of_v1 |= pids;
      if (type == "cgroup2") root_ = where;
      std::string at = where;
      for (absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
        absl::StrAppend(&at, "/", part);
        if (mkdir(at.c_str(), 0755) == 0) made_.push_back(at);
      }
      struct stat st;
      if (stat(at.c_str(), &st) == 0) folders_.push_back(at);
    }
  }
  ~Cgroup() {
    for (auto it = made_.rbegin(); it != made_.rend(); ++it) {
      for (int i = 0; rmdir(it->c_str()) != 0 && errno == EBUSY && i < 200; ++i) usleep(10'000);  // who left is reaped
    }
  }
  bool usable() const { return !folders_.empty() && !root_.empty(); }
  const std::vector<std::string>& folders() const { return folders_; }
  const std::string& root() const { return root_; }  // of cgroup2
  // Puts a process in.
  bool Take(pid_t pid) const {
    bool all = true;
    for (const std::string& folder : folders_) {
      std::ofstream procs(folder + "/cgroup.procs");
      procs << pid << std::flush;
      all &= static_cast<bool>(procs);
    }
    return all;
  }

 private:
  std::string root_;
  std::vector<std::string> folders_, made_;
};

// In a child: moves itself, with system calls alone.
void Enter(const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    int fd = open((folder + "/cgroup.procs").c_str(), O_WRONLY);
    if (fd < 0 || write(fd, "0", 1) != 1) _exit(95);
    close(fd);
  }
}

class PodAttackTest : public ::testing::TestWithParam<PinMethod> {
 protected:
  // Numbers that no pod and no other run of this test has.
  const int own_ = getpid() * 16, victim_ = own_ + 1;

  static std::string PathOf(int n) {
    return absl::StrCat("/kubelet/kubepods/besteffort/pod", PodUid(n), "/", ContainerId(n));
  }

  PodAttackTest() : own_cgroup_(PathOf(own_)), victim_cgroup_(PathOf(victim_)) {}

  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "NOT RUN: needs root";
    if (!own_cgroup_.usable() || !victim_cgroup_.usable()) GTEST_SKIP() << "NOT RUN: no cgroups to write to here";
    auto pinner = PeerPinner::Create(GetParam());
    SIGNET_ASSERT_OK(pinner);
    pinner_ = *std::move(pinner);
    auto tree = CgroupTree::Open(own_cgroup_.root());
    SIGNET_ASSERT_OK(tree);
    K8sAttestor::Options options;
    auto view = ReadHostView();
    SIGNET_ASSERT_OK(view);
    options.roots = *CheckHostView(*view);
    options.tree = *std::move(tree);
    options.index.max_waiting_per_pod = 4;
    std::vector<std::unique_ptr<WorkloadAttestor>> attestors;
    attestors.push_back(std::make_unique<K8sAttestor>(
        std::move(options),
        [this](PodIndex& index) {
          index_ = &index;
          return std::vector<std::unique_ptr<PodSource>>();
        },
        clock_));
    attestation_ = Attestation::Create({.pending_per_uid = 100}, std::move(attestors), clock_, metrics_);
    index_->Put(MakePod(own_));
    kubernetes::Pod victim = MakePod(victim_);
    victim.namespace_name = "victim";
    index_->Put(victim);

    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path_ = dir_.file("s");
    strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(listen(listener_, 16), 0);
    chmod(path_.c_str(), 0777);
    chmod(dir_.path().c_str(), 0755);
  }
  void TearDown() override {
    attestation_.reset();
    if (listener_ >= 0) close(listener_);
    for (int fd : accepted_) close(fd);
  }

  absl::StatusOr<WorkloadPtr> Accept() {
    accepted_.push_back(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC));
    auto process = pinner_->Pin(accepted_.back());
    if (!process.ok()) return process.status();
    return std::make_shared<const Workload>(rpc::UnixConnection(), *std::move(process));
  }
  Answer Start(WorkloadPtr workload) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<EvidencePtr>>>();
    Answer answer = promise->get_future();
    attestation_->Attest(std::move(workload), [promise](auto evidence) { promise->set_value(std::move(evidence)); });
    return answer;
  }
  absl::StatusOr<EvidencePtr> Attest(WorkloadPtr workload) { return Start(std::move(workload)).get(); }
  // Runs `attack` in a process of pod `own_`, lets it connect, and gives what was found out about it.
  template <typename Attack>
  absl::StatusOr<EvidencePtr> AttestAfter(Attack attack) {
    ChildProcess child([this, &attack](const Steps& steps) {
      steps.Await();
      attack();
      ConnectOrExit(path_.c_str());
      steps.Done();
      steps.Await();
    });
    if (!own_cgroup_.Take(child.pid())) return absl::InternalError("no process can be moved");
    child.Go();
    if (!child.AwaitDone()) return absl::UnimplementedError(absl::StrCat("the attack ended with ", child.Reap()));
    absl::StatusOr<WorkloadPtr> workload = Accept();
    if (!workload.ok()) return workload.status();
    return Attest(*workload);
  }
  static bool Is(const absl::StatusOr<EvidencePtr>& evidence, const char* value) {
    if (!evidence.ok()) return false;
    const auto& all = (*evidence)->selectors;
    return std::find(all.begin(), all.end(), spiffe::Selector{"k8s", value}) != all.end();
  }
  static bool IsOwn(const absl::StatusOr<EvidencePtr>& evidence) {
    return Is(evidence, "ns:shop") && !Is(evidence, "ns:victim");
  }

  Cgroup own_cgroup_, victim_cgroup_;
  TempDir dir_;
  std::string path_;
  int listener_ = -1;
  std::vector<int> accepted_;
  SystemClock clock_;
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  std::unique_ptr<PeerPinner> pinner_;
  PodIndex* index_ = nullptr;
  std::unique_ptr<Attestation> attestation_;
};
INSTANTIATE_TEST_SUITE_P(, PodAttackTest, ::testing::Values(PinMethod::kAuto, PinMethod::kNoPeerPidfd),
                         [](const auto& test) { return test.param == PinMethod::kAuto ? "Auto" : "NoPeerPidfd"; });

TEST_P(PodAttackTest, AProcessGetsTheSelectorsOfItsPod) {
  auto evidence = AttestAfter([] {});
  SIGNET_ASSERT_OK(evidence);
  EXPECT_TRUE(IsOwn(evidence));
  EXPECT_TRUE(Is(evidence, "container-name:main"));
  EXPECT_TRUE(Is(evidence, absl::StrCat("pod-uid:", PodUid(own_)).c_str()));
}

TEST_P(PodAttackTest, AProcessOfTheHostGetsNone) {
  ChildProcess child([this](const Steps& steps) {
    ConnectOrExit(path_.c_str());
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(child.AwaitDone());
  auto workload = Accept();
  SIGNET_ASSERT_OK(workload);
  auto evidence = Attest(*workload);
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->selectors, IsEmpty());
}

// W5, spire #7288: in a user and mount namespace of its own, which need no privilege, a process may cover its cgroup
// with the victim's, and mountinfo then tells of the victim's.
TEST_P(PodAttackTest, BindMountsOfTheVictimsCgroupChangeNothing) {
  auto evidence = AttestAfter([this] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(96);
    bool one = false;
    for (size_t i = 0; i < own_cgroup_.folders().size(); ++i) {
      one |= mount(victim_cgroup_.folders()[i].c_str(), own_cgroup_.folders()[i].c_str(), nullptr, MS_BIND | MS_REC,
                   nullptr) == 0;
    }
    if (!one) _exit(97);
  });
  if (absl::IsUnimplemented(evidence.status())) GTEST_SKIP() << "NOT RUN: " << evidence.status();
  EXPECT_TRUE(IsOwn(evidence)) << evidence.status();
}

TEST_P(PodAttackTest, AFileOverItsOwnProcCgroupChangesNothing) {
  const std::string file = dir_.file("cgroup");
  std::ofstream(file) << "0::" << PathOf(victim_) << "\n";
  auto evidence = AttestAfter([&file] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(96);
    const std::string proc = absl::StrCat("/proc/", getpid(), "/cgroup");
    if (mount(file.c_str(), proc.c_str(), nullptr, MS_BIND, nullptr) != 0) _exit(97);
  });
  if (absl::IsUnimplemented(evidence.status())) GTEST_SKIP() << "NOT RUN: " << evidence.status();
  EXPECT_TRUE(IsOwn(evidence)) << evidence.status();
}

TEST_P(PodAttackTest, ACgroupNamespaceOfItsOwnChangesNothing) {
  auto evidence = AttestAfter([] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWCGROUP | CLONE_NEWPID) != 0) _exit(96);
  });
  if (absl::IsUnimplemented(evidence.status())) GTEST_SKIP() << "NOT RUN: " << evidence.status();
  EXPECT_TRUE(IsOwn(evidence)) << evidence.status();
}

// W6: cgroups within its own, named as the kubelet names the victim's.
TEST_P(PodAttackTest, NestedCgroupsNamedLikeAnothersChangeNothing) {
  for (const std::string& below :
       {PathOf(victim_), absl::StrCat("/pod", PodUid(victim_), "/", ContainerId(victim_)), "/" + ContainerId(victim_),
        absl::StrCat("/kubepods.slice/kubepods-besteffort.slice/x/cri-containerd-", ContainerId(victim_), ".scope"),
        absl::StrCat("/docker/", ContainerId(victim_), PathOf(victim_))}) {
    Cgroup nested(PathOf(own_) + below);
    auto evidence = AttestAfter([&nested] { Enter(nested.folders()); });
    SIGNET_ASSERT_OK(evidence);
    EXPECT_TRUE(IsOwn(evidence)) << below;
  }
}

// What a user without rights may make in a folder that was given to it.
TEST_P(PodAttackTest, ADelegatedFolderNamedLikeTheKubeletsIsNoPod) {
  Cgroup delegated(absl::StrCat("/user.slice/user-1000.slice/user@1000.service", PathOf(victim_)));
  auto evidence = AttestAfter([&delegated] { Enter(delegated.folders()); });
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->selectors, IsEmpty());
}

TEST_P(PodAttackTest, HierarchiesThatDisagreeAreRefused) {
  if (own_cgroup_.folders().size() < 2) GTEST_SKIP() << "NOT RUN: one hierarchy alone";
  ChildProcess child([this](const Steps& steps) {
    steps.Await();
    ConnectOrExit(path_.c_str());
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(own_cgroup_.Take(child.pid()));
  std::ofstream(victim_cgroup_.folders()[0] + "/cgroup.procs") << child.pid() << std::flush;
  child.Go();
  ASSERT_TRUE(child.AwaitDone());
  auto workload = Accept();
  SIGNET_ASSERT_OK(workload);
  EXPECT_THAT(Attest(*workload), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("more than one pod")));
}

// While its pod is waited for, a process goes, and what has its number then is the victim's.
TEST_P(PodAttackTest, AProcessThatDiesDuringAttestationGetsNothing) {
  const int late = own_ + 2;
  Cgroup cgroup(PathOf(late));
  std::optional<ChildProcess> child(std::in_place, [this](const Steps& steps) {
    steps.Await();
    ConnectOrExit(path_.c_str());
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(cgroup.Take(child->pid()));
  child->Go();
  ASSERT_TRUE(child->AwaitDone());
  auto workload = Accept();
  SIGNET_ASSERT_OK(workload);
  Answer answer = Start(*workload);
  while (index_->waiting() == 0) usleep(1000);
  const pid_t pid = child->pid();
  child->Go();
  child->Reap();
  ChildProcess bystander(
      [](const Steps& steps) {
        steps.Done();
        steps.Await();
      },
      pid);
  if (bystander.pid() == pid) {
    ASSERT_TRUE(bystander.AwaitDone());
    ASSERT_TRUE(victim_cgroup_.Take(pid));
  }
  index_->Put(MakePod(late));
  EXPECT_THAT(answer.get(), StatusIs(kDenied));
  EXPECT_THAT(Attest(*workload), StatusIs(kDenied));  // nor later
  bystander.Go();
  bystander.Reap();
}

TEST_P(PodAttackTest, ANumberThatTheVictimTookOverGivesNothing) {  // W1
  std::optional<ChildProcess> attacker(std::in_place, [this](const Steps& steps) {
    steps.Await();
    ConnectOrExit(path_.c_str());
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(own_cgroup_.Take(attacker->pid()));
  attacker->Go();
  ASSERT_TRUE(attacker->AwaitDone());
  auto workload = Accept();
  SIGNET_ASSERT_OK(workload);
  auto before = Attest(*workload);
  SIGNET_ASSERT_OK(before);
  const pid_t pid = attacker->pid();
  attacker->Go();
  attacker->Reap();
  ChildProcess victim(
      [](const Steps& steps) {
        steps.Done();
        steps.Await();
      },
      pid);
  if (victim.pid() != pid) GTEST_SKIP() << "NOT RUN: cannot choose a PID here";
  ASSERT_TRUE(victim.AwaitDone());
  ASSERT_TRUE(victim_cgroup_.Take(pid));
  EXPECT_THAT(Attest(*workload), StatusIs(kDenied));
  EXPECT_THAT(Attestation::Confirm(**workload, **before), StatusIs(kDenied));
  victim.Go();
  victim.Reap();
}

// A process that wanders between its own cgroups while it is looked at.
TEST_P(PodAttackTest, AProcessThatMovesAllTheTimeIsOfItsPodOrRefused) {
  Cgroup nested(PathOf(own_) + PathOf(victim_));
  ChildProcess child([this, &nested](const Steps& steps) {
    steps.Await();
    ConnectOrExit(path_.c_str());
    steps.Done();
    steps.Await();  // until it is pinned
    for (;;) {
      Enter(nested.folders());
      Enter(own_cgroup_.folders());
    }
  });
  ASSERT_TRUE(own_cgroup_.Take(child.pid()));
  child.Go();
  ASSERT_TRUE(child.AwaitDone());
  auto workload = Accept();
  SIGNET_ASSERT_OK(workload);
  child.Go();
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    auto evidence = Attest(*workload);
    refused += !evidence.ok();
    ASSERT_TRUE(!evidence.ok() || IsOwn(evidence));
  }
  RecordProperty("refused", refused);
}

// A flood from one pod, whose containers the kubelet has not reported yet.
TEST_P(PodAttackTest, WhoWaitsHindersNobodyElse) {
  const int late = own_ + 3;
  Cgroup cgroup(PathOf(late));
  std::vector<std::unique_ptr<ChildProcess>> children;
  std::vector<Answer> answers;
  for (int i = 0; i < 6; ++i) {
    children.push_back(std::make_unique<ChildProcess>([this](const Steps& steps) {
      steps.Await();
      ConnectOrExit(path_.c_str());
      steps.Done();
      steps.Await();
    }));
    ASSERT_TRUE(cgroup.Take(children.back()->pid()));
    children.back()->Go();
    ASSERT_TRUE(children.back()->AwaitDone());
    auto workload = Accept();
    SIGNET_ASSERT_OK(workload);
    answers.push_back(Start(*workload));
  }
  EXPECT_TRUE(IsOwn(AttestAfter([] {})));  // at once
  // Four may wait; which ones, the attestation's threads decide.
  const auto is_ready = [](Answer& answer) {
    return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  };
  const absl::Time end = absl::Now() + absl::Seconds(5);
  while (std::count_if(answers.begin(), answers.end(), is_ready) < 2 && absl::Now() < end) std::this_thread::yield();
  const auto waits = std::partition(answers.begin(), answers.end(), is_ready);
  ASSERT_EQ(waits - answers.begin(), 2);
  for (auto refused = answers.begin(); refused != waits; ++refused) {
    EXPECT_THAT(refused->get(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("try again later")));
  }
  index_->Put(MakePod(late));
  for (auto served = waits; served != answers.end(); ++served) SIGNET_EXPECT_OK(served->get());
  children.clear();
}

TEST_P(PodAttackTest, ADeletedPodsProcessesAreToldSo) {
  ChildProcess child([this](const Steps& steps) {
    steps.Await();
    ConnectOrExit(path_.c_str());
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(own_cgroup_.Take(child.pid()));
  child.Go();
  ASSERT_TRUE(child.AwaitDone());
  auto workload = Accept();
  SIGNET_ASSERT_OK(workload);
  auto evidence = Attest(*workload);
  EXPECT_TRUE(IsOwn(evidence));
  std::atomic<int> told = 0;
  auto subscription = attestation_->outdated().Subscribe([&](const auto&) { ++told; });
  index_->Delete(MakePod(own_));
  EXPECT_EQ(told, 1);
  EXPECT_TRUE((*evidence)->outdated());
  evidence = Attest(*workload);  // it still runs
  SIGNET_ASSERT_OK(evidence);
  EXPECT_THAT((*evidence)->selectors, IsEmpty());
}

// The tree says something else than the path: believed is neither.
TEST(CgroupTreeCheckTest, RefusesADirectoryThatIsNotTheCgroup) {
  Cgroup cgroup(absl::StrCat("/kubelet/kubepods/besteffort/pod", PodUid(getpid()), "/", ContainerId(getpid())));
  if (!cgroup.usable()) GTEST_SKIP() << "NOT RUN: no cgroups to write to here";
  auto tree = CgroupTree::Open(cgroup.root());
  SIGNET_ASSERT_OK(tree);
  const std::string rest = absl::StrCat("/pod", PodUid(getpid()), "/", ContainerId(getpid()));
  struct stat st;
  ASSERT_EQ(stat(absl::StrCat(cgroup.root(), "/kubelet/kubepods/besteffort", rest).c_str(), &st), 0);
  const NodeRoots machine = {""}, five_up = {"/../../../../.."};
  SIGNET_EXPECT_OK((*tree)->Check("/kubelet/kubepods/besteffort" + rest, st.st_ino, machine));
  EXPECT_THAT((*tree)->Check("/kubelet/kubepods/besteffort" + rest, st.st_ino + 1, machine), StatusIs(kDenied));
  EXPECT_THAT((*tree)->Check("/kubelet/kubepods/burstable" + rest, st.st_ino, machine), StatusIs(kDenied));
  // From within a cgroup namespace the names above are not to be seen.
  SIGNET_EXPECT_OK((*tree)->Check("/../.." + rest, st.st_ino, five_up));
  SIGNET_EXPECT_OK((*tree)->Check("/../../../besteffort" + rest, st.st_ino, five_up));
  SIGNET_EXPECT_OK((*tree)->Check("/../../../../../kubelet/kubepods/besteffort" + rest, st.st_ino, five_up));
  EXPECT_THAT((*tree)->Check("/../.." + rest, st.st_ino + 1, five_up), StatusIs(kDenied));
}

}  // namespace
}  // namespace signet::agent
