#include "server/federation/bundle_client.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/net/http_client.h"
#include "common/spiffe/x509_svid.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr size_t kMaxBundleBytes = 4 * 1024 * 1024;  // as Bundle::ParseJson

}  // namespace

absl::StatusOr<spiffe::Bundle> BundleClient::Fetch(const FederationRelationship& relationship) const {
  absl::StatusOr<std::string> document =
      relationship.endpoint_spiffe_id
          ? FetchBySvid(relationship)
          : net::HttpsGet(relationship.bundle_endpoint_url, kMaxBundleBytes, options_.timeout, options_.web_roots_file);
  if (!document.ok()) return document.status();
  return spiffe::Bundle::ParseJson(relationship.trust_domain, *document);
}

absl::StatusOr<std::string> BundleClient::FetchBySvid(const FederationRelationship& relationship) const {
  const spiffe::Id& expected = *relationship.endpoint_spiffe_id;
  std::shared_ptr<const crypto::TrustAnchors> anchors;
  if (expected.IsMemberOf(relationship.trust_domain)) {
    if (relationship.bundle) {
      SIGNET_ASSIGN_OR_RETURN(crypto::TrustAnchors made, relationship.bundle->Anchors());
      anchors = std::make_shared<const crypto::TrustAnchors>(std::move(made));
    }
  } else if (const BundlePtr bundle = find_bundle_(expected.trust_domain()); bundle != nullptr) {
    SIGNET_ASSIGN_OR_RETURN(crypto::TrustAnchors made, bundle->Anchors());
    anchors = std::make_shared<const crypto::TrustAnchors>(std::move(made));
  }
  if (anchors == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("no bundle of trust domain ", expected.trust_domain_name(),
                                                      " to judge the endpoint ", expected.string(),
                                                      " by: give one with the federation relationship"));
  }
  absl::Status verdict;  // the reason, which TLS does not carry
  const crypto::JudgeServer judge = [&](const std::vector<crypto::Certificate>& chain) -> absl::Status {
    const absl::StatusOr<spiffe::Id> id = spiffe::VerifyX509Svid(
        chain,
        [&](const spiffe::TrustDomain& name) {
          return name.name() == expected.trust_domain_name() ? anchors : nullptr;
        },
        clock_.Now());
    if (!id.ok()) {
      verdict = id.status();
    } else if (*id != expected) {
      verdict = absl::UnauthenticatedError(absl::StrCat("it is ", id->string(), ", not ", expected.string()));
    } else {
      verdict = absl::OkStatus();
    }
    return verdict;
  };
  absl::StatusOr<std::string> document =
      net::HttpsGetJudged(relationship.bundle_endpoint_url, kMaxBundleBytes, options_.timeout, judge);
  if (!document.ok() && !verdict.ok()) {
    return absl::UnavailableError(absl::StrCat("get ", relationship.bundle_endpoint_url, ": ", verdict.message()));
  }
  return document;
}

}  // namespace signet::server
