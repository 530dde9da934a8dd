// The unix attestor: what the kernel says of a process, as SPIRE's attestor of that name writes it.
// Selectors: uid, user, gid, group (effective), supplementary_gid, supplementary_group; with discover_path also path
// and sha256, both of the executable the kernel runs (/proc/PID/exe), so a script is its interpreter. Completes inline;
// may wait for the name service (users and groups, remembered for a minute) and for hashing. Errors: kUnavailable the
// executable cannot be read; kPermissionDenied the process is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "agent/workloadattestor/file_hash_cache.h"
#include "agent/workloadattestor/workload_attestor.h"
#include "common/concurrency/mutex.h"
#include "common/time/clock.h"

namespace signet::agent {

class UnixAttestor final : public WorkloadAttestor {
 public:
  struct Options {
    bool discover_path = false;
    bool hash = true;                         // with discover_path
    uint64_t hash_size_limit = 512ULL << 20;  // bytes; larger executables get no sha256; 0: no limit
  };
  UnixAttestor(Options options, Clock& clock);

  absl::string_view name() const override { return "unix"; }
  void Attest(std::shared_ptr<const PeerProcess> process, const PeerProcess::Facts& facts, absl::Duration deadline,
              Done done) override;

 private:
  // Empty: no such user or group. Not an error: in a container's user database there are other names anyway.
  std::string UserName(uid_t uid);
  std::string GroupName(gid_t gid);
  absl::StatusOr<spiffe::Selectors> Select(const PeerProcess& process, const PeerProcess::Facts& facts);

  struct Name {
    std::string name;
    absl::Duration looked_up;  // steady time
  };
  using Names = absl::flat_hash_map<uint32_t, Name>;
  template <typename LookUp>
  std::string Remembered(Names UnixAttestor::*names, uint32_t id, LookUp look_up);

  const Options options_;
  Clock& clock_;
  FileHashCache hashes_;
  Mutex mutex_;
  Names users_ ABSL_GUARDED_BY(mutex_);
  Names groups_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::agent
