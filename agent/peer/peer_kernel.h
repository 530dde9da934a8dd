// The system calls behind PeerPinner, one method each, so that a test can make one of them fail (W2). The methods of
// this class are the real ones. Results are 0 or a descriptor, or -errno. Thread-safe.
#pragma once

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <string>

namespace signet::agent {

// Of PIDFD_GET_INFO (Linux 6.13): the ids and the cgroup of a process, read through its pidfd, hence free of PID reuse.
struct PidfdInfo {
  pid_t tgid = 0;
  uid_t effective_uid = 0;
  gid_t effective_gid = 0;
  uint64_t cgroup_id = 0;  // inode of its directory in the cgroup2 hierarchy
};

class PeerKernel {
 public:
  virtual ~PeerKernel() = default;

  virtual int PeerCredentials(int socket, ucred* out) const;  // SO_PEERCRED
  virtual int PeerPidfd(int socket) const;                    // SO_PEERPIDFD (Linux 6.5)
  virtual int OpenPidfd(pid_t pid) const;                     // pidfd_open (Linux 5.3)
  // 1 while the process lives, 0 once it has exited, reaped or not. A descriptor proves nothing: newer kernels give one
  // for a process that was reaped long ago (W3).
  virtual int Alive(int pidfd) const;
  // -ESRCH when the kernel no longer knows who that was.
  virtual int Info(int pidfd, PidfdInfo* out) const;

  // -EFBIG when the file is longer than `limit`.
  virtual int ReadFile(const std::string& path, size_t limit, std::string* out) const;
  virtual int ReadLink(const std::string& path, std::string* out) const;
  virtual int Stat(const std::string& path, struct stat* out) const;

  // Whether `pid` has the socket at the other end of `socket` among its descriptors: 1 or 0. Asks unix_diag, in the
  // network namespace of the socket, and walks /proc/PID/fd up to a limit.
  virtual int HoldsOtherEnd(int socket, pid_t pid) const;
};

}  // namespace signet::agent
