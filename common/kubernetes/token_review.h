// TokenReview (authentication.k8s.io/v1): the API server is asked whose a service-account token is, by a POST to this
// path: right "create tokenreviews.authentication.k8s.io". Pure. No error and no result repeats the token.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::kubernetes {

inline constexpr absl::string_view kTokenReviewPath = "/apis/authentication.k8s.io/v1/tokenreviews";

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

}  // namespace signet::kubernetes
