#include "server/sync/agent_sync_service.h"

#include <atomic>
#include <utility>

#include <grpcpp/support/server_callback.h>

#include "common/concurrency/executor.h"
#include "common/concurrency/mutex.h"
#include "common/crypto/random.h"
#include "common/log/log.h"
#include "common/rpc/patience.h"
#include "common/status/grpc_status.h"
#include "server/api/admission.h"
#include "server/api/call.h"
#include "server/sync/bundle_updates.h"
#include "server/sync/sync_conversation.h"
#include "signet/server/v1/agent_sync.grpc.pb.h"

namespace signet::server {
namespace {

// An agent that changes over to a new SVID, or whose lost connection is not yet noticed, holds two or three; what is
// much more is a mistake or worse.
constexpr size_t kStreamsPerAgent = 8;
constexpr size_t kStreams = 200'000;
constexpr uint32_t kGoAwaySpreadMs = 5000;

// What all streams share.
struct Shared {
  explicit Shared(AgentSyncServiceDeps d)
      : deps(std::move(d)),
        options{deps.trust_domain, deps.epoch, deps.max_message_bytes, deps.tokens},
        bundles(deps.index),
        admission({.per_identity = kStreamsPerAgent, .anonymous = 0, .total = kStreams}) {}

  const AgentSyncServiceDeps deps;
  const SyncConversation::Options options;
  BundleUpdates bundles;
  Admission admission;
  std::atomic<int> open = 0;
  // Last: its threads use the above. The streams hold it through this object, which they outlive never.
  Executor senders{{.name = "agent-sync", .threads = 2, .queue_limit = kStreams}};
};

class Stream final : public grpc::ServerBidiReactor<v1::AgentMessage, v1::ServerMessage>,
                     public std::enable_shared_from_this<Stream> {
 public:
  Stream(Shared& shared, grpc::CallbackServerContext* context) : shared_(shared), context_(context) {}

  // Owns itself from here to OnDone().
  static Stream* Start(Shared& shared, grpc::CallbackServerContext* context) {
    auto stream = std::make_shared<Stream>(shared, context);
    stream->self_ = stream;
    Stream* const raw = stream.get();
    shared.deps.authorizer.Authorize(Method::kSync, *context,
                                     [stream = std::move(stream)](absl::StatusOr<CallerPtr> caller) {
                                       if (!caller.ok()) return stream->Close(caller.status());
                                       stream->Begin(*std::move(caller));
                                     });
    return raw;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Close(absl::OkStatus());  // the agent goes
    const absl::Status status = Handle();
    if (!status.ok()) return Close(status);
    MutexLock lock(mutex_);
    if (!closed_) StartRead(&in_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Abandon();
    {
      MutexLock lock(mutex_);
      writing_ = false;
      if (closed_) return FinishWithNotice();
    }
    Send();
  }

  void OnCancel() override { Abandon(); }

  void OnDone() override {
    patience_.Done();
    std::unique_ptr<EntryIndex::Subscription> subscription;
    std::unique_ptr<TokenUpdates::Subscription> tokens;
    std::unique_ptr<StreamRegistry::Handle> handle;
    {
      MutexLock lock(mutex_);
      done_ = true;
      subscription = std::move(subscription_);
      tokens = std::move(tokens_);
      handle = std::move(handle_);
    }
    if (handle != nullptr) shared_.deps.metrics.sync_streams.Set(--shared_.open);
    // Without the lock: each waits for a call of its own that is running.
    subscription.reset();
    tokens.reset();
    handle.reset();
    self_.reset();
  }

 private:
  void Begin(CallerPtr caller);
  absl::Status Handle();
  void KeepVersion(const spiffe::Id& id, const std::string& version);
  void OnChange(const AgentChange& change);
  void OnTokens(const TokenUpdates::Note& note);
  bool Schedule() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Send();
  void Close(const absl::Status& status);
  void Abandon();
  void FinishNow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishWithNotice() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MakeNotice(const Caller& caller, const absl::Status& status, v1::Notice& notice) const;

  Shared& shared_;
  grpc::CallbackServerContext* const context_;  // until OnDone()
  std::shared_ptr<Stream> self_;
  v1::AgentMessage in_;  // of the read that is under way

  rpc::Patience patience_;
  Mutex mutex_;
  CallerPtr caller_ ABSL_GUARDED_BY(mutex_);  // null: not yet authorised
  Admission::Ticket ticket_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<EntryIndex::Subscription> subscription_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<TokenUpdates::Subscription> tokens_ ABSL_GUARDED_BY(mutex_);  // null: no token service
  std::unique_ptr<StreamRegistry::Handle> handle_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<SyncConversation> conversation_ ABSL_GUARDED_BY(mutex_);
  v1::ServerMessage out_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;  // a Send() is queued
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;     // nothing more is read, or written but a notice
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;   // gRPC has been told
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

// The stream may end at any moment, even before this: then what is made here goes at once.
void Stream::Begin(CallerPtr caller) {
  absl::StatusOr<Admission::Ticket> ticket = shared_.admission.Enter(caller->id->string());
  if (!ticket.ok()) return Close(ticket.status());
  {
    MutexLock lock(mutex_);
    caller_ = caller;
    conversation_ =
        std::make_unique<SyncConversation>(shared_.options, *caller->id, shared_.deps.index, shared_.bundles);
  }
  // Before the first look at the index, so that nothing is missed in between.
  auto subscription =
      shared_.deps.index.Subscribe(*caller->id, [this](const AgentChange& change) { OnChange(change); });
  std::unique_ptr<TokenUpdates::Subscription> tokens;
  if (shared_.deps.tokens != nullptr) {
    tokens = shared_.deps.tokens->Subscribe([this](const TokenUpdates::Note& note) { OnTokens(note); });
  }
  auto handle =
      shared_.deps.streams.Register(Method::kSync, caller, [this](const absl::Status& status) { Close(status); });
  MutexLock lock(mutex_);
  if (done_) return;
  ticket_ = *std::move(ticket);
  subscription_ = std::move(subscription);
  tokens_ = std::move(tokens);
  handle_ = std::move(handle);
  shared_.deps.metrics.sync_streams.Set(++shared_.open);
  if (!closed_) StartRead(&in_);
}

absl::Status Stream::Handle() {
  std::string version;
  std::vector<absl::Duration> propagation;
  CallerPtr caller;
  {
    MutexLock lock(mutex_);
    caller = caller_;
    if (in_.has_token_interest() && tokens_ != nullptr) tokens_->SetInterested(in_.token_interest().wanted());
    const absl::Status status = conversation_->OnMessage(in_, shared_.deps.clock.Steady());
    if (!status.ok()) return status;
    propagation = conversation_->TakePropagation();
    if (in_.has_hello()) version = conversation_->agent_version();
    in_.Clear();
  }
  for (const absl::Duration& time : propagation) {
    shared_.deps.metrics.propagation_seconds.Observe(absl::ToDoubleSeconds(time));
  }
  if (!version.empty()) KeepVersion(*caller->id, version);
  Send();
  return absl::OkStatus();
}

void Stream::KeepVersion(const spiffe::Id& id, const std::string& version) {
  const AgentPtr agent = shared_.deps.index.FindAgent(id);
  if (agent == nullptr || agent->agent_version == version) return;
  shared_.deps.agents.SetAgentVersion(id, version, [id](const absl::Status& status) {
    if (!status.ok())
      SIGNET_LOG(warn, "agent version not kept", {{"agent_id", id.string()}, {"error", status.message()}});
  });
}

// On the feed applier's thread, which has other agents to tell: the work is left to the senders.
void Stream::OnChange(const AgentChange& change) {
  {
    MutexLock lock(mutex_);
    conversation_->OnChange(change, shared_.deps.clock.Steady());
    if (!Schedule()) return;
  }
  if (!shared_.senders.Post([stream = shared_from_this()] { stream->Send(); })) Send();
}

void Stream::OnTokens(const TokenUpdates::Note& note) {
  {
    MutexLock lock(mutex_);
    conversation_->OnTokens(note);
    if (!Schedule()) return;
  }
  if (!shared_.senders.Post([stream = shared_from_this()] { stream->Send(); })) Send();
}

bool Stream::Schedule() { return !closed_ && !writing_ && !std::exchange(scheduled_, true); }

void Stream::Send() {
  MutexLock lock(mutex_);
  scheduled_ = false;
  if (closed_ || writing_) return;
  if (!conversation_->Next(out_)) return;
  writing_ = true;
  StartWrite(&out_);
}

// The first one counts. The agent is told the reason before the end; a write that is under way may finish first, but an
// agent that does not read is not waited for long.
void Stream::Close(const absl::Status& status) {
  LogFailure(Method::kSync, status);
  MutexLock lock(mutex_);
  if (done_) return;
  patience_.Begin(*context_);
  if (std::exchange(closed_, true)) return;
  end_ = status;
  if (!writing_) FinishWithNotice();
}

// There is nobody to tell.
void Stream::Abandon() {
  MutexLock lock(mutex_);
  if (!std::exchange(closed_, true)) end_ = absl::CancelledError("agent is gone");
  FinishNow();
}

void Stream::FinishNow() {
  if (!std::exchange(finished_, true)) Finish(ToGrpc(end_));
}

void Stream::FinishWithNotice() {
  out_.Clear();
  if (caller_ == nullptr || !MakeNotice(*caller_, end_, *out_.mutable_notice())) return FinishNow();
  if (!std::exchange(finished_, true)) StartWriteAndFinish(&out_, grpc::WriteOptions(), ToGrpc(end_));
}

bool Stream::MakeNotice(const Caller& caller, const absl::Status& status, v1::Notice& notice) const {
  if (absl::IsUnavailable(status)) {  // the server stops: come back, but not all at once
    const std::string random = crypto::RandomBytes(2);
    const uint32_t number = static_cast<unsigned char>(random[0]) << 8 | static_cast<unsigned char>(random[1]);
    notice.set_kind(v1::Notice::KIND_GO_AWAY);
    notice.set_delay_ms(number % kGoAwaySpreadMs);
    return true;
  }
  if (!absl::IsPermissionDenied(status)) return false;
  const AgentPtr agent = shared_.deps.index.FindAgent(*caller.id);
  if (agent == nullptr) {
    notice.set_kind(v1::Notice::KIND_EVICTED);
  } else if (agent->banned) {
    notice.set_kind(v1::Notice::KIND_BANNED);
  } else {
    return false;
  }
  return true;
}

class AgentSyncService final : public v1::AgentSync::CallbackService {
 public:
  explicit AgentSyncService(AgentSyncServiceDeps deps) : shared_(std::move(deps)) {}

  grpc::ServerBidiReactor<v1::AgentMessage, v1::ServerMessage>* Sync(grpc::CallbackServerContext* context) override {
    return Stream::Start(shared_, context);
  }

 private:
  Shared shared_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAgentSyncService(AgentSyncServiceDeps deps) {
  return std::make_unique<AgentSyncService>(std::move(deps));
}

}  // namespace signet::server
