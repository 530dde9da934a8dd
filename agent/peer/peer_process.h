// The process at the other end of an accepted Unix socket, pinned: a handle that notices PID reuse (W1 to W4).
// Credentials and a pidfd are taken at accept; all facts are read after that; StillTheSame() is the last step before
// anything secret is released. Errors refuse, always: kPermissionDenied. Thread-safe (immutable but for the
// descriptor).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace signet::agent {

class PeerKernel;

class PeerProcess {
 public:
  virtual ~PeerProcess() = default;

  // Of connect() time, from the kernel.
  virtual pid_t pid() const = 0;
  virtual uid_t uid() const = 0;
  virtual gid_t gid() const = 0;
  // A number for its cgroup at connect() time, for quotas alone: nothing is decided by it that needs more than a guess.
  virtual uint64_t cgroup_key() const = 0;

  // Read from /proc/PID while the pidfd was alive before and after.
  struct Facts {
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> supplementary_gids;
    std::string executable;  // target of /proc/PID/exe
    uint64_t executable_device = 0, executable_inode = 0;
    std::string cgroup;                      // the 0:: line's path; "" when there is none
    std::vector<std::string> other_cgroups;  // of the hierarchies of version 1, where they differ from it
    uint64_t cgroup_id = 0;   // inode of its cgroup2 directory, from the pidfd itself; 0: kernel before 6.13
    uint64_t start_time = 0;  // clock ticks after boot, field 22 of /proc/PID/stat
    friend bool operator==(const Facts&, const Facts&) = default;
  };
  virtual absl::StatusOr<Facts> ReadFacts() const = 0;

  // Alive, and uid, gid, executable inode, start time and cgroup as in `before`: a few microseconds. The last check
  // before a secret is released. A process that execs or changes its user must be attested anew.
  virtual absl::Status StillTheSame(const Facts& before) const = 0;
  virtual bool alive() const = 0;
  // An open descriptor of the executable itself (O_RDONLY on /proc/PID/exe), for hashing. The caller closes it.
  virtual absl::StatusOr<int> OpenExecutable() const = 0;
};

// How the peer of a socket is pinned. kAuto probes once at start: SO_PEERPIDFD (Linux 6.5), else pidfd_open together
// with proof by NETLINK_SOCK_DIAG and /proc/PID/fd that this process holds the other end. kNoPeerPidfd forces the
// latter.
enum class PinMethod { kAuto, kNoPeerPidfd };

// Outlives the processes it pinned.
class PeerPinner {
 public:
  virtual ~PeerPinner() = default;
  // Fails when the kernel can do neither, or refuses what it can (a seccomp profile): the message says what is needed.
  static absl::StatusOr<std::unique_ptr<PeerPinner>> Create(PinMethod method);
  static absl::StatusOr<std::unique_ptr<PeerPinner>> CreateForTest(PinMethod method,
                                                                   std::unique_ptr<const PeerKernel> kernel);
  // `fd`: a connected AF_UNIX stream socket just accepted; stays the caller's.
  virtual absl::StatusOr<std::shared_ptr<const PeerProcess>> Pin(int fd) const = 0;
};

}  // namespace signet::agent
