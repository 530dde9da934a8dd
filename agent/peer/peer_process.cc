#include "agent/peer/peer_process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "agent/peer/peer_kernel.h"
#include "agent/peer/proc_text.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

// All that goes wrong at run time refuses: an attacker may cause any of these errors at will (W2).
absl::Status Refuse(pid_t pid, absl::string_view why) {
  return absl::PermissionDeniedError(absl::StrCat("process ", pid, ": ", why));
}
absl::Status Refuse(pid_t pid, absl::string_view call, int negative_errno) {
  const char* advice = "";
  if (negative_errno == -EACCES || negative_errno == -EPERM) {
    advice = " (the agent needs CAP_SYS_PTRACE to look at processes of other users)";
  }
  return Refuse(pid, absl::StrCat(call, ": ", strerror(-negative_errno), advice));
}

class PinnedProcess final : public PeerProcess {
 public:
  PinnedProcess(const PeerKernel& kernel, const ucred& credentials, int pidfd, bool has_info)
      : kernel_(kernel), credentials_(credentials), pidfd_(pidfd), has_info_(has_info), cgroup_key_(ReadCgroupKey()) {}
  ~PinnedProcess() override { close(pidfd_); }

  pid_t pid() const override { return credentials_.pid; }
  uid_t uid() const override { return credentials_.uid; }
  gid_t gid() const override { return credentials_.gid; }
  uint64_t cgroup_key() const override { return cgroup_key_; }
  bool alive() const override { return kernel_.Alive(pidfd_) == 1; }

  // The process was alive, hence not reaped, before and after: so its PID meant this process all the while.
  absl::StatusOr<Facts> ReadFacts() const override {
    SIGNET_RETURN_IF_ERROR(CheckAlive());
    Facts facts;
    SIGNET_RETURN_IF_ERROR(ReadIds(facts));
    SIGNET_RETURN_IF_ERROR(ReadExecutable(facts));
    if (int error = kernel_.ReadLink(Proc("exe"), &facts.executable); error != 0) {
      return Refuse(pid(), "executable", error);
    }
    SIGNET_RETURN_IF_ERROR(ReadCgroup(facts));
    SIGNET_RETURN_IF_ERROR(ReadStartTime(facts));
    // An exec or a move in between would mix what belongs to two moments.
    SIGNET_RETURN_IF_ERROR(StillTheSame(facts));
    return facts;
  }

  absl::Status StillTheSame(const Facts& before) const override {
    SIGNET_RETURN_IF_ERROR(CheckAlive());  // for the sake of the message; the last line is what counts
    Facts now;
    if (has_info_) {
      SIGNET_RETURN_IF_ERROR(ReadInfo(now));
    } else {
      SIGNET_RETURN_IF_ERROR(ReadIds(now));
      // With or without PIDFD_GET_INFO the pidfd stands for one process for ever; the start time is the second witness
      // on kernels where everything else is read by number.
      SIGNET_RETURN_IF_ERROR(ReadStartTime(now));
      if (now.start_time != before.start_time) return Refuse(pid(), "its number belongs to another process now");
      SIGNET_RETURN_IF_ERROR(ReadCgroup(now));
      if (now.cgroup != before.cgroup || now.other_cgroups != before.other_cgroups)
        return Refuse(pid(), "moved to another cgroup");
    }
    SIGNET_RETURN_IF_ERROR(ReadExecutable(now));
    if (now.uid != before.uid || now.gid != before.gid) return Refuse(pid(), "changed its user or group");
    if (now.executable_device != before.executable_device || now.executable_inode != before.executable_inode) {
      return Refuse(pid(), "runs another executable than when it was attested");
    }
    if (now.cgroup_id != before.cgroup_id) return Refuse(pid(), "moved to another cgroup");
    return CheckAlive();
  }

  absl::StatusOr<int> OpenExecutable() const override {
    SIGNET_RETURN_IF_ERROR(CheckAlive());
    int fd = open(Proc("exe").c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return Refuse(pid(), "open executable", -errno);
    if (absl::Status status = CheckAlive(); !status.ok()) {
      close(fd);
      return status;
    }
    return fd;
  }

 private:
  std::string Proc(absl::string_view file) const { return absl::StrCat("/proc/", pid(), "/", file); }

  absl::Status CheckAlive() const {
    int alive = kernel_.Alive(pidfd_);
    if (alive < 0) return Refuse(pid(), "poll of its pidfd", alive);
    return alive == 1 ? absl::OkStatus() : Refuse(pid(), "has exited");
  }

  template <typename T>
  absl::StatusOr<T> Parsed(absl::StatusOr<T> value) const {
    if (!value.ok()) return Refuse(pid(), value.status().message());
    return value;
  }

  // One system call, or the text of one small file on kernels before 6.13. 0 when that fails: what else fails then says
  // so, and refuses.
  uint64_t ReadCgroupKey() const {
    if (has_info_) {
      PidfdInfo info;
      return kernel_.Info(pidfd_, &info) == 0 ? info.cgroup_id : 0;
    }
    std::string text;
    return kernel_.ReadFile(Proc("cgroup"), kProcCgroupLimit, &text) == 0 ? absl::HashOf(text) : 0;
  }

  // The ids of connect() time must still hold: what connects and then changes its user is neither (W4).
  absl::Status CheckIds(uid_t uid, gid_t gid) const {
    if (uid == credentials_.uid && gid == credentials_.gid) return absl::OkStatus();
    return Refuse(pid(), absl::StrCat("connected as uid ", credentials_.uid, " gid ", credentials_.gid,
                                      " and runs as uid ", uid, " gid ", gid,
                                      ": it must connect anew (a sandbox such as gVisor that shows other ids than the "
                                      "kernel's cannot be attested)"));
  }

  absl::Status ReadInfo(Facts& facts) const {
    PidfdInfo info;
    if (int error = kernel_.Info(pidfd_, &info); error != 0) return Refuse(pid(), "PIDFD_GET_INFO", error);
    if (info.tgid != credentials_.pid) return Refuse(pid(), "its pidfd stands for another process");
    facts.uid = info.effective_uid;
    facts.gid = info.effective_gid;
    facts.cgroup_id = info.cgroup_id;
    return CheckIds(facts.uid, facts.gid);
  }

  absl::Status ReadIds(Facts& facts) const {
    std::string text;
    if (int error = kernel_.ReadFile(Proc("status"), kProcStatusLimit, &text); error != 0) {
      return Refuse(pid(), "status", error);
    }
    SIGNET_ASSIGN_OR_RETURN(ProcStatus status, Parsed(ParseProcStatus(text)));
    facts.uid = status.uids[1];  // effective, as SO_PEERCRED
    facts.gid = status.gids[1];
    facts.supplementary_gids = std::move(status.groups);
    SIGNET_RETURN_IF_ERROR(CheckIds(facts.uid, facts.gid));
    return has_info_ ? ReadInfo(facts) : absl::OkStatus();
  }

  absl::Status ReadExecutable(Facts& facts) const {
    struct stat st;
    if (int error = kernel_.Stat(Proc("exe"), &st); error != 0) return Refuse(pid(), "executable", error);
    facts.executable_device = st.st_dev;
    facts.executable_inode = st.st_ino;
    return absl::OkStatus();
  }

  absl::Status ReadCgroup(Facts& facts) const {
    std::string text;
    if (int error = kernel_.ReadFile(Proc("cgroup"), kProcCgroupLimit, &text); error != 0) {
      return Refuse(pid(), "cgroup", error);
    }
    SIGNET_ASSIGN_OR_RETURN(ProcCgroup cgroup, Parsed(ParseProcCgroup(text)));
    facts.cgroup = std::move(cgroup.unified);
    facts.other_cgroups = std::move(cgroup.others);
    return absl::OkStatus();
  }

  absl::Status ReadStartTime(Facts& facts) const {
    std::string text;
    if (int error = kernel_.ReadFile(Proc("stat"), kProcStatLimit, &text); error != 0) {
      return Refuse(pid(), "stat", error);
    }
    SIGNET_ASSIGN_OR_RETURN(ProcStat stat, Parsed(ParseProcStat(text)));
    facts.start_time = stat.start_time;
    return absl::OkStatus();
  }

  const PeerKernel& kernel_;
  const ucred credentials_;
  const int pidfd_;
  const bool has_info_;
  const uint64_t cgroup_key_;
};

class KernelPinner final : public PeerPinner {
 public:
  KernelPinner(std::unique_ptr<const PeerKernel> kernel, bool peer_pidfd, bool has_info)
      : kernel_(std::move(kernel)), peer_pidfd_(peer_pidfd), has_info_(has_info) {}

  absl::StatusOr<std::shared_ptr<const PeerProcess>> Pin(int fd) const override {
    ucred credentials = {};
    if (int error = kernel_->PeerCredentials(fd, &credentials); error != 0) return Refuse(0, "SO_PEERCRED", error);
    if (credentials.pid <= 0) {
      return Refuse(credentials.pid,
                    "is not visible from the agent's PID namespace: run the agent in the host's (hostPID)");
    }
    const int pidfd = peer_pidfd_ ? kernel_->PeerPidfd(fd) : kernel_->OpenPidfd(credentials.pid);
    if (pidfd < 0) return Refuse(credentials.pid, peer_pidfd_ ? "SO_PEERPIDFD" : "pidfd_open", pidfd);
    auto process = std::make_shared<PinnedProcess>(*kernel_, credentials, pidfd, has_info_);  // owns pidfd
    if (!process->alive()) return Refuse(credentials.pid, "has exited");
    if (!peer_pidfd_) SIGNET_RETURN_IF_ERROR(ProveItHoldsTheOtherEnd(fd, *process));
    return process;
  }

 private:
  // pidfd_open gave the process that has the number now. It is the one that connected, or one that it gave its end to,
  // only if it has the other end open; alive afterwards, so that the number was its own while we looked.
  absl::Status ProveItHoldsTheOtherEnd(int fd, const PinnedProcess& process) const {
    int holds = kernel_->HoldsOtherEnd(fd, process.pid());
    if (holds < 0) return Refuse(process.pid(), "looking for its end of the socket", holds);
    if (holds == 0) return Refuse(process.pid(), "does not hold the other end of the socket");
    SIGNET_RETURN_IF_ERROR(process.ReadFacts().status());  // uid and gid are those of connect() time
    return process.alive() ? absl::OkStatus() : Refuse(process.pid(), "has exited");
  }

  const std::unique_ptr<const PeerKernel> kernel_;
  const bool peer_pidfd_;
  const bool has_info_;
};

// Asked once, of a socket and a process of our own, where no attacker can cause an error: only "the kernel has no such
// thing" means so; all else is a reason not to start (W2).
absl::StatusOr<bool> HasPeerPidfd(const PeerKernel& kernel) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return absl::ErrnoToStatus(errno, "socketpair");
  const int pidfd = kernel.PeerPidfd(pair[0]);
  close(pair[0]);
  close(pair[1]);
  if (pidfd == -ENOPROTOOPT) return false;
  if (pidfd < 0) return absl::ErrnoToStatus(-pidfd, "SO_PEERPIDFD of a socket of the agent's own");
  close(pidfd);
  return true;
}

absl::StatusOr<bool> HasPidfdInfo(const PeerKernel& kernel) {
  const int pidfd = kernel.OpenPidfd(getpid());
  if (pidfd < 0) {
    return absl::ErrnoToStatus(-pidfd,
                               "pidfd_open of the agent itself: Linux 5.3 or later is needed, and a seccomp "
                               "profile must allow it");
  }
  PidfdInfo info;
  const int result = kernel.Info(pidfd, &info);
  close(pidfd);
  if (result == -ENOTTY || result == -EINVAL || result == -EOPNOTSUPP) return false;
  if (result != 0) return absl::ErrnoToStatus(-result, "PIDFD_GET_INFO of the agent itself");
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PeerPinner>> PeerPinner::Create(PinMethod method) {
  return CreateForTest(method, std::make_unique<PeerKernel>());
}

absl::StatusOr<std::unique_ptr<PeerPinner>> PeerPinner::CreateForTest(PinMethod method,
                                                                      std::unique_ptr<const PeerKernel> kernel) {
  bool peer_pidfd = false, has_info = false;
  SIGNET_ASSIGN_OR_RETURN(has_info, HasPidfdInfo(*kernel));
  if (method == PinMethod::kNoPeerPidfd) {
    has_info = false;  // stands for an old kernel, which has neither
  } else {
    SIGNET_ASSIGN_OR_RETURN(peer_pidfd, HasPeerPidfd(*kernel));
  }
  return std::make_unique<KernelPinner>(std::move(kernel), peer_pidfd, has_info);
}

}  // namespace signet::agent
