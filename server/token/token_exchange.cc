// Token exchange (RFC 8693). What the subject token is decides the path: a user's token of a registered issuer begins a
// chain; one of ours goes on with its chain, and nothing else of it is asked for or dropped. There is no impersonation:
// with or without an actor token the client is the actor.
#include <utility>

#include <boost/json.hpp>

#include "common/jose/jws.h"
#include "common/json/json.h"
#include "server/token/audit_record.h"
#include "server/token/chain_case.h"
#include "server/token/grants.h"
#include "server/token/issue.h"
#include "server/token/refresh_grant.h"

namespace signet::server {
namespace {

// By its `kid`, which is that of a key of ours: then it must verify as one of ours, and nothing else will do.
bool ClaimsToBeOurs(const TokenServiceDeps& deps, absl::string_view token) {
  constexpr size_t kMaxHeaderBytes = 1024;
  const absl::string_view part = token.substr(0, token.find('.'));
  if (part.size() > kMaxHeaderBytes) return false;
  const absl::StatusOr<std::string> header = jose::Base64UrlDecode(part);
  if (!header.ok()) return false;
  const absl::StatusOr<boost::json::value> value = json::Parse(*header, kMaxHeaderBytes);
  if (!value.ok() || !value->is_object()) return false;
  const boost::json::value* kid = value->get_object().if_contains("kid");
  return kid != nullptr && kid->is_string() && deps.signer.token_keys()->contains(std::string(kid->get_string()));
}

bool IsTokenType(const std::string& type) { return type == kAccessTokenType || type == kJwtType; }

std::optional<OAuthError> CheckParameters(const TokenRequest& request) {
  if (request.Get("subject_token").empty()) return InvalidRequest("subject_token is missing");
  if (!IsTokenType(request.Get("subject_token_type"))) {
    return InvalidRequest("subject_token_type is that of an access token or a jwt");
  }
  const std::string& requested = request.Get("requested_token_type");
  if (!requested.empty() && !IsTokenType(requested)) return InvalidRequest("requested_token_type is not issued here");
  if (request.Get("actor_token").empty() != request.Get("actor_token_type").empty()) {
    return InvalidRequest("actor_token and actor_token_type go together");
  }
  return std::nullopt;
}

// Present, the actor token must name the client (it adds nothing: the client proved who it is).
bool ActorTokenNamesClient(const TokenServiceDeps& deps, const TokenCall& call) {
  const std::string& token = call.request.Get("actor_token");
  if (token.empty()) return true;
  if (!IsTokenType(call.request.Get("actor_token_type"))) return false;
  if (ClaimsToBeOurs(deps, token)) {
    const auto own = oauth::Verify(token, *deps.signer.token_keys(), deps.issuer, call.now);
    return own.ok() && own->client_id == call.client.id && !deps.gate.Check(*own).has_value();
  }
  if (!deps.bundles) return false;
  const auto svid = spiffe::ValidateJwtSvid(token, deps.issuer, deps.bundles, call.now);
  return svid.ok() && svid->id.string() == call.client.id;
}

// The outermost actor narrows its own token in place and proves that it holds it (cnf).
std::optional<OAuthError> CheckConfirmation(const TokenCall& call, const oauth::AccessToken& parent) {
  const oauth::Binding& bound = parent.binding;
  if (!bound.jkt.empty() && bound.jkt != call.proven.jkt) {
    return OAuthError{400, "invalid_dpop_proof", "the subject token is bound to another key", "", ""};
  }
  if (!bound.x5t_s256.empty() && bound.x5t_s256 != call.proven.x5t_s256) {
    return InvalidRequest("the subject token is bound to another certificate");
  }
  return std::nullopt;
}

void ExchangeOwn(const TokenServiceDeps& deps, TokenCallPtr call, std::shared_ptr<GrantCase> grant_case) {
  absl::StatusOr<oauth::AccessToken> verified =
      oauth::Verify(call->request.Get("subject_token"), *deps.signer.token_keys(), deps.issuer, call->now);
  if (!verified.ok()) {
    return Refuse(deps, call,
                  InvalidRequest("the subject token is not valid", std::string(verified.status().message())));
  }
  auto parent = std::make_shared<const oauth::AccessToken>(*std::move(verified));
  call->audit["txn"] = parent->txn;
  if (const auto blocked = deps.gate.Check(*parent)) {
    return Refuse(deps, call, InvalidGrant("revoked", "revoked", *blocked));
  }
  DecisionInput& input = grant_case->input;
  const bool narrows = parent->client_id == call->client.id;
  input.kind = narrows ? RequestKind::kNarrow : RequestKind::kNewHop;
  if (narrows) {
    if (auto error = CheckConfirmation(*call, *parent)) return Refuse(deps, call, *error);
  }
  input.task = call->request.Get("task");
  input.session = call->request.Get("session");
  if (const std::string& grant = call->request.Get("grant"); !grant.empty() && grant != parent->context.grant) {
    return Refuse(deps, call, {400, "access_denied", "the token is of another grant", "consent_boundary", ""});
  }
  FillFromParent(deps, parent, nullptr, *grant_case);
  grant_case->subject_token = oauth::Hash(parent->jwt_id);
  const std::string fallback = narrows ? parent->audience : OnlyCarried(*parent);
  if (auto error = ReadTargets(deps, call->request, fallback, *grant_case)) return Refuse(deps, call, *error);
  if (auto error = ReadRequested(call->request, *grant_case)) return Refuse(deps, call, *error);
  if (auto error = ReadBinding(*call, *grant_case)) return Refuse(deps, call, *error);
  Issue(deps, {.call = std::move(call),
               .grant_case = std::move(grant_case),
               .answered_type = kAccessTokenType,
               .with_refresh = {},
               .on_reuse = {}});
}

void ExchangeUsers(const TokenServiceDeps& deps, TokenCallPtr call, std::shared_ptr<GrantCase> grant_case) {
  TokenPresenter presenter{call->client.id, call->client.definition, call->proven};
  ReadUserToken(deps, call->request.Get("subject_token"), std::move(presenter), call->now,
                [&deps, call, grant_case](absl::StatusOr<UserToken> user) {
                  if (absl::IsUnavailable(user.status())) {
                    return Refuse(deps, call,
                                  {503, "temporarily_unavailable", "the keys of the issuer are not at hand", "",
                                   std::string(user.status().message())});
                  }
                  if (!user.ok()) {
                    return Refuse(
                        deps, call,
                        InvalidRequest("the subject token is not accepted", std::string(user.status().message())));
                  }
                  call->audit["for"] = AuditUser(user->issuer->url, user->subject);
                  if (auto error = FillFirstHop(deps, call->request, *user, *grant_case)) {
                    return Refuse(deps, call, *error);
                  }
                  if (auto error = ReadRequested(call->request, *grant_case)) return Refuse(deps, call, *error);
                  if (auto error = ReadBinding(*call, *grant_case)) return Refuse(deps, call, *error);
                  Issuance issuance{.call = call,
                                    .grant_case = grant_case,
                                    .answered_type = kAccessTokenType,
                                    .with_refresh = {},
                                    .on_reuse = {}};
                  if (grant_case->task != nullptr) issuance.with_refresh = NewRefreshFamily(*call, *grant_case);
                  Issue(deps, std::move(issuance));
                });
}

}  // namespace

void ExchangeToken(const TokenServiceDeps& deps, TokenCallPtr call) {
  if (auto error = CheckParameters(call->request)) return Refuse(deps, call, *error);
  if (!ActorTokenNamesClient(deps, *call)) {
    return Refuse(deps, call, InvalidRequest("the actor token is not the client's own"));
  }
  auto grant_case = std::make_shared<GrantCase>();
  grant_case->rev = deps.registry.seq();  // before anything is looked up
  ReadClient(*call, *grant_case);
  if (ClaimsToBeOurs(deps, call->request.Get("subject_token"))) {
    return ExchangeOwn(deps, std::move(call), std::move(grant_case));
  }
  ExchangeUsers(deps, std::move(call), std::move(grant_case));
}

}  // namespace signet::server
