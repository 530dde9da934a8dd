#include "agent/api/update_stream.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/api/workload_server.h"
#include "common/status/grpc_status.h"

namespace signet::agent {
namespace {

// The cheap look misses some changes (attestation.h: full_read_every); from time to time everything is read.
constexpr absl::Duration kFullLookEvery = absl::Minutes(1);
// For so long a stream keeps what all attestors said when one of them cannot say it again: longer than an API server
// restarts, and not for ever. The attestor of pods knows without asking as long as it runs; after a reload it may not
// know a pod any more that was deleted meanwhile.
constexpr absl::Duration kKeepUnanswered = absl::Minutes(10);

// A stream that was refused before it began.
class Refused final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit Refused(const absl::Status& status) { Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

// Shares the bytes with gRPC instead of copying them for each stream.
grpc::ByteBuffer Share(const SharedMessage& message) {
  auto* held = new SharedMessage(message);
  grpc::Slice slice(
      const_cast<char*>(message->data()), message->size(),
      [](void* user_data) { delete static_cast<SharedMessage*>(user_data); }, held);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* UpdateStream::Open(WorkloadCallers& callers, const Encoder& encode,
                                                               const grpc::CallbackServerContext& context) {
  absl::StatusOr<WorkloadPtr> workload = callers.Admit(context);
  if (!workload.ok()) return new Refused(workload.status());
  std::shared_ptr<void> counted = callers.CountStream(**workload);
  if (counted == nullptr) {
    return new Refused(absl::UnavailableError(absl::StrCat("uid ", (*workload)->uid, " has too many streams open")));
  }
  auto stream = std::make_shared<UpdateStream>(callers, encode, context, *std::move(workload), std::move(counted));
  UpdateStream* reactor = stream.get();
  stream->self_ = stream;
  stream->registration_ = callers.deps().streams.Add(stream);
  stream->Attest();
  return reactor;  // `stream` goes only after gRPC has it: a reactor that finished already still lives by self_
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* UpdateStream::NotServed(const grpc::CallbackServerContext& context) {
  absl::Status status = CheckWorkloadHeader(context);
  return new Refused(status.ok() ? absl::UnimplementedError("WIT-SVIDs are not served") : status);
}

void UpdateStream::Attest() {
  {
    MutexLock lock(mutex_);
    if (attesting_ || finished_) return;
    attesting_ = true;
  }
  callers_.deps().attestation.Attest(workload_, [self = shared_from_this()](absl::StatusOr<EvidencePtr> evidence) {
    self->OnEvidence(std::move(evidence));
  });
}

void UpdateStream::OnEvidence(absl::StatusOr<EvidencePtr> evidence) {
  if (!evidence.ok()) return OnNoEvidence(evidence.status());
  bool resubscribe = false, pump = false;
  uint64_t subscription = 0;
  {
    MutexLock lock(mutex_);
    if (!(*evidence)->complete && MayKeepEvidence() && evidence_->complete && !evidence_->outdated() &&
        evidence_->facts == (*evidence)->facts) {
      attesting_ = false;
      return;
    }
    resubscribe = evidence_ == nullptr || evidence_->selectors != (*evidence)->selectors;
    evidence_ = *evidence;
    held_back_ = false;
    if (resubscribe) {
      next_ = nullptr;  // what the other selectors were entitled to
      subscription = ++current_;
    }
    if (next_ != nullptr && !busy_) pump = busy_ = true;
  }
  if (resubscribe) Subscribe(subscription, (*evidence)->selectors);
  bool again = false;
  {
    MutexLock lock(mutex_);
    attesting_ = false;
    // The process changed once more while this was on its way, or what is known of it did.
    again = held_back_ || (evidence_ != nullptr && evidence_->outdated());
  }
  if (pump) Pump();
  if (again) Attest();
}

bool UpdateStream::MayKeepEvidence() const {
  return evidence_ != nullptr && !held_back_ &&
         callers_.deps().clock.Steady() - evidence_->attested_at < kKeepUnanswered;
}

void UpdateStream::OnNoEvidence(const absl::Status& status) {
  bool keep = false;
  {
    MutexLock lock(mutex_);
    attesting_ = false;
    keep = MayKeepEvidence() && status.code() == absl::StatusCode::kUnavailable;
  }
  if (!keep) End(status);
}

void UpdateStream::Subscribe(uint64_t subscription, const spiffe::Selectors& selectors) {
  std::unique_ptr<SvidCache::Subscription> old;
  {
    MutexLock lock(mutex_);
    old = std::move(subscription_);
  }
  old.reset();  // may wait for a call of OnUpdate: not under the lock
  std::unique_ptr<SvidCache::Subscription> made =
      callers_.deps().cache.Subscribe(selectors, [weak = weak_from_this(), subscription](UpdatePtr update) {
        if (auto self = weak.lock()) self->OnUpdate(subscription, std::move(update));
      });
  MutexLock lock(mutex_);
  if (!finished_) std::swap(subscription_, made);
}  // a subscription that came too late ends here

void UpdateStream::OnUpdate(uint64_t subscription, UpdatePtr update) {
  {
    MutexLock lock(mutex_);
    if (finished_ || subscription != current_) return;
    next_ = std::move(update);
    if (busy_ || held_back_) return;
    busy_ = true;
  }
  Pump();
}

void UpdateStream::End(const absl::Status& status) {
  {
    MutexLock lock(mutex_);
    if (finished_ || ending_.has_value()) return;
    ending_ = status;
    if (busy_) {  // a write is in flight: its end finishes the stream
      patience_.Begin(context_);
      return;
    }
    busy_ = true;
  }
  Pump();
}

void UpdateStream::Pump() {
  for (;;) {
    UpdatePtr update;
    EvidencePtr evidence;
    std::optional<absl::Status> ending;
    {
      MutexLock lock(mutex_);
      if (ending_.has_value()) {
        finished_ = true;  // busy_ stays: nobody writes any more
        ending = ending_;
      } else if (next_ == nullptr || held_back_) {
        busy_ = false;
        return;
      } else {
        update = std::exchange(next_, nullptr);
        evidence = evidence_;
      }
    }
    if (ending.has_value()) return Finish(ToGrpc(*ending));
    if (Send(update, *evidence)) return;
  }
}

bool UpdateStream::Send(const UpdatePtr& update, const Evidence& evidence) {
  SharedMessage message;
  if (!update->identities.empty()) {
    message = encode_(update);
    if (sent_ != nullptr && *sent_ == *message) return false;
  }
  // The last step before anything leaves.
  if (absl::Status same = Attestation::Confirm(*workload_, evidence); !same.ok()) {
    if (!workload_->process()->alive()) {
      MutexLock lock(mutex_);
      if (!ending_.has_value()) ending_ = same;
      return false;
    }
    {
      MutexLock lock(mutex_);
      if (next_ == nullptr) next_ = update;
      held_back_ = true;
    }
    Attest();
    return false;
  }
  if (message == nullptr) {
    MutexLock lock(mutex_);
    if (!ending_.has_value()) ending_ = NoIdentity();
    return false;
  }
  sent_ = message;
  in_flight_ = Share(message);
  StartWrite(&in_flight_);
  return true;
}

void UpdateStream::Recheck() {
  EvidencePtr evidence;
  {
    MutexLock lock(mutex_);
    if (finished_ || attesting_ || evidence_ == nullptr) return;
    evidence = evidence_;
  }
  if (!workload_->process()->alive()) return End(absl::PermissionDeniedError("the process is gone"));
  const bool read_lately = callers_.deps().clock.Steady() - evidence->read_at < kFullLookEvery;
  if (read_lately && evidence->complete && Attestation::Confirm(*workload_, *evidence).ok()) return;
  Attest();  // OnEvidence compares the selectors
}

void UpdateStream::CheckOutdated() {
  {
    MutexLock lock(mutex_);
    if (finished_ || attesting_ || evidence_ == nullptr || !evidence_->outdated()) return;
  }
  Attest();
}

void UpdateStream::OnWriteDone(bool ok) {
  in_flight_.Clear();
  if (!ok) {
    MutexLock lock(mutex_);
    if (!ending_.has_value()) ending_ = absl::CancelledError("the caller is gone");
  }
  Pump();
}

void UpdateStream::OnCancel() { End(absl::CancelledError("the caller is gone")); }

void UpdateStream::OnDone() {
  patience_.Done();
  registration_.Reset();
  std::unique_ptr<SvidCache::Subscription> subscription;
  {
    MutexLock lock(mutex_);
    finished_ = true;
    subscription = std::move(subscription_);
  }
  subscription.reset();
  self_.reset();  // perhaps the last
}

}  // namespace signet::agent
