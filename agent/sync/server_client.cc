#include "agent/sync/server_client.h"

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "agent/sync/sync_stream.h"
#include "agent/sync/wire.h"
#include "common/jose/jws.h"
#include "common/log/log.h"
#include "common/rpc/client_channel.h"
#include "common/spiffe/jwt_svid.h"
#include "common/spiffe/wire.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"
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
using spire::api::types::PermissionDeniedDetails;

constexpr absl::string_view kDetailsUrl = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";
constexpr size_t kMaxChallenges = 16;
constexpr int kIdsPerCall = 500;

struct Connection {
  explicit Connection(std::shared_ptr<grpc::Channel> made)
      : channel(std::move(made)),
        agent(agent_v1::Agent::NewStub(channel)),
        bundle(bundle_v1::Bundle::NewStub(channel)),
        entry(entry_v1::Entry::NewStub(channel)),
        svid(svid_v1::SVID::NewStub(channel)) {}
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<agent_v1::Agent::Stub> agent;
  const std::unique_ptr<bundle_v1::Bundle::Stub> bundle;
  const std::unique_ptr<entry_v1::Entry::Stub> entry;
  const std::unique_ptr<svid_v1::SVID::Stub> svid;
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
        state->call.context(), &state->request, &state->response, [state](const grpc::Status& status) {
          const absl::Status result = rpc::FromTlsCall(status);
          state->done(result.ok() ? JwtFromWire(state->response.svid()) : absl::StatusOr<MintedJwt>(result));
        });
  }

  std::unique_ptr<SyncStream> OpenSync(const SyncHello& hello, std::function<void()> on_event) override {
    return OpenSyncStream(Authenticated()->channel, options_.trust_domain, hello, options_.version,
                          std::move(on_event));
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
    while (next < lacking.size() && ask.ids_size() < kIdsPerCall) ask.add_ids(lacking[next++]);
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
