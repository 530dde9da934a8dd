#include "server/token/grant_request.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace signet::server {
namespace {

constexpr size_t kMaxResources = 8;
constexpr size_t kMaxScopes = 128;

OAuthError InvalidTarget(std::string description) {
  return {.status = 400, .error = "invalid_target", .description = std::move(description), .reason = {}, .detail = {}};
}

bool IsScopeToken(absl::string_view scope) {  // RFC 6749 3.3
  return std::all_of(scope.begin(), scope.end(),
                     [](char c) { return c == 0x21 || (c >= 0x23 && c <= 0x5B) || (c >= 0x5D && c <= 0x7E); });
}

const ResourceRecord* ResourceOf(const GrantCase& grant_case, const std::string& uri) {
  if (grant_case.target->uri == uri) return grant_case.target.get();
  for (const auto& resource : grant_case.carried) {
    if (resource->uri == uri) return resource.get();
  }
  return nullptr;
}

}  // namespace

std::optional<OAuthError> ReadTargets(const TokenServiceDeps& deps, const TokenRequest& request,
                                      const std::string& fallback, GrantCase& grant_case) {
  std::vector<std::string> asked = request.resources;
  asked.insert(asked.end(), request.audiences.begin(), request.audiences.end());
  if (asked.empty() && !fallback.empty()) asked.push_back(fallback);
  if (asked.empty()) return InvalidTarget("say which resource: \"resource\" is missing and there is no only one");
  if (asked.size() > kMaxResources) return InvalidTarget(absl::StrCat("more than ", kMaxResources, " resources"));
  std::vector<std::string> uris;
  for (const std::string& text : asked) {
    const absl::StatusOr<std::string> uri = oauth::CanonicalResource(text);
    if (!uri.ok()) return InvalidTarget("a resource is no absolute URI without fragment");
    if (std::find(uris.begin(), uris.end(), *uri) != uris.end()) continue;
    const std::shared_ptr<const ResourceRecord> resource = deps.registry.FindResource(*uri);
    if (resource == nullptr || resource->tombstone) return InvalidTarget("a resource that is not registered here");
    uris.push_back(*uri);
    if (grant_case.target == nullptr) {
      grant_case.target = resource;
    } else {
      grant_case.carried.push_back(resource);
    }
  }
  grant_case.input.resource = grant_case.target->uri;
  grant_case.input.target = grant_case.target.get();
  for (const auto& resource : grant_case.carried) grant_case.input.carried.push_back(resource.get());
  return std::nullopt;
}

void AddCarried(const TokenServiceDeps& deps, const oauth::AccessToken& token, GrantCase& grant_case) {
  for (const oauth::Atom& atom : token.atoms) {
    if (ResourceOf(grant_case, atom.resource) != nullptr) continue;
    const std::shared_ptr<const ResourceRecord> resource = deps.registry.FindResource(atom.resource);
    if (resource == nullptr || resource->tombstone) continue;
    grant_case.carried.push_back(resource);
    grant_case.input.carried.push_back(resource.get());
  }
}

std::optional<OAuthError> ReadRequested(const TokenRequest& request, GrantCase& grant_case) {
  DecisionInput& input = grant_case.input;
  const std::string& scope = request.Get("scope");
  const std::string& details_json = request.Get("authorization_details");
  input.nothing_asked = scope.empty() && details_json.empty();

  oauth::Atoms by_scope, by_details;
  if (!scope.empty()) {
    const std::vector<std::string> scopes = absl::StrSplit(scope, ' ');
    const bool malformed =
        std::any_of(scopes.begin(), scopes.end(), [](const std::string& s) { return s.empty() || !IsScopeToken(s); });
    if (malformed || scopes.size() > kMaxScopes) {
      return OAuthError{400, "invalid_scope", "the scope is malformed", "", ""};
    }
    std::vector<std::string> unknown;  // expand to nothing: what is left tells the client
    by_scope = ExpandScopes(*grant_case.target, scopes, &unknown);
    for (const auto& resource : grant_case.carried) {
      const oauth::Atoms more = ExpandScopes(*resource, scopes, &unknown);
      by_scope.insert(by_scope.end(), more.begin(), more.end());
    }
  }
  if (!details_json.empty()) {
    absl::StatusOr<std::vector<oauth::ToolCallDetails>> details = oauth::ParseAuthorizationDetails(details_json);
    if (!details.ok()) {
      return OAuthError{400, "invalid_authorization_details", std::string(details.status().message()), "", ""};
    }
    std::map<std::string, std::vector<oauth::ToolCallDetails>> by_resource;
    for (oauth::ToolCallDetails& detail : *details) {
      if (detail.max_calls.has_value()) {
        input.max_calls =
            input.max_calls.has_value() ? std::min(*input.max_calls, *detail.max_calls) : *detail.max_calls;
      }
      if (detail.resource.empty()) detail.resource = input.resource;
      by_resource[detail.resource].push_back(std::move(detail));
    }
    for (const auto& [uri, of_resource] : by_resource) {
      const ResourceRecord* resource = ResourceOf(grant_case, uri);
      if (resource == nullptr) return InvalidTarget("authorization_details names a location that is no \"resource\"");
      const oauth::Atoms more = ExpandDetails(*resource, of_resource, &input.unknown_tools);
      by_details.insert(by_details.end(), more.begin(), more.end());
    }
  }
  std::copy_if(by_details.begin(), by_details.end(), std::back_inserter(input.named_tools),
               [](const oauth::Atom& atom) { return atom.tool; });
  absl::StatusOr<oauth::Atoms> requested = Requested(by_scope, by_details);
  if (!requested.ok()) {
    return OAuthError{400, "invalid_authorization_details", std::string(requested.status().message()), "", ""};
  }
  input.requested = *std::move(requested);
  return std::nullopt;
}

std::optional<OAuthError> ReadBinding(const TokenCall& call, GrantCase& grant_case) {
  const std::string& asked = call.request.Get("token_binding");
  oauth::Binding& binding = grant_case.input.binding;
  if (asked == "x5t") {
    if (call.proven.x5t_s256.empty()) {
      return InvalidRequest("token_binding=x5t needs a client certificate on this connection");
    }
    binding.x5t_s256 = call.proven.x5t_s256;
    // RFC 8705 obliges the resource to refuse the certificate that comes after this one.
    grant_case.input.certificate_not_after = std::min(call.client.planned_rotation, call.client.not_after);
  } else if (asked.empty() || asked == "dpop") {
    binding.jkt = call.proven.jkt;
  } else {
    return InvalidRequest("token_binding is dpop or x5t");
  }
  if (!binding.bearer()) return std::nullopt;
  if (asked.empty() && grant_case.target->minimum_binding == oauth::MinimumBinding::kBearer) return std::nullopt;
  return InvalidRequest("a DPoP proof is missing; with a client certificate token_binding=x5t does without");
}

void ReadClient(const TokenCall& call, GrantCase& grant_case) {
  DecisionInput& input = grant_case.input;
  input.now = call.now;
  input.client_id = call.client.id;
  input.client_definition = call.client.definition;
  input.instance = InstanceOf(call.client);
  input.own_trust_domain = call.client.own_trust_domain;
  grant_case.identity = call.client.identity;
  input.identity = grant_case.identity.get();
}

}  // namespace signet::server
