#include "agent/token/answers.h"

#include <algorithm>
#include <set>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace signet::agent {
namespace {

constexpr absl::string_view kRefusedHeaders[] = {"authorization",
                                                 "proxy-authorization",
                                                 "forwarded",
                                                 "client-cert",
                                                 "client-cert-chain",
                                                 "x-real-ip",
                                                 "x-client-cert",
                                                 "x-ssl-client-cert",
                                                 "oauth-client-attestation",
                                                 "oauth-client-attestation-pop",
                                                 "workload-identity-token",
                                                 "workload-proof-token"};
constexpr absl::string_view kRefusedFields[] = {"client_assertion", "client_assertion_type", "client_secret"};

bool IsForm(absl::string_view content_type) {
  const absl::string_view type = absl::StripAsciiWhitespace(content_type.substr(0, content_type.find(';')));
  return absl::EqualsIgnoreCase(type, "application/x-www-form-urlencoded");
}

net::WebResponse BadRequest(absl::string_view description) { return OAuthRefusal(400, "invalid_request", description); }

}  // namespace

net::WebResponse JsonAnswer(std::string body) {
  net::WebResponse answer;
  answer.body = std::move(body);
  answer.headers = {{"Cache-Control", "no-store"}};
  return answer;
}

net::WebResponse OAuthRefusal(int status, absl::string_view error, absl::string_view description) {
  const boost::json::object body = {
      {"error", boost::json::string_view(error.data(), error.size())},
      {"error_description", boost::json::string_view(description.data(), description.size())}};
  net::WebResponse answer = JsonAnswer(boost::json::serialize(body));
  answer.status = status;
  return answer;
}

net::WebResponse CallerRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return BadRequest(status.message());
    case absl::StatusCode::kUnauthenticated:
      return OAuthRefusal(401, "invalid_client", status.message());
    case absl::StatusCode::kPermissionDenied:
      return OAuthRefusal(403, "access_denied", status.message());
    default:
      break;
  }
  net::WebResponse answer = OAuthRefusal(503, "temporarily_unavailable", status.message());
  answer.headers.emplace_back("Retry-After", "1");
  return answer;
}

std::optional<net::WebResponse> ReadForm(const net::WebRequest& request, net::Form& form) {
  std::string content_type;
  for (const auto& [name, value] : request.headers) {
    if (absl::StartsWith(name, "x-forwarded-") ||
        std::find(std::begin(kRefusedHeaders), std::end(kRefusedHeaders), name) != std::end(kRefusedHeaders)) {
      return BadRequest(absl::StrCat("the header ", name,
                                     " has no place here: the caller is the process at the other end of the socket"));
    }
    if (name == "content-type") content_type = value;
  }
  if (!request.query.empty()) return BadRequest("parameters belong in the body");
  bool repeated = false;
  request.Header("content-type", &repeated);
  if (repeated || !IsForm(content_type)) {
    return BadRequest("the body must be application/x-www-form-urlencoded");
  }
  absl::StatusOr<net::Form> read = net::ParseForm(request.body);
  if (!read.ok()) return BadRequest(read.status().message());
  std::set<absl::string_view> seen;
  for (const auto& [name, value] : *read) {
    if (std::find(std::begin(kRefusedFields), std::end(kRefusedFields), name) != std::end(kRefusedFields)) {
      return BadRequest(absl::StrCat(name, " has no place here: the agent authenticates by the caller's own SVID"));
    }
    if (name != "resource" && name != "audience" && !seen.insert(name).second) {
      return BadRequest("a parameter that may stand once stands twice");
    }
  }
  form = *std::move(read);
  return std::nullopt;
}

const std::string& FieldOf(const net::Form& form, absl::string_view name) {
  static const std::string kNone;
  for (const auto& [field, value] : form) {
    if (field == name) return value;
  }
  return kNone;
}

void DropField(net::Form& form, absl::string_view name) {
  std::erase_if(form, [&](const auto& field) { return field.first == name; });
}

void SetField(net::Form& form, absl::string_view name, std::string value) {
  DropField(form, name);
  form.emplace_back(std::string(name), std::move(value));
}

}  // namespace signet::agent
