// The attacks W1 to W4 on "who is at the other end", each on both ways to pin: with SO_PEERPIDFD, and as on kernels
// before 6.5.
#include "agent/peer/peer_process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "agent/peer/peer_kernel.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::signet::testing::ChildProcess;
using ::signet::testing::ConnectOrExit;
using ::signet::testing::IsOk;
using ::signet::testing::ReceiveFd;
using ::signet::testing::SendFd;
using ::signet::testing::StatusIs;
using ::signet::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Process = std::shared_ptr<const PeerProcess>;
constexpr auto kDenied = absl::StatusCode::kPermissionDenied;

// W2: no error at run time means "old kernel, carry on". Each system call is made to fail in turn.
class FaultyKernel : public PeerKernel {
 public:
  struct Faults {
    int credentials = 0, peer_pidfd = 0, open_pidfd = 0, alive = 1, info = 0, file = 0, link = 0, stat = 0, holds = 1;
    bool active = false;  // off while PeerPinner::Create asks what there is
  };
  explicit FaultyKernel(const Faults& faults) : f_(faults) {}
  int PeerCredentials(int s, ucred* out) const override {
    return f_.active && f_.credentials != 0 ? f_.credentials : PeerKernel::PeerCredentials(s, out);
  }
  int PeerPidfd(int s) const override {
    return f_.active && f_.peer_pidfd != 0 ? f_.peer_pidfd : PeerKernel::PeerPidfd(s);
  }
  int OpenPidfd(pid_t p) const override {
    return f_.active && f_.open_pidfd != 0 ? f_.open_pidfd : PeerKernel::OpenPidfd(p);
  }
  int Alive(int p) const override { return f_.active && f_.alive != 1 ? f_.alive : PeerKernel::Alive(p); }
  int Info(int p, PidfdInfo* out) const override {
    return f_.active && f_.info != 0 ? f_.info : PeerKernel::Info(p, out);
  }
  int ReadFile(const std::string& path, size_t limit, std::string* out) const override {
    return f_.active && f_.file != 0 ? f_.file : PeerKernel::ReadFile(path, limit, out);
  }
  int ReadLink(const std::string& path, std::string* out) const override {
    return f_.active && f_.link != 0 ? f_.link : PeerKernel::ReadLink(path, out);
  }
  int Stat(const std::string& path, struct stat* out) const override {
    return f_.active && f_.stat != 0 ? f_.stat : PeerKernel::Stat(path, out);
  }
  int HoldsOtherEnd(int s, pid_t p) const override {
    return f_.active && f_.holds != 1 ? f_.holds : PeerKernel::HoldsOtherEnd(s, p);
  }

 private:
  const Faults& f_;
};

// The three ways a kernel lets us pin: everything (6.13), SO_PEERPIDFD alone (6.5), neither (Debian 12's 6.1).
enum class Kernel { k6_13, k6_5, k6_1 };

std::string KernelName(const ::testing::TestParamInfo<Kernel>& test) {
  return test.param == Kernel::k6_13 ? "Linux613" : test.param == Kernel::k6_5 ? "Linux65" : "Linux61";
}
PinMethod MethodOf(Kernel kernel) { return kernel == Kernel::k6_1 ? PinMethod::kNoPeerPidfd : PinMethod::kAuto; }

// A kernel without PIDFD_GET_INFO.
class KernelWithoutInfo : public PeerKernel {
  int Info(int, PidfdInfo*) const override { return -ENOTTY; }
};

absl::StatusOr<std::unique_ptr<PeerPinner>> MakePinner(Kernel kernel) {
  if (kernel == Kernel::k6_5) return PeerPinner::CreateForTest(PinMethod::kAuto, std::make_unique<KernelWithoutInfo>());
  return PeerPinner::Create(MethodOf(kernel));
}

// A listening socket, and connections to it.
class Listener {
 public:
  Listener() : path_(dir_.file("s")), fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path_.c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(fd_, 16), 0);
    chmod(path_.c_str(), 0777);
    chmod(dir_.path().c_str(), 0755);
  }
  ~Listener() {
    close(fd_);
    for (int fd : accepted_) close(fd);
  }
  const char* path() const { return path_.c_str(); }
  int Accept() {
    accepted_.push_back(accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC));
    return accepted_.back();
  }

 private:
  TempDir dir_;
  std::string path_;
  int fd_;
  std::vector<int> accepted_;
};

class PeerProcessTest : public ::testing::TestWithParam<Kernel> {
 protected:
  void SetUp() override {
    auto pinner = MakePinner(GetParam());
    SIGNET_ASSERT_OK(pinner);
    pinner_ = *std::move(pinner);
  }
  static bool IsRoot() { return geteuid() == 0; }

  // Connects, and then lives until it is told to exit.
  auto Connector() {
    return [path = listener_.path()](const ChildProcess::Steps& steps) {
      ConnectOrExit(path);
      steps.Done();
      steps.Await();
    };
  }
  // A process that has no part in it: whom the attacker would like to be taken for.
  static auto Bystander() {
    return [](const ChildProcess::Steps& steps) {
      steps.Done();
      steps.Await();
    };
  }

  Listener listener_;
  std::unique_ptr<PeerPinner> pinner_;
};

INSTANTIATE_TEST_SUITE_P(, PeerProcessTest, ::testing::Values(Kernel::k6_13, Kernel::k6_5, Kernel::k6_1), KernelName);

TEST_P(PeerProcessTest, KnowsTheCaller) {
  ChildProcess child(Connector());
  ASSERT_TRUE(child.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  EXPECT_EQ((*process)->pid(), child.pid());
  EXPECT_EQ((*process)->uid(), geteuid());
  EXPECT_EQ((*process)->gid(), getegid());
  EXPECT_TRUE((*process)->alive());
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  EXPECT_EQ(facts->uid, geteuid());
  EXPECT_EQ(facts->executable, std::filesystem::read_symlink("/proc/self/exe").string());
  struct stat st;
  ASSERT_EQ(stat("/proc/self/exe", &st), 0);
  EXPECT_EQ(facts->executable_inode, st.st_ino);
  EXPECT_EQ(facts->executable_device, st.st_dev);
  EXPECT_GT(facts->start_time, 0u);
  SIGNET_EXPECT_OK((*process)->StillTheSame(*facts));
  EXPECT_EQ(*(*process)->ReadFacts(), *facts);
  auto executable = (*process)->OpenExecutable();
  SIGNET_ASSERT_OK(executable);
  ASSERT_EQ(fstat(*executable, &st), 0);
  EXPECT_EQ(st.st_ino, facts->executable_inode);
  close(*executable);
}

TEST_P(PeerProcessTest, ReadsEffectiveIdsAndGroups) {
  if (!IsRoot()) GTEST_SKIP() << "NOT RUN: needs root to become someone else";
  ChildProcess child([path = listener_.path()](const ChildProcess::Steps& steps) {
    const gid_t groups[] = {7, 8, 9};
    if (setgroups(3, groups) != 0 || setresgid(101, 102, 103) != 0 || setresuid(1001, 1002, 1003) != 0) _exit(1);
    ConnectOrExit(path);
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(child.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  EXPECT_EQ((*process)->uid(), 1002u);
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  EXPECT_EQ(facts->uid, 1002u);
  EXPECT_EQ(facts->gid, 102u);
  EXPECT_THAT(facts->supplementary_gids, ElementsAre(7, 8, 9));
}

TEST_P(PeerProcessTest, NameOfTheProcessChangesNothing) {
  ChildProcess child([path = listener_.path()](const ChildProcess::Steps& steps) {
    prctl(PR_SET_NAME, ") Z (\nUid:\t0");
    ConnectOrExit(path);
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(child.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  EXPECT_EQ(facts->uid, geteuid());
}

// W3: newer kernels give a pidfd of a process that was reaped long ago.
TEST_P(PeerProcessTest, RefusesCallerThatWasReapedBeforeAccept) {
  ChildProcess child(Connector());
  ASSERT_TRUE(child.AwaitDone());
  child.Go();
  EXPECT_EQ(child.Reap(), 0);
  EXPECT_THAT(pinner_->Pin(listener_.Accept()), StatusIs(kDenied));
}

TEST_P(PeerProcessTest, RefusesCallerThatIsAZombie) {
  ChildProcess child(Connector());
  ASSERT_TRUE(child.AwaitDone());
  child.Go();
  child.AwaitExit();
  EXPECT_THAT(pinner_->Pin(listener_.Accept()), StatusIs(kDenied));
}

TEST_P(PeerProcessTest, ReleasesNothingAfterTheCallerExited) {
  ChildProcess child(Connector());
  ASSERT_TRUE(child.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  child.Go();
  child.AwaitExit();  // a zombie
  EXPECT_FALSE((*process)->alive());
  EXPECT_THAT((*process)->StillTheSame(*facts), StatusIs(kDenied));
  EXPECT_THAT((*process)->ReadFacts(), StatusIs(kDenied));
  EXPECT_THAT((*process)->OpenExecutable(), StatusIs(kDenied));
  child.Reap();  // and gone
  EXPECT_FALSE((*process)->alive());
  EXPECT_THAT((*process)->StillTheSame(*facts), StatusIs(kDenied));
  EXPECT_THAT((*process)->ReadFacts(), StatusIs(kDenied));
  EXPECT_THAT((*process)->OpenExecutable(), StatusIs(kDenied));
}

// W1, made certain instead of likely: the bystander is created with the number of the attacker.
class PidReuseTest : public PeerProcessTest {
 protected:
  // Lets `attacker` go and puts a bystander in its place.
  void Replace(ChildProcess& attacker) {
    const pid_t pid = attacker.pid();
    attacker.Go();
    attacker.Reap();
    bystander_.emplace(Bystander(), pid);
    if (bystander_->pid() < 0) GTEST_SKIP() << "NOT RUN: cannot choose a PID here: " << strerror(bystander_->error());
    ASSERT_EQ(bystander_->pid(), pid);
    ASSERT_TRUE(bystander_->AwaitDone());
  }
  std::optional<ChildProcess> bystander_;
};
INSTANTIATE_TEST_SUITE_P(, PidReuseTest, ::testing::Values(Kernel::k6_13, Kernel::k6_5, Kernel::k6_1), KernelName);

TEST_P(PidReuseTest, BeforeAccept) {
  ChildProcess attacker(Connector());
  ASSERT_TRUE(attacker.AwaitDone());
  Replace(attacker);
  if (IsSkipped()) return;
  EXPECT_THAT(pinner_->Pin(listener_.Accept()), StatusIs(kDenied));
}

TEST_P(PidReuseTest, BetweenAcceptAndPin) {
  ChildProcess attacker(Connector());
  ASSERT_TRUE(attacker.AwaitDone());
  int fd = listener_.Accept();
  Replace(attacker);
  if (IsSkipped()) return;
  EXPECT_THAT(pinner_->Pin(fd), StatusIs(kDenied));
}

TEST_P(PidReuseTest, BetweenPinAndFacts) {
  ChildProcess attacker(Connector());
  ASSERT_TRUE(attacker.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  Replace(attacker);
  if (IsSkipped()) return;
  EXPECT_THAT((*process)->ReadFacts(), StatusIs(kDenied));
  EXPECT_THAT((*process)->OpenExecutable(), StatusIs(kDenied));
}

TEST_P(PidReuseTest, BetweenFactsAndRelease) {
  ChildProcess attacker(Connector());
  ASSERT_TRUE(attacker.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  Replace(attacker);
  if (IsSkipped()) return;
  // Same user, same program, and even the same clock tick: only the pidfd can tell.
  EXPECT_THAT((*process)->StillTheSame(*facts), StatusIs(kDenied));
}

// The attacker's own child keeps the connection open and takes the number: it holds the other end, so only that it is
// not the process that was pinned gives it away.
TEST_P(PidReuseTest, ByAProcessThatHoldsTheConnection) {
  int relay[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, relay), 0);
  ChildProcess attacker([path = listener_.path(), out = relay[1]](const ChildProcess::Steps& steps) {
    if (!SendFd(out, ConnectOrExit(path))) _exit(1);
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(attacker.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  // The connection's descriptor comes to us, and the bystander inherits it.
  const int passed = ReceiveFd(relay[0]);
  ASSERT_GE(passed, 0);
  Replace(attacker);
  if (IsSkipped()) return;
  EXPECT_THAT((*process)->StillTheSame(*facts), StatusIs(kDenied));
  EXPECT_THAT((*process)->ReadFacts(), StatusIs(kDenied));
  close(passed);
  close(relay[0]);
  close(relay[1]);
}

// The race itself: nobody is told to wait. Bounded here; SIGNET_SOAK=1 runs it for long.
TEST_P(PidReuseTest, RaceNeverGivesTheBystandersFacts) {
  if (!IsRoot()) GTEST_SKIP() << "NOT RUN: needs root to tell attacker and bystander apart by user";
  const int rounds = getenv("SIGNET_SOAK") != nullptr ? 5000 : 300;
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    ChildProcess attacker([path = listener_.path()](const ChildProcess::Steps& steps) {
      if (setresgid(4001, 4001, 4001) != 0 || setresuid(4001, 4001, 4001) != 0) _exit(1);
      ConnectOrExit(path);
      steps.Done();
    });  // exits at once
    const pid_t pid = attacker.pid();
    int fd = listener_.Accept();
    std::thread racer([&] {
      attacker.Reap();
      bystander_.emplace([](const ChildProcess::Steps& steps) { steps.Await(); }, pid);
    });
    auto process = pinner_->Pin(fd);
    if (process.ok()) {
      auto facts = (*process)->ReadFacts();
      if (facts.ok()) {
        ++accepted;
        EXPECT_EQ(facts->uid, 4001u);
      }
    }
    racer.join();
    if (bystander_->pid() < 0 && bystander_->error() != EEXIST) {  // EEXIST: a third process was faster
      GTEST_SKIP() << "NOT RUN: cannot choose a PID here: " << strerror(bystander_->error());
    }
    bystander_.reset();
  }
  RecordProperty("accepted", accepted);
}

TEST_P(PeerProcessTest, RefusesAfterExec) {  // W4
  ChildProcess child([path = listener_.path()](const ChildProcess::Steps& steps) {
    ConnectOrExit(path);  // not close-on-exec: the next program has it
    steps.Done();
    steps.Await();
    execl("/bin/sleep", "sleep", "60", nullptr);
  });
  ASSERT_TRUE(child.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  child.Go();
  absl::Status status;
  for (int i = 0; i < 10000 && (status = (*process)->StillTheSame(*facts)).ok(); ++i) usleep(1000);
  EXPECT_THAT(status, StatusIs(kDenied, HasSubstr("another executable")));
  EXPECT_TRUE((*process)->alive());
  EXPECT_THAT((*process)->ReadFacts(), IsOk());  // attested anew it is what it is now
}

TEST_P(PeerProcessTest, RefusesAfterAChangeOfUser) {  // W4
  if (!IsRoot()) GTEST_SKIP() << "NOT RUN: needs root to become someone else";
  ChildProcess child([path = listener_.path()](const ChildProcess::Steps& steps) {
    ConnectOrExit(path);
    steps.Done();
    steps.Await();
    if (setresuid(1001, 1001, 1001) != 0) _exit(1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(child.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  child.Go();
  ASSERT_TRUE(child.AwaitDone());
  EXPECT_THAT((*process)->StillTheSame(*facts), StatusIs(kDenied, HasSubstr("runs as uid 1001")));
  EXPECT_THAT((*process)->ReadFacts(), StatusIs(kDenied, HasSubstr("it must connect anew")));
}

// A connected descriptor may be passed on: that is delegation by the one who connected, and good for as long as that
// process lives. It never makes the receiver someone, and it ends with the giver.
TEST_P(PeerProcessTest, PassedOnConnectionStaysTheGivers) {
  ChildProcess giver([path = listener_.path()](const ChildProcess::Steps& steps) {
    ConnectOrExit(path);
    if (fork() == 0) {  // the receiver, which holds the connection until the test is over
      steps.Await();
      _exit(0);
    }
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(giver.AwaitDone());
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  EXPECT_EQ((*process)->pid(), giver.pid());
  auto facts = (*process)->ReadFacts();
  SIGNET_ASSERT_OK(facts);
  kill(giver.pid(), SIGKILL);
  giver.Reap();
  EXPECT_THAT((*process)->StillTheSame(*facts), StatusIs(kDenied, HasSubstr("has exited")));
}

TEST(PeerProcessWithoutPidfdTest, RefusesGiverThatClosedItsOwnEnd) {
  auto pinner = PeerPinner::Create(PinMethod::kNoPeerPidfd);
  SIGNET_ASSERT_OK(pinner);
  Listener listener;
  ChildProcess giver([path = listener.path()](const ChildProcess::Steps& steps) {
    int fd = ConnectOrExit(path);
    if (fork() == 0) {
      steps.Await();
      _exit(0);
    }
    close(fd);
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(giver.AwaitDone());
  EXPECT_THAT((*pinner)->Pin(listener.Accept()), StatusIs(kDenied, HasSubstr("does not hold the other end")));
}

// The cgroup decides which pod or unit it is (W5): a move is a change.
TEST_P(PeerProcessTest, NoticesAMoveToAnotherCgroup) {
  std::string cgroup2;
  std::ifstream mounts("/proc/self/mounts");
  for (std::string device, where, type, rest; mounts >> device >> where >> type && std::getline(mounts, rest);) {
    if (type == "cgroup2") cgroup2 = where;
  }
  const std::string made = absl::StrCat(cgroup2, "/signet-test-", getpid());
  if (cgroup2.empty()) GTEST_SKIP() << "NOT RUN: no cgroup2 is mounted";
  if (mkdir(made.c_str(), 0755) != 0) GTEST_SKIP() << "NOT RUN: mkdir " << made << ": " << strerror(errno);
  const auto remove_it = absl::MakeCleanup([&made] { rmdir(made.c_str()); });
  {
    Listener listener;
    ChildProcess child([path = listener.path()](const ChildProcess::Steps& steps) {
      ConnectOrExit(path);
      steps.Done();
      steps.Await();
    });
    ASSERT_TRUE(child.AwaitDone());
    auto process = pinner_->Pin(listener.Accept());
    SIGNET_ASSERT_OK(process);
    auto facts = (*process)->ReadFacts();
    SIGNET_ASSERT_OK(facts);
    std::ofstream procs(made + "/cgroup.procs");
    procs << child.pid() << std::flush;
    if (!procs) GTEST_SKIP() << "NOT RUN: no process can be moved to " << made << ": " << strerror(errno);
    EXPECT_THAT((*process)->StillTheSame(*facts), StatusIs(kDenied, HasSubstr("another cgroup")));
    auto again = (*process)->ReadFacts();
    SIGNET_ASSERT_OK(again);
    EXPECT_THAT(again->cgroup, HasSubstr("signet-test-"));
  }
}

TEST_P(PeerProcessTest, KnowsACallerInAnotherNetworkNamespace) {  // a container
  if (!IsRoot()) GTEST_SKIP() << "NOT RUN: needs root for a network namespace";
  ChildProcess child([path = listener_.path()](const ChildProcess::Steps& steps) {
    if (unshare(CLONE_NEWNET) != 0) _exit(93);
    ConnectOrExit(path);
    steps.Done();
    steps.Await();
  });
  if (!child.AwaitDone()) GTEST_SKIP() << "NOT RUN: no network namespaces here";
  auto process = pinner_->Pin(listener_.Accept());
  SIGNET_ASSERT_OK(process);
  EXPECT_EQ((*process)->pid(), child.pid());
}

class ErrnoTest : public PeerProcessTest {
 protected:
  // Pins and reads a caller that is in perfect order, with these faults.
  absl::Status PinWith(FaultyKernel::Faults faults) {
    FaultyKernel::Faults at_start;
    if (GetParam() == Kernel::k6_5) at_start = {.info = -ENOTTY, .active = true};
    auto kernel = std::make_unique<FaultyKernel>(current_);
    current_ = at_start;
    auto pinner = PeerPinner::CreateForTest(MethodOf(GetParam()), std::move(kernel));
    if (!pinner.ok()) return absl::InternalError(pinner.status().ToString());
    ChildProcess child(Connector());
    EXPECT_TRUE(child.AwaitDone());
    faults.active = true;
    current_ = faults;
    auto process = (*pinner)->Pin(listener_.Accept());
    if (!process.ok()) return process.status();
    auto facts = (*process)->ReadFacts();
    return facts.ok() ? (*process)->StillTheSame(*facts) : facts.status();
  }
  FaultyKernel::Faults current_;
};
INSTANTIATE_TEST_SUITE_P(, ErrnoTest, ::testing::Values(Kernel::k6_13, Kernel::k6_5, Kernel::k6_1), KernelName);

TEST_P(ErrnoTest, EveryErrorAtRunTimeRefuses) {
  SIGNET_ASSERT_OK(PinWith({}));
  const bool with_pidfd = GetParam() != Kernel::k6_1;
  for (int error : {-EINVAL, -ENOPROTOOPT, -ESRCH, -ENODATA, -EBADF, -EMFILE, -ENFILE, -ENOMEM, -EPERM, -EACCES,
                    -ENOSYS, -EOPNOTSUPP, -ENOTTY, -EREMOTE, -EINTR, -ENOENT, -EFBIG, -E2BIG}) {
    SCOPED_TRACE(strerror(-error));
    EXPECT_THAT(PinWith({.credentials = error}), StatusIs(kDenied));
    EXPECT_THAT(PinWith({.alive = error}), StatusIs(kDenied));
    EXPECT_THAT(PinWith({.file = error}), StatusIs(kDenied));
    EXPECT_THAT(PinWith({.link = error}), StatusIs(kDenied));
    EXPECT_THAT(PinWith({.stat = error}), StatusIs(kDenied));
    if (with_pidfd) {
      EXPECT_THAT(PinWith({.peer_pidfd = error}), StatusIs(kDenied));
      if (GetParam() == Kernel::k6_13) {
        EXPECT_THAT(PinWith({.info = error}), StatusIs(kDenied));
      }
    } else {
      EXPECT_THAT(PinWith({.open_pidfd = error}), StatusIs(kDenied));
      EXPECT_THAT(PinWith({.holds = error}), StatusIs(kDenied));
    }
  }
  EXPECT_THAT(PinWith({.alive = 0}), StatusIs(kDenied));
  if (!with_pidfd) {
    EXPECT_THAT(PinWith({.holds = 0}), StatusIs(kDenied));
  }
}

TEST(PeerPinnerTest, StartsWithoutSocketPidfdOnlyWhenTheKernelHasNone) {
  FaultyKernel::Faults faults = {.peer_pidfd = -ENOPROTOOPT, .holds = 0, .active = true};
  auto old = PeerPinner::CreateForTest(PinMethod::kAuto, std::make_unique<FaultyKernel>(faults));
  SIGNET_ASSERT_OK(old);
  // And then the other proof is asked for.
  Listener listener;
  ChildProcess child([path = listener.path()](const ChildProcess::Steps& steps) {
    ConnectOrExit(path);
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(child.AwaitDone());
  EXPECT_THAT((*old)->Pin(listener.Accept()), StatusIs(kDenied, HasSubstr("does not hold the other end")));

  for (int error : {-EINVAL, -EPERM, -EMFILE, -ENODATA}) {
    FaultyKernel::Faults other = {.peer_pidfd = error, .active = true};
    EXPECT_FALSE(PeerPinner::CreateForTest(PinMethod::kAuto, std::make_unique<FaultyKernel>(other)).ok()) << error;
  }
  FaultyKernel::Faults no_pidfd = {.open_pidfd = -ENOSYS, .active = true};
  EXPECT_THAT(PeerPinner::CreateForTest(PinMethod::kAuto, std::make_unique<FaultyKernel>(no_pidfd)).status().message(),
              HasSubstr("Linux 5.3"));
}

TEST(PeerPinnerTest, RefusesCallerOutsideItsPidNamespace) {
  class Foreign : public PeerKernel {
    int PeerCredentials(int, ucred* out) const override {
      *out = {0, 0, 0};
      return 0;
    }
  };
  auto pinner = PeerPinner::CreateForTest(PinMethod::kAuto, std::make_unique<Foreign>());
  SIGNET_ASSERT_OK(pinner);
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  EXPECT_THAT((*pinner)->Pin(pair[0]), StatusIs(kDenied, HasSubstr("hostPID")));
  close(pair[0]);
  close(pair[1]);
}

}  // namespace
}  // namespace signet::agent
