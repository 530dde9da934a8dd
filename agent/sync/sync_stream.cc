#include "agent/sync/sync_stream.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "agent/sync/wire.h"
#include "common/log/log.h"
#include "common/rpc/client_channel.h"
#include "common/spiffe/wire.h"
#include "signet/server/v1/agent_sync.grpc.pb.h"

namespace signet::agent {
namespace {

namespace sync_v1 = signet::server::v1;

constexpr size_t kMaxInboxBytes = 4 << 20;  // unread messages; beyond it the server waits
constexpr int kWantPerMessage = 500;

// What cannot be read is left out so that less is found good, never more: a resource is dropped, a revocation stays.
TokenUpdate TokensFromWire(const sync_v1::TokenState& wire, uint64_t seq) {
  TokenUpdate update{.whole = wire.whole(),
                     .complete = wire.complete(),
                     .truncated = wire.truncated(),
                     .seq = seq,
                     .issuer = wire.issuer(),
                     .introspection_endpoint = wire.introspection_endpoint(),
                     .offline_grace = absl::Milliseconds(wire.offline_grace_ms())};
  if (!wire.token_keys().empty()) {
    update.keys.emplace();
    for (const sync_v1::TokenKey& key : wire.token_keys()) {
      absl::StatusOr<crypto::PublicKey> parsed = crypto::PublicKey::ParseSpki(key.public_key());
      if (parsed.ok()) {
        update.keys->emplace(key.kid(), *std::move(parsed));
      } else {
        SIGNET_LOG(error, "token key from the server cannot be used", {{"error", parsed.status().message()}});
      }
    }
  }
  for (const sync_v1::TokenResource& resource : wire.resources()) {
    oauth::ResourceState state{.servers = {resource.servers().begin(), resource.servers().end()}};
    // An unknown number is a stricter one of a later version.
    state.minimum_binding = resource.minimum_binding() == 1   ? oauth::MinimumBinding::kBearer
                            : resource.minimum_binding() == 2 ? oauth::MinimumBinding::kDpop
                                                              : oauth::MinimumBinding::kMtls;
    for (const sync_v1::TokenResource::Tool& tool : resource.tools()) {
      state.tools[tool.name()] = {tool.hash(),
                                  tool.risk() == 1   ? oauth::Risk::kLow
                                  : tool.risk() == 2 ? oauth::Risk::kMedium
                                                     : oauth::Risk::kHigh,
                                  tool.read_only()};
    }
    update.resources.emplace_back(resource.uri(), std::move(state));
  }
  update.removed_resources.assign(wire.removed_resources().begin(), wire.removed_resources().end());
  for (const sync_v1::TokenRevocation& revocation : wire.revocations()) {
    update.revocations.push_back({.kind = static_cast<oauth::EntityKind>(revocation.kind()),
                                  .entity = revocation.entity(),
                                  .seq = revocation.seq(),
                                  .not_before = absl::FromUnixSeconds(revocation.not_before()),
                                  .reinstated = revocation.reinstated()});
  }
  return update;
}

SyncMessage MessageFromWire(const sync_v1::ServerMessage& wire, const spiffe::TrustDomain& trust_domain) {
  SyncMessage message;
  message.seq = wire.seq();
  switch (wire.body_case()) {
    case sync_v1::ServerMessage::kRevisions:
      message.kind = SyncMessage::Kind::kRevisions;
      for (const sync_v1::EntryRevision& revision : wire.revisions().entries()) {
        message.revisions.push_back({revision.id(), revision.revision(), absl::FromUnixSeconds(revision.created_at())});
      }
      message.last_revisions = wire.revisions().last();
      break;
    case sync_v1::ServerMessage::kDelta:
      for (const spire::api::types::Entry& entry : wire.delta().upserts()) {
        absl::StatusOr<spiffe::Entry> parsed = EntryFromWire(entry, trust_domain);
        if (parsed.ok()) {
          message.upserts.push_back(*std::move(parsed));
        } else {
          SIGNET_LOG(error, "entry from the server cannot be used", {{"error", parsed.status().message()}});
          message.removed_ids.push_back(entry.id());  // what it was before no longer holds
        }
      }
      message.removed_ids.insert(message.removed_ids.end(), wire.delta().removed_ids().begin(),
                                 wire.delta().removed_ids().end());
      for (const sync_v1::BundleUpdate& update : wire.delta().bundles()) {
        absl::StatusOr<spiffe::Bundle> parsed = spiffe::BundleFromWire(update.bundle());
        if (parsed.ok()) {
          message.bundles.emplace_back(*std::move(parsed), update.revision());
        } else {
          SIGNET_LOG(error, "bundle from the server cannot be used", {{"error", parsed.status().message()}});
        }
      }
      message.removed_bundles.assign(wire.delta().removed_bundles().begin(), wire.delta().removed_bundles().end());
      break;
    case sync_v1::ServerMessage::kComplete:
      message.kind = SyncMessage::Kind::kComplete;
      message.epoch = wire.complete().epoch();
      break;
    case sync_v1::ServerMessage::kNotice:
      message.kind = SyncMessage::Kind::kNotice;
      message.delay = absl::Milliseconds(wire.notice().delay_ms());
      switch (wire.notice().kind()) {
        case sync_v1::Notice::KIND_BANNED:
          message.notice = SyncMessage::Notice::kBanned;
          break;
        case sync_v1::Notice::KIND_EVICTED:
          message.notice = SyncMessage::Notice::kEvicted;
          break;
        case sync_v1::Notice::KIND_GO_AWAY:
          message.notice = SyncMessage::Notice::kGoAway;
          break;
        default:
          break;
      }
      break;
    case sync_v1::ServerMessage::kTokenState:
      message.kind = SyncMessage::Kind::kTokens;
      message.tokens = TokensFromWire(wire.token_state(), wire.seq());
      break;
    case sync_v1::ServerMessage::kHeartbeat:
      message.kind = SyncMessage::Kind::kHeartbeat;
      break;
    case sync_v1::ServerMessage::kAuditHead:
      message.kind = SyncMessage::Kind::kAuditHead;
      message.audit_head = wire.audit_head().head();
      break;
    default:
      break;  // of a later version: a delta that changes nothing
  }
  return message;
}

// The reactor and its record of what has come. A hold keeps the call open between reads; it is let go once, at the end.
class GrpcSyncStream final : public SyncStream,
                             private grpc::ClientBidiReactor<sync_v1::AgentMessage, sync_v1::ServerMessage> {
 public:
  GrpcSyncStream(std::shared_ptr<grpc::Channel> channel, const spiffe::TrustDomain& trust_domain,
                 std::function<void()> on_event)
      : stub_(sync_v1::AgentSync::NewStub(std::move(channel))),
        trust_domain_(trust_domain),
        on_event_(std::move(on_event)) {}

  void Start(const SyncHello& hello, const std::string& version) {
    stub_->async()->Sync(&context_, this);
    AddHold();
    sync_v1::AgentMessage message;
    message.mutable_hello()->set_agent_version(version);
    message.mutable_hello()->set_epoch(hello.epoch);
    message.mutable_hello()->set_digest(hello.digest);
    for (const auto& [name, revision] : hello.bundle_revisions) {
      (*message.mutable_hello()->mutable_bundle_revisions())[name] = revision;
    }
    Send(std::move(message));
    StartRead(&incoming_);
    StartCall();
  }

  ~GrpcSyncStream() override {
    context_.TryCancel();
    End();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return status_.has_value(); });
  }

  bool Want(std::vector<std::string> entry_ids) override {
    size_t next = 0;
    do {
      sync_v1::AgentMessage message;
      for (int i = 0; i < kWantPerMessage && next < entry_ids.size(); ++i) {
        message.mutable_want()->add_entry_ids(std::move(entry_ids[next++]));
      }
      message.mutable_want()->set_last(next == entry_ids.size());
      if (!Send(std::move(message))) return false;
    } while (next < entry_ids.size());
    return true;
  }

  bool Ack(uint64_t seq, std::map<std::string, uint32_t> svids_by_authority) override {
    sync_v1::AgentMessage message;
    message.mutable_ack()->set_seq(seq);
    message.mutable_ack()->mutable_svids_by_authority()->insert(svids_by_authority.begin(), svids_by_authority.end());
    return Send(std::move(message));
  }

  bool TokenInterest(bool wanted) override {
    sync_v1::AgentMessage message;
    message.mutable_token_interest()->set_wanted(wanted);
    return Send(std::move(message));
  }

  std::optional<SyncMessage> Next() override {
    sync_v1::ServerMessage wire;
    {
      std::lock_guard lock(mutex_);
      if (inbox_.empty()) return std::nullopt;
      wire = std::move(inbox_.front());
      inbox_.pop_front();
      inbox_bytes_ -= wire.ByteSizeLong();
      if (paused_ && inbox_bytes_ < kMaxInboxBytes && !ended_) {
        paused_ = false;
        StartRead(&incoming_);
      }
    }
    return MessageFromWire(wire, trust_domain_);
  }

  std::optional<absl::Status> end() const override {
    std::lock_guard lock(mutex_);
    return inbox_.empty() ? status_ : std::nullopt;
  }

 private:
  bool Send(sync_v1::AgentMessage message) {
    std::lock_guard lock(mutex_);
    if (ended_) return false;
    outbox_.push_back(std::move(message));
    if (outbox_.size() == 1) StartWrite(&outbox_.front());  // one in flight: the front
    return true;
  }

  void End() {
    {
      std::lock_guard lock(mutex_);
      if (std::exchange(ended_, true)) return;
    }
    RemoveHold();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return End();
    {
      std::lock_guard lock(mutex_);
      inbox_bytes_ += incoming_.ByteSizeLong();
      inbox_.push_back(std::move(incoming_));
      incoming_ = {};
      paused_ = inbox_bytes_ >= kMaxInboxBytes;
      if (!paused_ && !ended_) StartRead(&incoming_);
    }
    on_event_();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return End();
    std::lock_guard lock(mutex_);
    outbox_.pop_front();
    if (!outbox_.empty() && !ended_) StartWrite(&outbox_.front());
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status end = rpc::FromTlsCall(status);
    std::lock_guard lock(mutex_);  // held to the end: the destructor waits for status_
    status_ = end.ok() ? absl::UnavailableError("the server has ended the stream") : std::move(end);
    on_event_();
    changed_.notify_all();
  }

  const std::unique_ptr<sync_v1::AgentSync::Stub> stub_;
  const spiffe::TrustDomain trust_domain_;
  const std::function<void()> on_event_;
  grpc::ClientContext context_;
  sync_v1::ServerMessage incoming_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<sync_v1::AgentMessage> outbox_;
  std::deque<sync_v1::ServerMessage> inbox_;
  size_t inbox_bytes_ = 0;
  bool paused_ = false, ended_ = false;
  std::optional<absl::Status> status_;
};

}  // namespace

std::unique_ptr<SyncStream> OpenSyncStream(std::shared_ptr<grpc::Channel> channel,
                                           const spiffe::TrustDomain& trust_domain, const SyncHello& hello,
                                           const std::string& version, std::function<void()> on_event) {
  auto stream = std::make_unique<GrpcSyncStream>(std::move(channel), trust_domain, std::move(on_event));
  stream->Start(hello, version);
  return stream;
}

}  // namespace signet::agent
