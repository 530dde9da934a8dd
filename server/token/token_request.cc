#include "server/token/token_request.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/net/form.h"
#include "common/oauth/access_token.h"

namespace signet::server {
namespace {

constexpr size_t kMaxBodyBytes = size_t{64} * 1024;
constexpr size_t kMaxDpopBytes = size_t{8} * 1024;
constexpr size_t kMaxResources = 16;

OAuthError Invalid(std::string description, std::string detail = "") {
  return {.status = 400,
          .error = "invalid_request",
          .description = std::move(description),
          .reason = {},
          .detail = std::move(detail)};
}

// What a client sends instead of an SVID. One text for all of them, as for all failures of authentication.
OAuthError WrongMethod(std::string detail) {
  return {.status = 401,
          .error = "invalid_client",
          .description = kInvalidClientText,
          .reason = {},
          .detail = std::move(detail)};
}

// RFC 6749 appendix B; parameters such as charset may follow.
bool IsForm(absl::string_view content_type) {
  const absl::string_view type = absl::StripAsciiWhitespace(content_type.substr(0, content_type.find(';')));
  return absl::EqualsIgnoreCase(type, "application/x-www-form-urlencoded");
}

// Parameters that carry a JWT.
bool IsJwt(absl::string_view name) {
  return name == "client_assertion" || name == "subject_token" || name == "actor_token" || name == "token" ||
         name == "refresh_token" || name == "dpop" || name == "assertion";
}

std::optional<OAuthError> ReadHeaders(const net::WebRequest& request, TokenRequest& out) {
  bool repeated = false;
  const std::string* type = request.Header("content-type", &repeated);
  if (type == nullptr || !IsForm(*type)) return Invalid("the body must be application/x-www-form-urlencoded");
  if (request.Header("authorization", &repeated) != nullptr || repeated) return WrongMethod("an Authorization header");
  const std::string* dpop = request.Header("dpop", &repeated);
  if (repeated) {
    return OAuthError{.status = 400,
                      .error = "invalid_dpop_proof",
                      .description = "more than one DPoP header",
                      .reason = {},
                      .detail = {}};
  }
  if (dpop != nullptr) {
    if (dpop->size() > kMaxDpopBytes) return Invalid("the DPoP proof is larger than 8 KiB");
    out.dpop = *dpop;
  }
  return std::nullopt;
}

std::optional<OAuthError> ReadField(std::string name, std::string value, TokenRequest& out) {
  if (value.empty()) return std::nullopt;  // RFC 6749 3.1: as if it were left out
  if (IsJwt(name) && value.size() > oauth::kMaxJwtBytes) return Invalid(absl::StrCat(name, " is larger than 16 KiB"));
  if (name == "resource" || name == "audience") {  // RFC 8693 2.1, RFC 8707 2: may repeat
    std::vector<std::string>& values = name == "resource" ? out.resources : out.audiences;
    if (values.size() == kMaxResources) return Invalid(absl::StrCat("more than 16 of ", name));
    values.push_back(std::move(value));
    return std::nullopt;
  }
  if (name == "client_secret") return WrongMethod("a client_secret");
  std::string* const place = name == "client_assertion"        ? &out.client_assertion
                             : name == "client_assertion_type" ? &out.client_assertion_type
                                                               : &out.form[name];
  // The name is the client's own text: it goes into the audit, not into the answer.
  if (!place->empty()) return Invalid("a parameter stands more than once", absl::StrCat("repeated: ", name));
  *place = std::move(value);
  return std::nullopt;
}

}  // namespace

const std::string& TokenRequest::Get(const std::string& name) const {
  static const std::string absent;
  const auto it = form.find(name);
  return it == form.end() ? absent : it->second;
}

std::optional<OAuthError> TokenRequest::Parse(net::WebRequest request, TokenRequest& out) {
  out = {};
  out.peer = std::move(request.peer);
  if (request.body.size() > kMaxBodyBytes) return Invalid("the body is larger than 64 KiB");
  // RFC 6749 2.3.1: parameters of a request stand in its body and never in the URI.
  if (!request.query.empty()) return Invalid("parameters belong in the body");
  if (auto error = ReadHeaders(request, out)) return error;
  absl::StatusOr<net::Form> form = net::ParseForm(request.body);
  if (!form.ok()) return Invalid(std::string(form.status().message()));
  for (auto& [name, value] : *form) {
    if (auto error = ReadField(std::move(name), std::move(value), out)) return error;
  }
  if (out.client_assertion.empty() != out.client_assertion_type.empty()) {
    return Invalid("client_assertion and client_assertion_type belong together");
  }
  // Whether one was shown that is not needed cannot be told from two methods at once (token-service 7).
  if (!out.client_assertion.empty() && !request.client_chain.empty()) {
    return Invalid("more than one method of authentication: a client certificate and an assertion");
  }
  out.client_chain = std::move(request.client_chain);
  return std::nullopt;
}

}  // namespace signet::server
