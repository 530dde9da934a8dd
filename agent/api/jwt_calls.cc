#include "agent/api/jwt_calls.h"

#include <algorithm>
#include <boost/json.hpp>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/api/workload_messages.h"
#include "common/spiffe/jwt_svid.h"
#include "common/status/macros.h"
#include "spiffe/workload/workload.pb.h"

namespace signet::agent {
namespace {

// A token with more would be longer than anybody reads (16 KiB, jwt_svid.h).
constexpr int kMaxAudiences = 64;
constexpr size_t kMaxAudienceBytes = 8 << 10;

absl::Status CheckAudiences(const JWTSVIDRequest& request) {
  if (request.audience().empty()) return absl::InvalidArgumentError("audience must be specified");
  if (request.audience_size() > kMaxAudiences) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kMaxAudiences, " audiences"));
  }
  size_t bytes = 0;
  for (const std::string& audience : request.audience()) {
    if (audience.empty()) return absl::InvalidArgumentError("an audience is empty");
    bytes += audience.size();
  }
  if (bytes > kMaxAudienceBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the audiences are longer than ", kMaxAudienceBytes, " bytes"));
  }
  return absl::OkStatus();
}

// A FetchJWTSVID under way: one fetch for each entry, and the caller looked at once more when all have answered.
class JwtFetch : public std::enable_shared_from_this<JwtFetch> {
 public:
  JwtFetch(SvidCache& cache, WorkloadPtr workload, const JWTSVIDRequest& request, JWTSVIDResponse* response,
           std::optional<spiffe::Id> only, FinishCall finish)
      : cache_(cache),
        workload_(std::move(workload)),
        audience_(request.audience().begin(), request.audience().end()),
        only_(std::move(only)),
        response_(response),
        finish_(std::move(finish)) {}

  void OnEvidence(absl::StatusOr<EvidencePtr> evidence) {
    if (!evidence.ok()) return finish_(evidence.status());
    evidence_ = *std::move(evidence);
    std::vector<EntryPtr> entries = cache_.MatchingEntries(evidence_->selectors);
    if (only_.has_value()) std::erase_if(entries, [this](const EntryPtr& e) { return !(e->spiffe_id == *only_); });
    entries = DropRepeatedHints(std::move(entries));
    if (entries.empty()) return finish_(NoIdentity());
    {
      MutexLock lock(mutex_);
      results_.resize(entries.size());
      waiting_ = entries.size();
    }
    for (size_t i = 0; i < entries.size(); ++i) {
      cache_.FetchJwt(entries[i], audience_,
                      [self = shared_from_this(), i](absl::StatusOr<SvidCache::JwtResult> result) {
                        self->OnResult(i, std::move(result));
                      });
    }
  }

 private:
  void OnResult(size_t i, absl::StatusOr<SvidCache::JwtResult> result) {
    absl::Status status;
    {
      MutexLock lock(mutex_);
      if (result.ok()) {
        results_[i] = *std::move(result);
      } else if (status_.ok()) {
        status_ = result.status();
      }
      if (--waiting_ > 0) return;
      status = status_;
    }
    if (!status.ok()) return finish_(status);
    Release();
  }

  // Nobody else has this call any more.
  void Release() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    for (std::optional<SvidCache::JwtResult>& result : results_) {
      JWTSVID& svid = *response_->add_svids();
      svid.set_spiffe_id(result->id.string());
      svid.set_svid(std::move(result->token));
      svid.set_hint(std::move(result->hint));
    }
    absl::Status same = Attestation::Confirm(*workload_, *evidence_);
    if (!same.ok()) response_->Clear();
    finish_(same);
  }

  SvidCache& cache_;
  const WorkloadPtr workload_;
  const std::vector<std::string> audience_;
  const std::optional<spiffe::Id> only_;
  JWTSVIDResponse* const response_;
  const FinishCall finish_;
  EvidencePtr evidence_;

  Mutex mutex_;
  size_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);  // the first error
  std::vector<std::optional<SvidCache::JwtResult>> results_ ABSL_GUARDED_BY(mutex_);
};

absl::Status StartFetch(const WorkloadCallers& callers, const grpc::CallbackServerContext& context,
                        const JWTSVIDRequest& request, JWTSVIDResponse* response, const FinishCall& finish) {
  SIGNET_ASSIGN_OR_RETURN(WorkloadPtr workload, callers.Admit(context));
  SIGNET_RETURN_IF_ERROR(CheckAudiences(request));
  std::optional<spiffe::Id> only;
  if (!request.spiffe_id().empty()) {
    SIGNET_ASSIGN_OR_RETURN(only, spiffe::Id::Parse(request.spiffe_id()), "invalid requested SPIFFE ID");
  }
  auto fetch = std::make_shared<JwtFetch>(callers.deps().cache, workload, request, response, std::move(only), finish);
  callers.deps().attestation.Attest(
      std::move(workload), [fetch](absl::StatusOr<EvidencePtr> evidence) { fetch->OnEvidence(std::move(evidence)); });
  return absl::OkStatus();
}

// Whether a token is good is told only to who has an identity here, and judged by the bundles it may use: its own trust
// domain's and those its entries federate with.
absl::Status Validate(const WorkloadServiceDeps& deps, const Workload& workload, const Evidence& evidence,
                      const ValidateJWTSVIDRequest& request, ValidateJWTSVIDResponse* response) {
  const std::vector<EntryPtr> entries = deps.cache.MatchingEntries(evidence.selectors);
  if (entries.empty()) return NoIdentity();
  const auto bundle_of = [&](const spiffe::TrustDomain& trust_domain) -> BundlePtr {
    if (trust_domain == deps.trust_domain) return deps.cache.OwnBundle();
    for (const EntryPtr& entry : entries) {
      const std::vector<std::string>& with = entry->federates_with;
      if (std::find(with.begin(), with.end(), trust_domain.name()) != with.end()) {
        return deps.cache.FindBundle(trust_domain.name());
      }
    }
    return nullptr;
  };
  SIGNET_ASSIGN_OR_RETURN(spiffe::ValidatedJwtSvid svid,
                          spiffe::ValidateJwtSvid(request.svid(), request.audience(), bundle_of, deps.clock.Now()));
  SIGNET_RETURN_IF_ERROR(Attestation::Confirm(workload, evidence));
  response->set_spiffe_id(svid.id.string());
  std::vector<std::string> keep = deps.allowed_foreign_jwt_claims;
  for (const char* name : {"sub", "aud", "exp", "iat", "nbf", "iss", "jti"}) keep.push_back(name);
  *response->mutable_claims() = ToStruct(*svid.claims.all, svid.id.IsMemberOf(deps.trust_domain) ? nullptr : &keep);
  google::protobuf::ListValue audience;  // always a list, as SPIRE's, also when the token has one string
  for (const std::string& value : svid.audience) audience.add_values()->set_string_value(value);
  *(*response->mutable_claims()->mutable_fields())["aud"].mutable_list_value() = std::move(audience);
  return absl::OkStatus();
}

}  // namespace

void FetchJwtSvid(const WorkloadCallers& callers, const grpc::CallbackServerContext& context,
                  const JWTSVIDRequest& request, JWTSVIDResponse* response, const FinishCall& finish) {
  absl::Status started = StartFetch(callers, context, request, response, finish);
  if (!started.ok()) finish(started);
}

void ValidateJwtSvid(const WorkloadCallers& callers, const grpc::CallbackServerContext& context,
                     const ValidateJWTSVIDRequest& request, ValidateJWTSVIDResponse* response,
                     const FinishCall& finish) {
  absl::StatusOr<WorkloadPtr> workload = callers.Admit(context);
  if (!workload.ok()) return finish(workload.status());
  if (request.audience().empty()) return finish(absl::InvalidArgumentError("audience must be specified"));
  if (request.svid().empty()) return finish(absl::InvalidArgumentError("svid must be specified"));
  const WorkloadServiceDeps& deps = callers.deps();
  deps.attestation.Attest(
      *workload, [&deps, workload = *workload, &request, response, finish](absl::StatusOr<EvidencePtr> evidence) {
        if (!evidence.ok()) return finish(evidence.status());
        absl::Status status = Validate(deps, *workload, **evidence, request, response);
        if (!status.ok()) response->Clear();
        finish(std::move(status));
      });
}

}  // namespace signet::agent
