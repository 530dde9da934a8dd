// TokenReview (authentication.k8s.io/v1): the API server is asked whose a service-account token is. Pure but for
// ReviewToken. The token is in the request alone: no error and no result repeats it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/kubernetes/api_client.h"

namespace signet::kubernetes {

// Of an authenticated token of a service account that is bound to a pod.
struct ReviewedToken {
  std::string namespace_name, service_account;
  std::string pod_name, pod_uid;
  std::string node_name, node_uid;  // of Kubernetes 1.30 and newer; empty before
};

std::string TokenReviewRequest(absl::string_view token, const std::vector<std::string>& audiences);

// kPermissionDenied: not authenticated (expired, foreign issuer, wrong audience, pod gone), not for one of `audiences`
// (an API server that does not know audiences must not pass), no service account, not bound to a pod. kInvalidArgument:
// the answer is no TokenReview.
absl::StatusOr<ReviewedToken> ReadTokenReview(absl::string_view answer, const std::vector<std::string>& audiences,
                                              absl::string_view token);

// Both, over the wire: right "create tokenreviews.authentication.k8s.io".
absl::StatusOr<ReviewedToken> ReviewToken(ApiClient& client, const std::string& token,
                                          const std::vector<std::string>& audiences, const CallOptions& options);

}  // namespace signet::kubernetes
