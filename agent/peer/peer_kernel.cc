#include "agent/peer/peer_kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/unix_diag.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // include/uapi/asm-generic/socket.h, Linux 6.5
#endif
#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C  // include/uapi/linux/sockios.h: the network namespace of a socket
#endif

namespace signet::agent {
namespace {

// include/uapi/linux/pidfd.h, Linux 6.13: the first version of the structure, 64 bytes.
struct KernelPidfdInfo {
  uint64_t mask, cgroupid;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
static_assert(sizeof(KernelPidfdInfo) == 64);
constexpr uint64_t kInfoPid = 1, kInfoCreds = 2, kInfoCgroupId = 4;
#define SIGNET_PIDFD_GET_INFO _IOWR(0xFF, 11, KernelPidfdInfo)

// A process may have a million descriptors open; walking that many at each accept would be a weapon (about 1 us each).
constexpr int kMaxDescriptorsWalked = 32768;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

// The inode of the socket at the other end of the one with `inode` and `cookie`, by the diag socket `netlink`.
int AskPeerInode(int netlink, uint32_t inode, uint64_t cookie, uint32_t* peer) {
  struct {
    nlmsghdr header;
    unix_diag_req request;
  } message = {};
  message.header.nlmsg_len = sizeof(message);
  message.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  message.header.nlmsg_flags = NLM_F_REQUEST;
  message.header.nlmsg_seq = 1;
  message.request.sdiag_family = AF_UNIX;
  message.request.udiag_states = UINT32_MAX;
  message.request.udiag_ino = inode;
  message.request.udiag_show = UDIAG_SHOW_PEER;
  // Inode numbers are 32 bits and come round; the cookie makes the kernel refuse another socket with the same one.
  message.request.udiag_cookie[0] = static_cast<uint32_t>(cookie);
  message.request.udiag_cookie[1] = static_cast<uint32_t>(cookie >> 32);
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  if (sendto(netlink, &message, sizeof(message), 0, reinterpret_cast<sockaddr*>(&kernel), sizeof(kernel)) < 0) {
    return -errno;
  }
  alignas(nlmsghdr) char buffer[4096];
  sockaddr_nl from = {};
  socklen_t from_size = sizeof(from);
  ssize_t received = recvfrom(netlink, buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&from), &from_size);
  if (received < 0) return -errno;
  if (from.nl_pid != 0) return -EPROTO;  // not from the kernel
  auto left = static_cast<unsigned>(received);
  for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
    if (header->nlmsg_type == NLMSG_ERROR) {
      if (header->nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr))) return -EPROTO;
      int error = static_cast<nlmsgerr*>(NLMSG_DATA(header))->error;
      return error == 0 ? -EPROTO : error;
    }
    if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len < NLMSG_LENGTH(sizeof(unix_diag_msg))) continue;
    auto* socket = static_cast<unix_diag_msg*>(NLMSG_DATA(header));
    if (socket->udiag_ino != inode) return -EPROTO;
    auto attributes_left = static_cast<unsigned>(header->nlmsg_len - NLMSG_LENGTH(sizeof(*socket)));
    for (auto* attribute = reinterpret_cast<rtattr*>(socket + 1); RTA_OK(attribute, attributes_left);
         attribute = RTA_NEXT(attribute, attributes_left)) {
      if (attribute->rta_type != UNIX_DIAG_PEER || RTA_PAYLOAD(attribute) < sizeof(uint32_t)) continue;
      memcpy(peer, RTA_DATA(attribute), sizeof(*peer));
      return *peer == 0 ? -ENOTCONN : 0;
    }
    return -ENOTCONN;  // the other end is closed
  }
  return -EPROTO;
}

int OpenDiagSocket() {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  return fd < 0 ? -errno : fd;
}

// An accepted socket belongs to the network namespace of who connected, a container's for example, and unix_diag
// answers only from within it. Entering it changes the calling thread, so a thread is spent on it.
int OpenDiagSocketWhere(int socket) {
  Fd network(ioctl(socket, SIOCGSKNS));
  if (network.get() < 0) return -errno;
  int result = -1;
  std::thread([&] { result = setns(network.get(), CLONE_NEWNET) == 0 ? OpenDiagSocket() : -errno; }).join();
  return result;
}

int PeerInode(int socket, uint32_t* peer) {
  struct stat st;
  if (fstat(socket, &st) != 0) return -errno;
  if (st.st_ino > UINT32_MAX) return -ERANGE;
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return -errno;
  const auto inode = static_cast<uint32_t>(st.st_ino);
  Fd here(OpenDiagSocket());
  if (here.get() < 0) return here.get();
  int result = AskPeerInode(here.get(), inode, cookie, peer);
  if (result != -ENOENT) return result;
  Fd there(OpenDiagSocketWhere(socket));
  if (there.get() < 0) return there.get();
  return AskPeerInode(there.get(), inode, cookie, peer);
}

}  // namespace

int PeerKernel::PeerCredentials(int socket, ucred* out) const {
  socklen_t size = sizeof(*out);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, out, &size) != 0) return -errno;
  return size == sizeof(*out) ? 0 : -EPROTO;
}

int PeerKernel::PeerPidfd(int socket) const {
  int pidfd = -1;
  socklen_t size = sizeof(pidfd);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) != 0) return -errno;
  return pidfd;  // close-on-exec, as every pidfd
}

int PeerKernel::OpenPidfd(pid_t pid) const {
  int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  return pidfd < 0 ? -errno : pidfd;
}

int PeerKernel::Alive(int pidfd) const {
  pollfd poller = {pidfd, POLLIN, 0};
  int ready = poll(&poller, 1, 0);
  if (ready < 0) return -errno;
  return ready == 0 ? 1 : 0;
}

int PeerKernel::Info(int pidfd, PidfdInfo* out) const {
  KernelPidfdInfo info = {};
  info.mask = kInfoPid | kInfoCreds | kInfoCgroupId;
  if (ioctl(pidfd, SIGNET_PIDFD_GET_INFO, &info) != 0) return -errno;
  // For a process that was reaped the call succeeds and leaves these out.
  if ((info.mask & kInfoPid) == 0 || (info.mask & kInfoCreds) == 0) return -ESRCH;
  out->tgid = static_cast<pid_t>(info.tgid);
  out->effective_uid = info.euid;
  out->effective_gid = info.egid;
  out->cgroup_id = (info.mask & kInfoCgroupId) != 0 ? info.cgroupid : 0;
  return 0;
}

int PeerKernel::ReadFile(const std::string& path, size_t limit, std::string* out) const {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return -errno;
  out->resize(std::min<size_t>(limit + 1, 4096));
  size_t used = 0;
  for (;;) {
    ssize_t n = read(fd.get(), out->data() + used, out->size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) break;
    used += static_cast<size_t>(n);
    if (used > limit) return -EFBIG;
    if (used == out->size()) out->resize(std::min(limit + 1, out->size() * 2));
  }
  out->resize(used);
  return 0;
}

int PeerKernel::ReadLink(const std::string& path, std::string* out) const {
  char buffer[PATH_MAX];
  ssize_t n = readlink(path.c_str(), buffer, sizeof(buffer));
  if (n < 0) return -errno;
  if (n == sizeof(buffer)) return -ENAMETOOLONG;
  out->assign(buffer, static_cast<size_t>(n));
  return 0;
}

int PeerKernel::Stat(const std::string& path, struct stat* out) const {
  return stat(path.c_str(), out) == 0 ? 0 : -errno;
}

int PeerKernel::HoldsOtherEnd(int socket, pid_t pid) const {
  uint32_t inode = 0;
  if (int error = PeerInode(socket, &inode); error != 0) return error;
  const std::string wanted = absl::StrCat("socket:[", inode, "]");
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(absl::StrCat("/proc/", pid, "/fd").c_str()), closedir);
  if (directory == nullptr) return -errno;
  char target[64];
  for (int walked = 0; walked < kMaxDescriptorsWalked;) {
    errno = 0;
    const dirent* entry = readdir(directory.get());
    if (entry == nullptr) return errno != 0 ? -errno : 0;
    if (entry->d_name[0] == '.') continue;
    ++walked;
    ssize_t n = readlinkat(dirfd(directory.get()), entry->d_name, target, sizeof(target));
    if (n > 0 && std::string_view(target, static_cast<size_t>(n)) == wanted) return 1;
  }
  return -E2BIG;
}

}  // namespace signet::agent
