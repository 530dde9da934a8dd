#include "server/api/svid_service.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/failpoint/failpoint.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "server/api/convert.h"
#include "spire/api/server/svid/v1/svid.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::svid::v1;

constexpr int kMaxBatch = 1000;  // SPIRE's agents send at most 500
constexpr int kMaxAudiences = 64;
constexpr size_t kMaxAudienceBytes = 2048;

absl::Status CheckTtl(int32_t seconds) {
  if (seconds < 0) return absl::InvalidArgumentError("ttl: must not be negative");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Audience(const google::protobuf::RepeatedPtrField<std::string>& in) {
  if (in.empty()) return absl::InvalidArgumentError("audience: at least one is required");
  if (in.size() > kMaxAudiences) return absl::InvalidArgumentError("audience: more than 64");
  std::vector<std::string> out;
  out.reserve(static_cast<size_t>(in.size()));
  for (const std::string& one : in) {
    if (one.empty()) return absl::InvalidArgumentError("audience: must not be empty");
    if (one.size() > kMaxAudienceBytes) return absl::InvalidArgumentError("audience: longer than 2048 bytes");
    out.push_back(one);
  }
  return out;
}

class SvidService final : public v1::SVID::CallbackService {
 public:
  explicit SvidService(SvidServiceDeps deps) : d_(deps) {}

  grpc::ServerUnaryReactor* MintX509SVID(grpc::CallbackServerContext* context, const v1::MintX509SVIDRequest* request,
                                         v1::MintX509SVIDResponse* response) override {
    return d_.calls.Inline(context, Method::kMintX509SVID, [=, this](const CallerPtr& caller) -> absl::Status {
      SIGNET_RETURN_IF_ERROR(CheckTtl(request->ttl()));
      SIGNET_ASSIGN_OR_RETURN(const crypto::CertificateRequest csr, ParseCsr(request->csr()));
      SIGNET_ASSIGN_OR_RETURN(MintRequest mint, ReadMintRequest(csr, own()));
      mint.ttl = absl::Seconds(request->ttl());
      SIGNET_ASSIGN_OR_RETURN(const IssuedX509 issued, d_.ca.Mint(mint, csr.public_key()));
      Note(*caller, mint.id, "", csr.public_key(), issued);
      X509SvidToWire(mint.id, issued, "", *response->mutable_svid());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* MintJWTSVID(grpc::CallbackServerContext* context, const v1::MintJWTSVIDRequest* request,
                                        v1::MintJWTSVIDResponse* response) override {
    return d_.calls.Inline(context, Method::kMintJWTSVID, [=, this](const CallerPtr& caller) -> absl::Status {
      SIGNET_RETURN_IF_ERROR(CheckTtl(request->ttl()));
      SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, WorkloadId("id", request->id(), own()));
      SIGNET_ASSIGN_OR_RETURN(std::vector<std::string> audience, Audience(request->audience()));
      SIGNET_ASSIGN_OR_RETURN(IssuedJwt issued,
                              d_.ca.SignJwt(id, std::move(audience), absl::Seconds(request->ttl()), false));
      Note(*caller, id, "", issued);
      JwtSvidToWire(id, std::move(issued), "", *response->mutable_svid());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* BatchNewX509SVID(grpc::CallbackServerContext* context,
                                             const v1::BatchNewX509SVIDRequest* request,
                                             v1::BatchNewX509SVIDResponse* response) override {
    return d_.calls.Run(context, Method::kBatchNewX509SVID, [=, this](const CallerPtr& caller, Reply reply) {
      if (request->params().empty()) return reply.Send(absl::InvalidArgumentError("params: at least one is required"));
      if (request->params_size() > kMaxBatch) {
        return reply.Send(absl::InvalidArgumentError("params: more than 1000, send smaller batches"));
      }
      std::vector<int> unknown;
      for (int i = 0; i < request->params_size(); ++i) {
        v1::BatchNewX509SVIDResponse::Result& result = *response->add_results();
        const absl::Status status = NewX509(*caller, request->params(i), result);
        if (absl::IsNotFound(status)) unknown.push_back(i);
        StatusToWire(status, *result.mutable_status());
      }
      if (unknown.empty() || !d_.barrier.Due(*caller)) return reply.Send(absl::OkStatus());
      // Not in memory: perhaps not yet. The database has the last word.
      d_.calls.PostBlocking(std::move(reply), [=, this, unknown = std::move(unknown)](Reply again) {
        if (absl::Status status = d_.barrier.CatchUp(); !status.ok()) return again.Send(status);
        for (int i : unknown) {
          v1::BatchNewX509SVIDResponse::Result& result = *response->mutable_results(i);
          StatusToWire(NewX509(*caller, request->params(i), result), *result.mutable_status());
        }
        again.Send(absl::OkStatus());
      });
    });
  }

  grpc::ServerUnaryReactor* NewJWTSVID(grpc::CallbackServerContext* context, const v1::NewJWTSVIDRequest* request,
                                       v1::NewJWTSVIDResponse* response) override {
    return d_.calls.Run(context, Method::kNewJWTSVID, [=, this](const CallerPtr& caller, Reply reply) {
      const absl::Status status = NewJwt(*caller, *request, *response);
      if (!absl::IsNotFound(status) || !d_.barrier.Due(*caller)) return reply.Send(status);
      d_.calls.PostBlocking(std::move(reply), [=, this](Reply again) {
        if (absl::Status caught = d_.barrier.CatchUp(); !caught.ok()) return again.Send(caught);
        again.Send(NewJwt(*caller, *request, *response));
      });
    });
  }

  grpc::ServerUnaryReactor* MintWITSVID(grpc::CallbackServerContext* context, const v1::MintWITSVIDRequest*,
                                        v1::MintWITSVIDResponse*) override {
    return d_.calls.Unimplemented(context, Method::kMintWITSVID);
  }
  grpc::ServerUnaryReactor* BatchNewWITSVID(grpc::CallbackServerContext* context, const v1::BatchNewWITSVIDRequest*,
                                            v1::BatchNewWITSVIDResponse*) override {
    return d_.calls.Unimplemented(context, Method::kBatchNewWITSVID);
  }
  grpc::ServerUnaryReactor* NewDownstreamX509CA(grpc::CallbackServerContext* context,
                                                const v1::NewDownstreamX509CARequest*,
                                                v1::NewDownstreamX509CAResponse*) override {
    return d_.calls.Unimplemented(context, Method::kNewDownstreamX509CA);
  }

 private:
  const spiffe::TrustDomain& own() const { return d_.ca.policy().trust_domain; }

  static absl::StatusOr<crypto::CertificateRequest> ParseCsr(const std::string& der) {
    if (der.empty()) return absl::InvalidArgumentError("csr: missing");
    return crypto::CertificateRequest::ParseAndVerify(der);
  }

  // The entry when it is this agent's at this moment.
  absl::StatusOr<EntryPtr> Authorized(const Caller& caller, const std::string& entry_id) const {
    if (entry_id.empty()) return absl::InvalidArgumentError("entry_id: missing");
    EntryPtr entry = d_.index.FindAuthorized(*caller.id, entry_id);
    if (entry == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("entry \"", absl::CEscape(entry_id.substr(0, 255)), "\": not found, or not this agent's"));
    }
    return entry;
  }

  // From the request only which entry and the key; all else from the entry (CVE-2021-27098).
  absl::Status NewX509(const Caller& caller, const v1::NewX509SVIDParams& params,
                       v1::BatchNewX509SVIDResponse::Result& result) {
    SIGNET_ASSIGN_OR_RETURN(const EntryPtr entry, Authorized(caller, params.entry_id()));
    SIGNET_ASSIGN_OR_RETURN(const crypto::CertificateRequest csr, ParseCsr(params.csr()));
    SIGNET_FAILPOINT_STATUS("svid.before_sign");
    SIGNET_ASSIGN_OR_RETURN(const IssuedX509 issued, d_.ca.SignWorkload(*entry, csr.public_key(), &*caller.id));
    SIGNET_FAILPOINT_STATUS("svid.after_sign");
    Note(caller, entry->spiffe_id, entry->id, csr.public_key(), issued);
    X509SvidToWire(entry->spiffe_id, issued, entry->hint, *result.mutable_svid());
    return absl::OkStatus();
  }

  absl::Status NewJwt(const Caller& caller, const v1::NewJWTSVIDRequest& request, v1::NewJWTSVIDResponse& response) {
    SIGNET_ASSIGN_OR_RETURN(const EntryPtr entry, Authorized(caller, request.entry_id()));
    SIGNET_ASSIGN_OR_RETURN(std::vector<std::string> audience, Audience(request.audience()));
    SIGNET_ASSIGN_OR_RETURN(
        IssuedJwt issued,
        d_.ca.SignJwt(entry->spiffe_id, std::move(audience), entry->jwt_svid_ttl, entry->jwt_svid_include_jti,
                      spiffe::IssuedTo{entry->id, spiffe::HashOfAgent(*caller.id)}));
    Note(caller, entry->spiffe_id, entry->id, issued);
    JwtSvidToWire(entry->spiffe_id, std::move(issued), entry->hint, *response.mutable_svid());
    return absl::OkStatus();
  }

  void Note(const Caller& caller, const spiffe::Id& id, const std::string& entry_id, const crypto::PublicKey& key,
            const IssuedX509& issued) {
    d_.metrics.x509_svids_issued.Add();
    d_.issuance.Record({issued.chain.front().SerialDecimal(), id.string(), entry_id, IdentityOf(caller),
                        absl::BytesToHexString(crypto::Sha256(key.spki_der())), d_.clock.Now(), issued.expires_at});
  }
  void Note(const Caller& caller, const spiffe::Id& id, const std::string& entry_id, const IssuedJwt& issued) {
    d_.metrics.jwt_svids_issued.Add();
    d_.issuance.Record({"", id.string(), entry_id, IdentityOf(caller), "", issued.issued_at, issued.expires_at});
  }

  const SvidServiceDeps d_;
};

}  // namespace

absl::StatusOr<MintRequest> ReadMintRequest(const crypto::CertificateRequest& csr, const spiffe::TrustDomain& own) {
  if (csr.uri_sans().size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("csr: exactly one URI SAN is required, the SPIFFE ID; it has ", csr.uri_sans().size()));
  }
  if (csr.has_other_sans()) return absl::InvalidArgumentError("csr: only URI and DNS SANs are allowed");
  if (csr.has_other_extensions()) return absl::InvalidArgumentError("csr: no extension but subjectAltName is allowed");
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, spiffe::Id::Parse(csr.uri_sans().front()), "csr: URI SAN");
  if (!id.IsMemberOf(own)) {
    return absl::InvalidArgumentError(absl::StrCat("csr: \"", id.string(), "\" is not of trust domain ", own.name()));
  }
  if (id.is_root() || spiffe::IsReservedId(id)) {
    return absl::InvalidArgumentError(absl::StrCat("csr: \"", id.string(), "\" is no workload's ID"));
  }
  MintRequest request{std::move(id), csr.dns_sans()};
  for (const std::string& name : request.dns_names) SIGNET_RETURN_IF_ERROR(spiffe::CheckDnsName(name), "csr: DNS SAN");
  return request;
}

std::unique_ptr<grpc::Service> MakeSvidService(SvidServiceDeps deps) { return std::make_unique<SvidService>(deps); }

}  // namespace signet::server
