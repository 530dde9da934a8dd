#include "common/kubernetes/token_review.h"

#include <algorithm>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/kubernetes/json_members.h"
#include "common/kubernetes/names.h"
#include "common/status/macros.h"

namespace signet::kubernetes {
namespace {

using boost::json::value;

constexpr size_t kMaxReviewBytes = size_t{1} << 20;
constexpr size_t kMaxToldBytes = 300;

absl::Status Denied(absl::string_view why) { return absl::PermissionDeniedError(absl::StrCat("token review: ", why)); }

// The one value under status.user.extra; each is a list there. "": none. Of two nobody could say which one holds.
absl::StatusOr<std::string> Extra(const value* user, absl::string_view name) {
  const boost::json::array& values =
      Items(Member(Member(user, "extra"), absl::StrCat("authentication.kubernetes.io/", name)));
  if (values.empty()) return std::string();
  std::string text = Text(&values.front());
  if (values.size() > 1 || text.empty()) return Denied(absl::StrCat("it does not tell one ", name));
  return text;
}

// Why the server did not take the token, unless it repeats the token.
std::string WhyNot(const value* status, absl::string_view token) {
  const std::string error = TextMember(status, "error");
  if (error.empty() || absl::StrContains(error, token)) return {};
  return absl::StrCat(": ", absl::CHexEscape(error.substr(0, kMaxToldBytes)));
}

}  // namespace

std::string TokenReviewRequest(absl::string_view token, const std::vector<std::string>& audiences) {
  boost::json::array list;
  for (const std::string& audience : audiences) list.emplace_back(audience);
  const boost::json::object review = {
      {"apiVersion", "authentication.k8s.io/v1"},
      {"kind", "TokenReview"},
      {"spec",
       boost::json::object{{"token", boost::json::string_view(token.data(), token.size())}, {"audiences", list}}}};
  return boost::json::serialize(review);
}

absl::StatusOr<ReviewedToken> ReadTokenReview(absl::string_view answer, const std::vector<std::string>& audiences,
                                              absl::string_view token) {
  // The answer repeats the token in its spec: nothing of it is told but what is picked below.
  const absl::StatusOr<value> json = ParseAnswer(answer, kMaxReviewBytes);
  const value* status = json.ok() ? Member(&*json, "status") : nullptr;
  if (status == nullptr) return absl::InvalidArgumentError("token review: the answer is no TokenReview");
  const value* authenticated = Member(status, "authenticated");
  if (authenticated == nullptr || !authenticated->is_bool() || !authenticated->get_bool()) {
    return Denied(absl::StrCat("the API server does not accept the token", WhyNot(status, token)));
  }
  const boost::json::array& granted = Items(Member(status, "audiences"));
  const bool meant_for_us = std::any_of(granted.begin(), granted.end(), [&](const value& audience) {
    return std::find(audiences.begin(), audiences.end(), Text(&audience)) != audiences.end();
  });
  if (!meant_for_us) return Denied("the token is not for an audience of ours");

  const value* user = Member(status, "user");
  const std::string username = TextMember(user, "username");  // system:serviceaccount:NAMESPACE:NAME
  absl::string_view rest = username;
  const bool service_account = absl::ConsumePrefix(&rest, "system:serviceaccount:");
  const std::pair<std::string, std::string> names = absl::StrSplit(rest, absl::MaxSplits(':', 1));
  if (!service_account || !IsLabel(names.first) || !IsName(names.second)) {
    return Denied("the token is not that of a service account");
  }
  ReviewedToken reviewed;
  reviewed.namespace_name = names.first;
  reviewed.service_account = names.second;
  SIGNET_ASSIGN_OR_RETURN(reviewed.pod_name, Extra(user, "pod-name"));
  SIGNET_ASSIGN_OR_RETURN(reviewed.pod_uid, Extra(user, "pod-uid"));
  SIGNET_ASSIGN_OR_RETURN(reviewed.node_name, Extra(user, "node-name"));
  SIGNET_ASSIGN_OR_RETURN(reviewed.node_uid, Extra(user, "node-uid"));
  if (!IsName(reviewed.pod_name) || !IsUid(reviewed.pod_uid)) {
    return Denied("the token is not bound to a pod; use a projected volume (serviceAccountToken)");
  }
  const bool node_named = !reviewed.node_name.empty() || !reviewed.node_uid.empty();
  if (node_named && (!IsName(reviewed.node_name) || !IsUid(reviewed.node_uid))) {
    return Denied("the node that the token is bound to is not named in full");
  }
  return reviewed;
}

}  // namespace signet::kubernetes
