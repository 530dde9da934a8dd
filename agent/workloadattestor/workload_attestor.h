// Seam: what a process is, as selectors, and for how long that holds. One object a configured attestor; calls run
// concurrently. Work that is memory and /proc only may complete inline; what waits (an API server) completes later, on
// any thread, or with kDeadlineExceeded by `deadline` (steady time). Errors: kUnavailable this attestor cannot say now.
// A reload replaces attestors: one that was asked lives until it has answered or the deadline is over, and its
// destructor ends what it still has under way.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "agent/peer/peer_process.h"
#include "common/spiffe/selector.h"

namespace signet::agent {

// What an attestor says of a process.
struct Finding {
  // Implicit: most attestors say what holds as long as the process is the same.
  Finding(spiffe::Selectors all) : selectors(std::move(all)) {}  // NOLINT(google-explicit-constructor)
  Finding(spiffe::Selectors all, std::shared_ptr<const std::atomic<bool>> until)
      : selectors(std::move(all)), outdated(std::move(until)) {}

  spiffe::Selectors selectors;
  // Becomes true, once, when the attestor would say something else by now; who holds the answer then asks again. Null:
  // never, before the process itself changes.
  std::shared_ptr<const std::atomic<bool>> outdated;
};

class WorkloadAttestor {
 public:
  virtual ~WorkloadAttestor() = default;
  virtual absl::string_view name() const = 0;
  using Done = absl::AnyInvocable<void(absl::StatusOr<Finding>)>;
  virtual void Attest(std::shared_ptr<const PeerProcess> process, const PeerProcess::Facts& facts,
                      absl::Duration deadline, Done done) = 0;
  // Once, when the attestor is taken into use, before the first Attest; until then it runs no thread and asks nobody: a
  // reload makes attestors only to see whether they can be made. `outdated` is to be called, from any thread and
  // without a lock held, after answers became outdated. It is quick.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): who overrides it keeps it
  virtual void Start(std::function<void()> /*outdated*/) {}
};

}  // namespace signet::agent
