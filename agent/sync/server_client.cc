#include "agent/sync/server_client.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "agent/sync/wire.h"
#include "common/jose/jws.h"
#include "common/log/log.h"
#include "common/rpc/client_channel.h"
#include "common/spiffe/jwt_svid.h"
#include "common/spiffe/wire.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"
#include "signet/server/v1/agent_sync.grpc.pb.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "spire/api/server/bundle/v1/bundle.grpc.pb.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"
#include "spire/api/server/svid/v1/svid.grpc.pb.h"
#include "spire/api/types/status.pb.h"

namespace signet::agent {
namespace {

namespace agent_v1 = spire::api::server::agent::v1;
namespace bundle_v1 = spire::api::server::bundle::v1;
namespace entry_v1 = spire::api::server::entry::v1;
namespace svid_v1 = spire::api::server::svid::v1;
namespace sync_v1 = signet::server::v1;
using spire::api::types::PermissionDeniedDetails;

constexpr absl::string_view kDetailsUrl = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";
constexpr size_t kMaxInboxBytes = 4 << 20;  // unread messages; beyond it the server waits
constexpr size_t kMaxChallenges = 16;
constexpr int kWantPerMessage = 500;

struct Connection {
  explicit Connection(std::shared_ptr<grpc::Channel> made)
      : channel(std::move(made)),
        agent(agent_v1::Agent::NewStub(channel)),
        bundle(bundle_v1::Bundle::NewStub(channel)),
        entry(entry_v1::Entry::NewStub(channel)),
        svid(svid_v1::SVID::NewStub(channel)),
        sync(sync_v1::AgentSync::NewStub(channel)) {}
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<agent_v1::Agent::Stub> agent;
  const std::unique_ptr<bundle_v1::Bundle::Stub> bundle;
  const std::unique_ptr<entry_v1::Entry::Stub> entry;
  const std::unique_ptr<svid_v1::SVID::Stub> svid;
  const std::unique_ptr<sync_v1::AgentSync::Stub> sync;
};

// Contexts of the calls that run, so that Shutdown() can end them.
class CallSet {
 public:
  bool Add(grpc::ClientContext* context) {
    std::lock_guard lock(mutex_);
    if (closed_) return false;
    contexts_.insert(context);
    return true;
  }
  void Remove(grpc::ClientContext* context) {
    {
      std::lock_guard lock(mutex_);
      contexts_.erase(context);
    }
    idle_.notify_all();
  }
  void CancelAll() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    for (grpc::ClientContext* context : contexts_) context->TryCancel();
  }
  void WaitIdle() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [&] { return contexts_.empty(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable idle_;
  std::set<grpc::ClientContext*> contexts_;
  bool closed_ = false;
};

absl::Status StoppingError() { return absl::CancelledError("the agent is stopping"); }

// One call: its context in the set for as long as it runs.
class Call {
 public:
  Call(CallSet& calls, absl::Duration deadline) : calls_(calls), accepted_(calls.Add(&context_)) {
    context_.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(deadline));
  }
  ~Call() {
    if (accepted_) calls_.Remove(&context_);
  }
  bool accepted() const { return accepted_; }
  grpc::ClientContext* context() { return &context_; }

 private:
  CallSet& calls_;
  grpc::ClientContext context_;
  const bool accepted_;
};

absl::StatusOr<MintedJwt> JwtFromWire(const spire::api::types::JWTSVID& wire) {
  SIGNET_ASSIGN_OR_RETURN(const spiffe::ValidatedJwtSvid svid, spiffe::ParseUnverifiedJwtSvid(wire.token()),
                          "JWT-SVID");
  SIGNET_ASSIGN_OR_RETURN(const jose::CompactJws jws, jose::CompactJws::Parse(wire.token()), "JWT-SVID");
  MintedJwt minted{wire.token(), jws.header.key_id.value_or(""), svid.id, absl::FromUnixSeconds(wire.issued_at()),
                   svid.expires_at};
  if (minted.issued_at >= minted.expires_at) return absl::InternalError("JWT-SVID that ends before it begins");
  return minted;
}

// What cannot be read is left out so that less is found good, never more: a resource is dropped, a revocation stays.
TokenUpdate TokensFromWire(const sync_v1::TokenState& wire, uint64_t seq) {
  TokenUpdate update{.whole = wire.whole(),
                     .complete = wire.complete(),
                     .truncated = wire.truncated(),
                     .seq = seq,
                     .issuer = wire.issuer(),
                     .introspection_endpoint = wire.introspection_endpoint()};
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
  GrpcSyncStream(std::shared_ptr<Connection> connection, const spiffe::TrustDomain& trust_domain,
                 std::function<void()> on_event)
      : connection_(std::move(connection)), trust_domain_(trust_domain), on_event_(std::move(on_event)) {}

  void Start(const SyncHello& hello, const std::string& version) {
    connection_->sync->async()->Sync(&context_, this);
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

  const std::shared_ptr<Connection> connection_;
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

class GrpcServerClient final : public ServerClient {
 public:
  GrpcServerClient(Options options, Credentials credentials, Clock& clock)
      : options_(std::move(options)), credentials_(std::move(credentials)), clock_(clock) {}

  ~GrpcServerClient() override { Shutdown(); }

  void Shutdown() override {
    calls_.CancelAll();
    calls_.WaitIdle();
  }

  void Reconnect() override {
    std::lock_guard lock(mutex_);
    authenticated_.reset();
    anonymous_.reset();
  }

  bool MoveOn() override {
    std::lock_guard lock(mutex_);
    authenticated_.reset();
    anonymous_.reset();
    address_ = (address_ + 1) % options_.addresses.size();
    return address_ == 0;
  }

  absl::StatusOr<spiffe::Bundle> GetBundle() override {
    Call call(calls_, options_.deadline);
    if (!call.accepted()) return StoppingError();
    spire::api::types::Bundle wire;
    SIGNET_RETURN_IF_ERROR(rpc::FromTlsCall(BestConnection()->bundle->GetBundle(call.context(), {}, &wire)),
                           "GetBundle");
    SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle bundle, spiffe::BundleFromWire(wire));
    if (bundle.trust_domain != options_.trust_domain) {
      return absl::FailedPreconditionError(absl::StrCat("the server is of trust domain ", bundle.trust_domain.name(),
                                                        ", not ", options_.trust_domain.name(),
                                                        "; check server_address"));
    }
    return bundle;
  }

  absl::StatusOr<spiffe::Bundle> GetFederatedBundle(const std::string& trust_domain) override {
    Call call(calls_, options_.deadline);
    if (!call.accepted()) return StoppingError();
    bundle_v1::GetFederatedBundleRequest request;
    request.set_trust_domain(trust_domain);
    spire::api::types::Bundle wire;
    SIGNET_RETURN_IF_ERROR(
        rpc::FromTlsCall(Authenticated()->bundle->GetFederatedBundle(call.context(), request, &wire)),
        "GetFederatedBundle");
    return spiffe::BundleFromWire(wire);
  }

  absl::StatusOr<Attested> Attest(NodeAttestor& attestor, const std::string& csr) override {
    SIGNET_ASSIGN_OR_RETURN(std::string payload, attestor.Payload(), attestor.type());
    Call call(calls_, options_.attest_deadline);
    if (!call.accepted()) return StoppingError();
    const std::shared_ptr<Connection> connection = Anonymous();
    auto stream = connection->agent->AttestAgent(call.context());
    agent_v1::AttestAgentRequest request;
    request.mutable_params()->mutable_data()->set_type(std::string(attestor.type()));
    request.mutable_params()->mutable_data()->set_payload(std::move(payload));
    request.mutable_params()->mutable_params()->set_csr(csr);
    for (size_t challenges = 0; stream->Write(request); ++challenges) {
      agent_v1::AttestAgentResponse response;
      if (!stream->Read(&response)) break;
      if (response.has_result()) {
        stream->WritesDone();
        call.context()->TryCancel();
        stream->Finish();
        SIGNET_ASSIGN_OR_RETURN(Chain chain, ChainFromWire(response.result().svid()), "AttestAgent");
        return Attested{std::move(chain), response.result().reattestable()};
      }
      absl::StatusOr<std::string> answer = challenges < kMaxChallenges
                                               ? attestor.Respond(response.challenge())
                                               : absl::FailedPreconditionError("too many challenges");
      if (!answer.ok()) {
        call.context()->TryCancel();
        stream->Finish();
        return WithContext(answer.status(), attestor.type());
      }
      request.set_challenge_response(*std::move(answer));
    }
    const absl::Status status = rpc::FromTlsCall(stream->Finish());
    return status.ok() ? absl::InternalError("AttestAgent: the server ended without a result")
                       : WithContext(status, "AttestAgent");
  }

  absl::StatusOr<Chain> Renew(const std::string& csr) override {
    Call call(calls_, options_.deadline);
    if (!call.accepted()) return StoppingError();
    agent_v1::RenewAgentRequest request;
    request.mutable_params()->set_csr(csr);
    agent_v1::RenewAgentResponse response;
    SIGNET_RETURN_IF_ERROR(rpc::FromTlsCall(Authenticated()->agent->RenewAgent(call.context(), request, &response)),
                           "RenewAgent");
    return ChainFromWire(response.svid());
  }

  absl::Status PostStatus(uint64_t bundle_sequence) override {
    Call call(calls_, options_.deadline);
    if (!call.accepted()) return StoppingError();
    agent_v1::PostStatusRequest request;
    request.set_current_bundle_serial(bundle_sequence);
    request.set_agent_version(options_.version);
    agent_v1::PostStatusResponse response;
    return rpc::FromTlsCall(Authenticated()->agent->PostStatus(call.context(), request, &response));
  }

  absl::StatusOr<std::vector<absl::StatusOr<Chain>>> NewX509Svids(
      const std::vector<std::pair<std::string, std::string>>& csrs) override {
    Call call(calls_, options_.deadline);
    if (!call.accepted()) return StoppingError();
    svid_v1::BatchNewX509SVIDRequest request;
    for (const auto& [entry_id, csr] : csrs) {
      svid_v1::NewX509SVIDParams& params = *request.add_params();
      params.set_entry_id(entry_id);
      params.set_csr(csr);
    }
    svid_v1::BatchNewX509SVIDResponse response;
    SIGNET_RETURN_IF_ERROR(
        rpc::FromTlsCall(Authenticated()->svid->BatchNewX509SVID(call.context(), request, &response)),
        "BatchNewX509SVID");
    if (static_cast<size_t>(response.results_size()) != csrs.size()) {
      return absl::InternalError(
          absl::StrCat("BatchNewX509SVID: ", response.results_size(), " results for ", csrs.size(), " items"));
    }
    std::vector<absl::StatusOr<Chain>> chains;
    chains.reserve(csrs.size());
    for (const auto& result : response.results()) {
      const auto code = static_cast<absl::StatusCode>(result.status().code());
      if (code == absl::StatusCode::kOk) {
        chains.push_back(ChainFromWire(result.svid()));
      } else {
        chains.emplace_back(absl::Status(code, result.status().message()));
      }
    }
    return chains;
  }

  void NewJwt(const std::string& entry_id, const std::vector<std::string>& audience,
              std::function<void(absl::StatusOr<MintedJwt>)> done) override {
    struct State {
      State(CallSet& calls, absl::Duration deadline) : call(calls, deadline) {}
      Call call;
      std::shared_ptr<Connection> connection;
      svid_v1::NewJWTSVIDRequest request;
      svid_v1::NewJWTSVIDResponse response;
      std::function<void(absl::StatusOr<MintedJwt>)> done;
    };
    auto state = std::make_shared<State>(calls_, options_.deadline);
    if (!state->call.accepted()) return done(StoppingError());
    state->connection = Authenticated();
    state->done = std::move(done);
    state->request.set_entry_id(entry_id);
    for (const std::string& value : audience) state->request.add_audience(value);
    state->connection->svid->async()->NewJWTSVID(
        state->call.context(), &state->request, &state->response, [state](grpc::Status status) {
          const absl::Status result = rpc::FromTlsCall(status);
          state->done(result.ok() ? JwtFromWire(state->response.svid()) : absl::StatusOr<MintedJwt>(result));
        });
  }

  std::unique_ptr<SyncStream> OpenSync(const SyncHello& hello, std::function<void()> on_event) override {
    auto stream = std::make_unique<GrpcSyncStream>(Authenticated(), options_.trust_domain, std::move(on_event));
    stream->Start(hello, options_.version);
    return stream;
  }

  absl::StatusOr<std::vector<spiffe::Entry>> AuthorizedEntries(
      const std::vector<std::shared_ptr<const spiffe::Entry>>& held) override;

 private:
  std::shared_ptr<Connection> Connect(bool authenticated) {
    rpc::ClientTls tls{spiffe::ServerId(options_.trust_domain), std::nullopt, credentials_.bundle,
                       credentials_.insecure && credentials_.bundle() == nullptr};
    if (authenticated) {
      if (const auto identity = credentials_.identity()) tls.identity = *identity;
    }
    return std::make_shared<Connection>(rpc::MakeTlsChannel(options_.addresses[address_], std::move(tls), clock_));
  }
  std::shared_ptr<Connection> Authenticated() {
    std::lock_guard lock(mutex_);
    if (authenticated_ == nullptr) authenticated_ = Connect(true);
    return authenticated_;
  }
  std::shared_ptr<Connection> Anonymous() {
    std::lock_guard lock(mutex_);
    if (anonymous_ == nullptr) anonymous_ = Connect(false);
    return anonymous_;
  }
  std::shared_ptr<Connection> BestConnection() {
    return credentials_.identity() != nullptr ? Authenticated() : Anonymous();
  }

  const Options options_;
  const Credentials credentials_;
  Clock& clock_;
  CallSet calls_;
  std::mutex mutex_;
  std::shared_ptr<Connection> authenticated_, anonymous_;
  size_t address_ = 0;
};

absl::StatusOr<std::vector<spiffe::Entry>> GrpcServerClient::AuthorizedEntries(
    const std::vector<std::shared_ptr<const spiffe::Entry>>& held) {
  Call call(calls_, options_.deadline);
  if (!call.accepted()) return StoppingError();
  const std::shared_ptr<Connection> connection = Authenticated();
  auto stream = connection->entry->SyncAuthorizedEntries(call.context());
  std::vector<spiffe::Entry> entries;
  std::map<std::string, const spiffe::Entry*> known;
  for (const auto& entry : held) known[entry->id] = entry.get();

  // One answer may come in several messages; revisions ask us to name what we lack.
  std::vector<std::string> lacking;
  const auto read_answer = [&]() -> bool {
    entry_v1::SyncAuthorizedEntriesResponse response;
    do {
      if (!stream->Read(&response)) return false;
      for (const spire::api::types::Entry& wire : response.entries()) {
        absl::StatusOr<spiffe::Entry> entry = EntryFromWire(wire, options_.trust_domain);
        if (entry.ok()) {
          entries.push_back(*std::move(entry));
        } else {
          SIGNET_LOG(error, "entry from the server cannot be used", {{"error", entry.status().message()}});
        }
      }
      for (const entry_v1::EntryRevision& revision : response.entry_revisions()) {
        const auto it = known.find(revision.id());
        if (it != known.end() && it->second->revision == revision.revision_number() &&
            absl::ToUnixSeconds(it->second->created_at) == revision.created_at()) {
          entries.push_back(*it->second);
        } else {
          lacking.push_back(revision.id());
        }
      }
    } while (response.more());
    return true;
  };

  entry_v1::SyncAuthorizedEntriesRequest request;
  auto& mask = *request.mutable_output_mask();
  for (int i = 0; i < mask.GetDescriptor()->field_count(); ++i)
    mask.GetReflection()->SetBool(&mask, mask.GetDescriptor()->field(i), true);
  bool whole = stream->Write(request) && read_answer();
  for (size_t next = 0; whole && next < lacking.size();) {
    entry_v1::SyncAuthorizedEntriesRequest ask;
    while (next < lacking.size() && ask.ids_size() < kWantPerMessage) ask.add_ids(lacking[next++]);
    whole = stream->Write(ask) && read_answer();
  }
  if (whole) {
    stream->WritesDone();
    call.context()->TryCancel();
    stream->Finish();
    return entries;
  }
  const absl::Status status = rpc::FromTlsCall(stream->Finish());
  return status.ok() ? absl::InternalError("SyncAuthorizedEntries: ended early")
                     : WithContext(status, "SyncAuthorizedEntries");
}

}  // namespace

Refusal RefusalOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kDetailsUrl);
  PermissionDeniedDetails details;
  if (!payload.has_value() || !details.ParseFromString(std::string(*payload))) return Refusal::kNone;
  switch (details.reason()) {
    case PermissionDeniedDetails::AGENT_EXPIRED:
      return Refusal::kExpired;
    case PermissionDeniedDetails::AGENT_NOT_ATTESTED:
      return Refusal::kNotAttested;
    case PermissionDeniedDetails::AGENT_NOT_ACTIVE:
      return Refusal::kNotActive;
    case PermissionDeniedDetails::AGENT_BANNED:
      return Refusal::kBanned;
    case PermissionDeniedDetails::AGENT_MUST_REATTEST:
      return Refusal::kMustReattest;
    default:
      return Refusal::kNone;
  }
}

absl::Status RefusalStatus(Refusal refusal, absl::string_view message) {
  PermissionDeniedDetails details;
  switch (refusal) {
    case Refusal::kNone:
      break;
    case Refusal::kExpired:
      details.set_reason(PermissionDeniedDetails::AGENT_EXPIRED);
      break;
    case Refusal::kNotAttested:
      details.set_reason(PermissionDeniedDetails::AGENT_NOT_ATTESTED);
      break;
    case Refusal::kNotActive:
      details.set_reason(PermissionDeniedDetails::AGENT_NOT_ACTIVE);
      break;
    case Refusal::kBanned:
      details.set_reason(PermissionDeniedDetails::AGENT_BANNED);
      break;
    case Refusal::kMustReattest:
      details.set_reason(PermissionDeniedDetails::AGENT_MUST_REATTEST);
      break;
  }
  absl::Status status = absl::PermissionDeniedError(message);
  status.SetPayload(kDetailsUrl, absl::Cord(details.SerializeAsString()));
  return status;
}

std::unique_ptr<ServerClient> ServerClient::Create(Options options, Credentials credentials, Clock& clock) {
  return std::make_unique<GrpcServerClient>(std::move(options), std::move(credentials), clock);
}

}  // namespace signet::agent
