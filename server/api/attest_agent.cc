#include "server/api/attest_agent.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/csr.h"
#include "common/crypto/digest.h"
#include "common/crypto/random.h"
#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/status/macros.h"
#include "server/api/bidi_stream.h"
#include "server/api/convert.h"
#include "spire/api/server/agent/v1/agent.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::agent::v1;
using Base = BidiStream<v1::AttestAgentRequest, v1::AttestAgentResponse>;

class AttestAgent final : public Base {
 public:
  explicit AttestAgent(const AgentServiceDeps& deps) : d_(deps) {}

 private:
  std::shared_ptr<AttestAgent> self() { return std::static_pointer_cast<AttestAgent>(shared_from_this()); }

  void Begin() override { Read(); }

  void OnRead(bool ok) override {
    if (!ok) return Refuse(absl::InvalidArgumentError("the stream ended before the attestation did"));
    if (attestation_ == nullptr) {
      if (absl::Status status = Open(); !status.ok()) return Refuse(status);
      return attestation_->Start(std::move(*in_.mutable_params()->mutable_data()->mutable_payload()), Stepped());
    }
    if (!in_.has_challenge_response()) return Refuse(absl::InvalidArgumentError("challenge_response: expected"));
    if (in_.challenge_response().size() > kMaxEvidenceBytes) {
      return Refuse(absl::InvalidArgumentError("challenge_response: larger than 256 KiB"));
    }
    attestation_->Respond(std::move(*in_.mutable_challenge_response()), Stepped());
  }

  void OnWritten() override { Read(); }
  void OnEnd() override { attestation_.reset(); }  // cancels what runs

  // The first message. The CSR comes first: a bad one must not cost the agent its token.
  absl::Status Open() {
    const v1::AttestAgentRequest::Params& params = in_.params();
    if (!in_.has_params()) return absl::InvalidArgumentError("params: expected in the first message");
    if (params.data().type().empty()) return absl::InvalidArgumentError("params.data.type: missing");
    if (params.data().payload().empty()) return absl::InvalidArgumentError("params.data.payload: missing");
    if (params.data().payload().size() > kMaxEvidenceBytes) {
      return absl::InvalidArgumentError("params.data.payload: larger than 256 KiB");
    }
    if (params.params().csr().empty()) return absl::InvalidArgumentError("params.params.csr: missing");
    SIGNET_ASSIGN_OR_RETURN(const crypto::CertificateRequest csr,
                            crypto::CertificateRequest::ParseAndVerify(params.params().csr()), "params.params.csr");
    key_ = csr.public_key();
    type_ = params.data().type();
    attestors_ = d_.attestors.Get();
    for (const std::unique_ptr<NodeAttestor>& attestor : *attestors_) {
      if (attestor->type() == type_) attestation_ = attestor->Begin();
    }
    if (attestation_ != nullptr) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("node attestor \"", absl::CEscape(type_.substr(0, 64)), "\" is not configured on this server"));
  }

  NodeAttestation::Done Stepped() {
    return [self = self()](absl::StatusOr<NodeAttestation::Step> step) {
      if (!step.ok()) return self->Refuse(step.status());
      if (step->node) return self->Record(*std::move(step->node));
      if (!step->challenge || ++self->challenges_ > kMaxChallenges) {
        return self->Refuse(absl::InternalError(absl::StrCat("attestor ", self->type_, " does not come to an end")));
      }
      self->out_.set_challenge(*std::move(step->challenge));
      self->Write();
    };
  }

  void Record(AttestedNode node) {
    if (!node.agent_id.IsMemberOf(d_.ca.policy().trust_domain) || !spiffe::IsAgentId(node.agent_id)) {
      return Refuse(
          absl::InternalError(absl::StrCat("attestor ", type_, ": \"", node.agent_id.string(), "\" is no agent's ID")));
    }
    if (node.can_reattest) return Sign(std::move(node));
    // Trust on first use: evidence that anybody on the node could show again counts once, but for the very key that it
    // counted for, whose answer may have been lost. The database has the last word.
    const bool again = !node.token_spent_by.empty();
    if (again && node.token_spent_by != KeySha256()) {
      return Refuse(
          absl::PermissionDeniedError("join token: used already; make a new one with `signet token generate`"));
    }
    const bool posted = d_.calls.executor().Post([self = self(), node = std::move(node), again]() mutable {
      const absl::Status known = self->d_.agents.GetAgent(node.agent_id).status();
      if (known.ok() && !again) {
        return self->Refuse(absl::PermissionDeniedError(absl::StrCat(
            "agent \"", node.agent_id.string(), "\" has attested already; an operator must evict it first")));
      }
      if (!known.ok() && !absl::IsNotFound(known)) return self->Refuse(known);
      self->Sign(std::move(node));
    });
    if (!posted) Close(OverloadedError("server is busy", absl::Seconds(1)));
  }

  void Sign(AttestedNode node) {
    absl::StatusOr<IssuedX509> issued = d_.ca.SignAgent(node.agent_id, *key_);
    if (!issued.ok()) return Refuse(issued.status());
    const absl::Time now = d_.clock.Now();
    Attestation attestation{.agent = {.id = node.agent_id,
                                      .attestation_type = type_,
                                      .serial = issued->chain.front().SerialDecimal(),
                                      .new_serial = {},
                                      .expires_at = issued->expires_at,
                                      .selectors = std::move(node.selectors),
                                      .can_reattest = node.can_reattest,
                                      .agent_version = {}},
                            .consume_token_sha256 = std::move(node.consume_token_sha256),
                            .key_sha256 = KeySha256(),
                            .alias = std::nullopt};
    spiffe::Normalize(attestation.agent.selectors);
    if (node.alias_id) {
      attestation.alias = spiffe::Entry{.id = crypto::RandomUuid(),
                                        .spiffe_id = *node.alias_id,
                                        .parent_id = node.agent_id,
                                        .selectors = {{"spiffe_id", node.agent_id.string()}},
                                        .federates_with = {},
                                        .dns_names = {},
                                        .hint = {},
                                        .created_at = absl::FromUnixSeconds(absl::ToUnixSeconds(now))};
    }
    v1::AttestAgentResponse::Result& result = *out_.mutable_result();
    result.set_reattestable(node.can_reattest);
    X509SvidToWire(node.agent_id, *issued, "", *result.mutable_svid());
    d_.agents.Attest(std::move(attestation), now,
                     [self = self(), id = node.agent_id, leaf = issued->chain.front()](const absl::Status& status) {
                       if (absl::IsNotFound(status)) {
                         return self->Refuse(absl::PermissionDeniedError(
                             "join token does not exist, has ended or has been used already"));
                       }
                       if (!status.ok()) return self->Refuse(status);
                       self->d_.metrics.agents_attested.Add();
                       NoteAgentSvid(self->d_, id, leaf);
                       SIGNET_LOG(info, "agent attested", {{"agent_id", id.string()}, {"attestor", self->type_}});
                       SIGNET_FAILPOINT("attest.before_reply");
                       self->WriteLast();
                     });
  }

  std::string KeySha256() const { return crypto::Sha256(key_->spki_der()); }

  void Refuse(const absl::Status& status) {
    d_.metrics.attestations_refused.Add();
    SIGNET_LOG(warn, "attestation refused",
               {{"attestor", absl::CEscape(type_.substr(0, 64))}, {"reason", status.message()}});
    Close(status);
  }

  const AgentServiceDeps& d_;
  LatestValue<NodeAttestors>::Snapshot attestors_;  // attestation_ is of one of these, whatever a reload brings
  std::unique_ptr<NodeAttestation> attestation_;
  std::optional<crypto::PublicKey> key_;
  std::string type_;
  int challenges_ = 0;
};

}  // namespace

grpc::ServerBidiReactor<v1::AttestAgentRequest, v1::AttestAgentResponse>* StartAttestAgent(
    grpc::CallbackServerContext* context, const AgentServiceDeps& deps) {
  return Base::Start(std::make_shared<AttestAgent>(deps), context, Method::kAttestAgent, deps.calls, deps.streams,
                     deps.clock.Now() + kAttestationLimit);
}

}  // namespace signet::server
