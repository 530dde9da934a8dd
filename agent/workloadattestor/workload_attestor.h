// Seam: what a process is, as selectors. One object a configured attestor; calls run concurrently.
// Work that is memory and /proc only may complete inline; what waits (an API server) completes later, on any thread, or
// with kDeadlineExceeded by `deadline` (steady time). Errors: kUnavailable this attestor cannot say now.
// A reload replaces attestors: one that was asked lives until it has answered or the deadline is over, and its
// destructor ends what it still has under way.
#pragma once

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "agent/peer/peer_process.h"
#include "common/spiffe/selector.h"

namespace signet::agent {

class WorkloadAttestor {
 public:
  virtual ~WorkloadAttestor() = default;
  virtual absl::string_view name() const = 0;
  using Done = absl::AnyInvocable<void(absl::StatusOr<spiffe::Selectors>)>;
  virtual void Attest(std::shared_ptr<const PeerProcess> process, const PeerProcess::Facts& facts,
                      absl::Duration deadline, Done done) = 0;
};

}  // namespace signet::agent
