// A server stream of the Workload API: attest, subscribe, and send the whole state again whenever it differs from what
// was sent (WL-3 to WL-5). One write is in flight at most; what comes meanwhile replaces what waits. Before each
// message leaves, the process is looked at once more; when its evidence has changed, it is attested anew and the stream
// goes on with what it is entitled to now. It ends with PermissionDenied when nothing is left (WL-7), or the process is
// gone.
//
// Threads: gRPC's reactions, the cache's notifier, attestation and the recheck timer all come in; `busy_` is the right
// to call StartWrite or Finish, which one thread has at a time and which is held while a write is in flight. No lock is
// held while anything outside is called.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/api/workload_caller.h"
#include "common/rpc/patience.h"
#include "common/rpc/stream_set.h"

namespace signet::agent {

// A serialised message that many streams share.
using SharedMessage = std::shared_ptr<const std::string>;
// The message for an update with at least one identity.
using Encoder = std::function<SharedMessage(const UpdatePtr&)>;

class UpdateStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                           public rpc::StreamSet::Stream,
                           public std::enable_shared_from_this<UpdateStream> {
 public:
  // For the method handler to return. Lives until gRPC is done with it.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Open(WorkloadCallers& callers, const Encoder& encode,
                                                          const grpc::CallbackServerContext& context);
  // UNIMPLEMENTED, after the header.
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* NotServed(const grpc::CallbackServerContext& context);

  UpdateStream(WorkloadCallers& callers, const Encoder& encode, const grpc::CallbackServerContext& context,
               WorkloadPtr workload, std::shared_ptr<void> counted)
      : callers_(callers),
        encode_(encode),
        context_(context),
        workload_(std::move(workload)),
        counted_(std::move(counted)) {}

  void End(const absl::Status& status) override;
  void Recheck();        // on the slow timer
  void CheckOutdated();  // when an attestor has taken something back

 private:
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  void Attest();
  void OnEvidence(absl::StatusOr<EvidencePtr> evidence);
  void OnNoEvidence(const absl::Status& status);
  // An attestor that cannot answer now ends no stream that was attested lately; it is asked again soon.
  bool MayKeepEvidence() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnUpdate(uint64_t subscription, UpdatePtr update);
  void Subscribe(uint64_t subscription, const spiffe::Selectors& selectors);
  // Of who has busy_: writes, finishes, or gives busy_ back.
  void Pump();
  // False: nothing was sent, go on pumping.
  bool Send(const UpdatePtr& update, const Evidence& evidence);

  WorkloadCallers& callers_;
  const Encoder& encode_;
  const grpc::CallbackServerContext& context_;  // until OnDone
  const WorkloadPtr workload_;
  const std::shared_ptr<void> counted_;
  std::shared_ptr<UpdateStream> self_;  // until OnDone
  rpc::StreamSet::Registration registration_;
  rpc::Patience patience_;

  Mutex mutex_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool attesting_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_back_ ABSL_GUARDED_BY(mutex_) = false;  // next_ waits for new evidence
  std::optional<absl::Status> ending_ ABSL_GUARDED_BY(mutex_);
  EvidencePtr evidence_ ABSL_GUARDED_BY(mutex_);
  UpdatePtr next_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<SvidCache::Subscription> subscription_ ABSL_GUARDED_BY(mutex_);
  // Counts the subscriptions. An update counts only with the evidence it was subscribed to by: what the selectors
  // before were entitled to may still be on its way when the process has become another.
  uint64_t current_ ABSL_GUARDED_BY(mutex_) = 0;

  // Of who has busy_.
  SharedMessage sent_;
  grpc::ByteBuffer in_flight_;
};

}  // namespace signet::agent
