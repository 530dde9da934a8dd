#include "server/api/agent_service.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/csr.h"
#include "common/crypto/digest.h"
#include "common/crypto/random.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/macros.h"
#include "server/api/attest_agent.h"
#include "server/api/convert.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::agent::v1;

constexpr size_t kMaxVersionBytes = 255;  // SPIRE's
constexpr size_t kMaxTokenBytes = 255;

// CountAgentsRequest and ListAgentsRequest have each a Filter of their own, with the same fields.
template <typename Filter>
absl::StatusOr<AgentFilter> FilterFromWire(const Filter& in) {
  AgentFilter out;
  if (!in.by_attestation_type().empty()) out.attestation_type = in.by_attestation_type();
  if (in.has_by_selector_match()) {
    SIGNET_ASSIGN_OR_RETURN(out.selectors, SelectorFilterFromWire(in.by_selector_match()));
  }
  if (in.has_by_banned()) out.banned = in.by_banned().value();
  if (in.has_by_can_reattest()) out.can_reattest = in.by_can_reattest().value();
  if (!in.by_expires_before().empty()) {
    SIGNET_ASSIGN_OR_RETURN(out.expires_before, ExpiresBeforeFromWire(in.by_expires_before()));
  }
  return out;
}

class AgentService final : public v1::Agent::CallbackService {
 public:
  explicit AgentService(AgentServiceDeps deps) : d_(deps) {}

  grpc::ServerUnaryReactor* CountAgents(grpc::CallbackServerContext* context, const v1::CountAgentsRequest* request,
                                        v1::CountAgentsResponse* response) override {
    return d_.calls.Blocking(context, Method::kCountAgents, [=, this](const CallerPtr&) -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(const AgentFilter filter, FilterFromWire(request->filter()));
      SIGNET_ASSIGN_OR_RETURN(const size_t count, d_.agents.CountAgents(filter));
      response->set_count(static_cast<int32_t>(count));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* ListAgents(grpc::CallbackServerContext* context, const v1::ListAgentsRequest* request,
                                       v1::ListAgentsResponse* response) override {
    return d_.calls.Blocking(context, Method::kListAgents, [=, this](const CallerPtr&) -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(const AgentFilter filter, FilterFromWire(request->filter()));
      SIGNET_ASSIGN_OR_RETURN(Page<AgentRecord> page,
                              d_.agents.ListAgents(filter, PageFromWire(request->page_size(), request->page_token())));
      const wire::AgentMask* mask = request->has_output_mask() ? &request->output_mask() : nullptr;
      for (const AgentRecord& agent : page.items) AgentToWire(agent, mask, *response->add_agents());
      response->set_next_page_token(std::move(page.next));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* GetAgent(grpc::CallbackServerContext* context, const v1::GetAgentRequest* request,
                                     wire::Agent* response) override {
    return d_.calls.Blocking(context, Method::kGetAgent, [=, this](const CallerPtr&) -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, AgentId("id", request->id(), own()));
      SIGNET_ASSIGN_OR_RETURN(const AgentRecord agent, d_.agents.GetAgent(id));
      AgentToWire(agent, request->has_output_mask() ? &request->output_mask() : nullptr, *response);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* DeleteAgent(grpc::CallbackServerContext* context, const v1::DeleteAgentRequest* request,
                                        google::protobuf::Empty*) override {
    return d_.calls.Async(context, Method::kDeleteAgent, [=, this](const CallerPtr& caller, Reply reply) {
      const absl::StatusOr<spiffe::Id> id = AgentId("id", request->id(), own());
      if (!id.ok()) return reply.Send(id.status());
      d_.agents.DeleteAgent(*id, Logged("agent evicted", *id, caller, std::move(reply)));
    });
  }

  grpc::ServerUnaryReactor* BanAgent(grpc::CallbackServerContext* context, const v1::BanAgentRequest* request,
                                     google::protobuf::Empty*) override {
    return d_.calls.Async(context, Method::kBanAgent, [=, this](const CallerPtr& caller, Reply reply) {
      const absl::StatusOr<spiffe::Id> id = AgentId("id", request->id(), own());
      if (!id.ok()) return reply.Send(id.status());
      d_.agents.BanAgent(*id, Logged("agent banned", *id, caller, std::move(reply)));
    });
  }

  grpc::ServerBidiReactor<v1::AttestAgentRequest, v1::AttestAgentResponse>* AttestAgent(
      grpc::CallbackServerContext* context) override {
    return StartAttestAgent(context, d_);
  }

  grpc::ServerUnaryReactor* RenewAgent(grpc::CallbackServerContext* context, const v1::RenewAgentRequest* request,
                                       v1::RenewAgentResponse* response) override {
    return d_.calls.Async(context, Method::kRenewAgent, [=, this](const CallerPtr& caller, Reply reply) {
      if (const AgentPtr agent = d_.index.FindAgent(*caller->id); agent != nullptr) {
        return Renew(*caller, *agent, *request, *response, std::move(reply));
      }
      // Granted by the database alone: memory has not caught up.
      d_.calls.PostBlocking(std::move(reply), [=, this](Reply again) {
        const absl::StatusOr<AgentRecord> agent = d_.agents.GetAgent(*caller->id);
        if (!agent.ok()) return again.Send(agent.status());
        Renew(*caller, *agent, *request, *response, std::move(again));
      });
    });
  }

  grpc::ServerUnaryReactor* CreateJoinToken(grpc::CallbackServerContext* context,
                                            const v1::CreateJoinTokenRequest* request,
                                            wire::JoinToken* response) override {
    return d_.calls.Async(context, Method::kCreateJoinToken, [=, this](const CallerPtr& caller, Reply reply) {
      absl::StatusOr<JoinTokenRecord> record = NewToken(*request, *response);
      if (!record.ok()) return reply.Send(record.status());
      const std::string alias = record->alias_id ? record->alias_id->string() : "";
      d_.tokens.CreateJoinToken(
          *std::move(record), [caller, alias, reply = std::move(reply)](const absl::Status& status) mutable {
            if (status.ok()) SIGNET_LOG(info, "join token created", {{"alias_id", alias}, {"by", caller->ToString()}});
            reply.Send(status);
          });
    });
  }

  grpc::ServerUnaryReactor* PostStatus(grpc::CallbackServerContext* context, const v1::PostStatusRequest* request,
                                       v1::PostStatusResponse*) override {
    return d_.calls.Async(context, Method::kPostStatus, [=, this](const CallerPtr& caller, Reply reply) {
      const std::string& version = request->agent_version();
      if (version.size() > kMaxVersionBytes) {
        return reply.Send(absl::InvalidArgumentError("agent_version: longer than 255 bytes"));
      }
      const AgentPtr agent = d_.index.FindAgent(*caller->id);
      if (version.empty() || (agent != nullptr && agent->agent_version == version)) return reply.Send(absl::OkStatus());
      d_.agents.SetAgentVersion(*caller->id, version,
                                [reply = std::move(reply)](const absl::Status& status) mutable { reply.Send(status); });
    });
  }

 private:
  const spiffe::TrustDomain& own() const { return d_.ca.policy().trust_domain; }

  static StatusCompletion Logged(absl::string_view event, const spiffe::Id& id, const CallerPtr& caller, Reply reply) {
    return [event, id, caller, reply = std::move(reply)](const absl::Status& status) mutable {
      if (status.ok()) SIGNET_LOG(info, event, {{"agent_id", id.string()}, {"by", caller->ToString()}});
      reply.Send(status);
    };
  }

  void Renew(const Caller& caller, const AgentRecord& agent, const v1::RenewAgentRequest& request,
             v1::RenewAgentResponse& response, Reply reply) {
    if (agent.can_reattest) return reply.Send(MustReattestError());
    if (request.params().csr().empty()) return reply.Send(absl::InvalidArgumentError("params.csr: missing"));
    const absl::StatusOr<crypto::CertificateRequest> csr =
        crypto::CertificateRequest::ParseAndVerify(request.params().csr());
    if (!csr.ok()) return reply.Send(WithContext(csr.status(), "params.csr"));
    const absl::StatusOr<IssuedX509> issued = d_.ca.SignAgent(*caller.id, csr->public_key());
    if (!issued.ok()) return reply.Send(issued.status());
    X509SvidToWire(*caller.id, *issued, "", *response.mutable_svid());
    d_.agents.SetNewSerial(*caller.id, issued->chain.front().SerialDecimal(), issued->expires_at,
                           [this, id = *caller.id, leaf = issued->chain.front(),
                            reply = std::move(reply)](const absl::Status& status) mutable {
                             if (status.ok()) {
                               NoteAgentSvid(d_, id, leaf);
                               SIGNET_LOG(info, "agent renewed", {{"agent_id", id.string()}});
                             }
                             SIGNET_FAILPOINT("renew.before_reply");
                             reply.Send(status);
                           });
  }

  // The token's value goes to `response` and nowhere else; the record holds its hash.
  absl::StatusOr<JoinTokenRecord> NewToken(const v1::CreateJoinTokenRequest& request, wire::JoinToken& response) const {
    if (request.ttl() < 1) return absl::InvalidArgumentError("ttl: must be at least 1 second");
    std::string token = request.token().empty() ? crypto::RandomUuid() : request.token();
    // It becomes the last segment of the agent's ID.
    if (token.size() > kMaxTokenBytes || absl::StrContains(token, '/') ||
        !spiffe::Id::FromPath(own(), absl::StrCat("/spire/agent/join_token/", token)).ok()) {
      return absl::InvalidArgumentError("token: 1 to 255 letters, digits, '.', '-' and '_' are allowed");
    }
    JoinTokenRecord record{crypto::Sha256(token), d_.clock.Now() + absl::Seconds(request.ttl()), std::nullopt};
    if (request.has_agent_id()) {
      SIGNET_ASSIGN_OR_RETURN(record.alias_id, WorkloadId("agent_id", request.agent_id(), own()));
    }
    response.set_value(std::move(token));
    response.set_expires_at(absl::ToUnixSeconds(record.expires_at));
    return record;
  }

  const AgentServiceDeps d_;
};

}  // namespace

void NoteAgentSvid(const AgentServiceDeps& deps, const spiffe::Id& id, const crypto::Certificate& leaf) {
  deps.metrics.x509_svids_issued.Add();
  deps.issuance.Record({leaf.SerialDecimal(), id.string(), "", id.string(),
                        absl::BytesToHexString(crypto::Sha256(leaf.public_key().spki_der())), deps.clock.Now(),
                        leaf.not_after()});
}

std::unique_ptr<grpc::Service> MakeAgentService(AgentServiceDeps deps) { return std::make_unique<AgentService>(deps); }

}  // namespace signet::server
