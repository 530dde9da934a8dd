// Whether a caller may call a method: one table (methods.h), one function. What an SVID stands for (agent, admin,
// downstream) is looked up in memory on every call, never remembered from connect time.
// A refusal that rests on memory alone (unknown agent, unknown serial, no entry with the flag) is confirmed in the
// database before it is given, once per caller and second: another server may have just written what is missing here.
// Thread-safe.
// Refusals: kUnauthenticated nobody we know; kPermissionDenied somebody we know, for an agent with
// spire.api.types.PermissionDeniedDetails as payload, which tells SPIRE's agents whether to attest again or to stop.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/server_context.h>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/concurrency/executor.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/mutex.h"
#include "common/spiffe/id.h"
#include "common/time/clock.h"
#include "server/api/caller.h"
#include "server/api/methods.h"
#include "server/datastore/data_store.h"
#include "server/entries/entry_index.h"
#include "server/metrics.h"

namespace signet::server {

// Type URL of the payload.
inline constexpr char kPermissionDeniedDetails[] = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";
// What an agent gets that asks to renew although it can attest again.
absl::Status MustReattestError();

class Authorizer {
 public:
  struct Options {
    spiffe::TrustDomain trust_domain;
    std::vector<spiffe::Id> admin_ids;
  };
  // `executor` is where confirmations read the database. All references must outlive it.
  Authorizer(Options options, CallerSource& callers, const EntryIndex& index, EntryStore& entries, AgentStore& agents,
             Executor& executor, Clock& clock, Metrics& metrics);

  // Holds from the next decision on. Any thread.
  void SetAdminIds(std::vector<spiffe::Id> admin_ids) { admin_ids_.Set(std::move(admin_ids)); }

  // What memory says. `confirm`: a refusal that the database may overturn; ask Confirm() from a thread that may wait.
  struct Decision {
    CallerPtr caller;
    absl::Status status;
    bool confirm = false;
    bool superseded = false;  // refused only because the agent holds a newer SVID than this one
  };
  Decision Decide(Method method, const grpc::ServerContextBase& context);
  Decision Decide(Method method, CallerPtr caller);
  Decision Confirm(Method method, CallerPtr caller);  // reads the database

  // Both together: `then` runs at once when memory suffices, as it does for every call that is granted; otherwise on
  // the executor. `context` is not used after the return.
  using Then = absl::AnyInvocable<void(absl::StatusOr<CallerPtr>)>;
  void Authorize(Method method, const grpc::ServerContextBase& context, Then then);

 private:
  struct View;  // where agents and entries are looked up: memory or database
  void Evaluate(Method method, const View& view, Decision& decision);
  void EvaluateAgent(const AgentRecord* agent, Decision& decision);
  bool IsAdminId(const spiffe::Id& id) const;
  void TakeUpNewSerial(const Caller& caller);
  void CountRefusal(Method method, const Decision& decision);

  const spiffe::TrustDomain trust_domain_;
  LatestValue<std::vector<spiffe::Id>> admin_ids_;
  CallerSource& callers_;
  const EntryIndex& index_;
  EntryStore& entries_;
  AgentStore& agents_;
  Executor& executor_;
  Clock& clock_;
  Metrics& metrics_;

  struct Refusal {
    Decision decision;
    absl::Duration at;  // steady
  };
  // Serials whose ConfirmSerial runs. Shared with its completions, which the store may run after this object is gone.
  struct TakingUp {
    Mutex mutex;
    absl::flat_hash_set<std::string> serials ABSL_GUARDED_BY(mutex);
  };
  const std::shared_ptr<TakingUp> taking_up_ = std::make_shared<TakingUp>();
  Mutex mutex_;
  absl::flat_hash_map<std::string, Refusal> confirmed_ ABSL_GUARDED_BY(mutex_);  // grants, id, serial
};

}  // namespace signet::server
