#include "server/token/chain_case.h"

#include <algorithm>
#include <utility>

#include "server/token/issuance_gate.h"

namespace signet::server {
namespace {

constexpr size_t kMaxContextBytes = 128;  // of task, grant and session as asked

bool Covers(const GrantRecord& grant, const std::string& uri) {
  return std::find(grant.audiences.begin(), grant.audiences.end(), uri) != grant.audiences.end();
}

// T7: a stored record replaces what was captured.
void SetRights(const TokenServiceDeps& deps, DecisionInput::User& user, const oauth::Atoms& captured, absl::Time at) {
  const std::shared_ptr<const UserRightsRecord> stored = deps.registry.FindUserRights(user.issuer, user.subject);
  user.rights = stored != nullptr ? stored->atoms : captured;
  user.rights_at = stored != nullptr ? stored->at : at;
}

std::shared_ptr<const GrantRecord> Newest(const std::vector<std::shared_ptr<const GrantRecord>>& grants,
                                          const std::string& uri, absl::Time now) {
  std::shared_ptr<const GrantRecord> best;
  for (const auto& grant : grants) {
    if (!Covers(*grant, uri) || grant->expires_at <= now) continue;
    if (best == nullptr || std::make_pair(grant->rev, grant->id) > std::make_pair(best->rev, best->id)) best = grant;
  }
  return best;
}

}  // namespace

std::string OnlyCarried(const oauth::AccessToken& token) {
  std::string only;
  for (const oauth::Atom& atom : token.atoms) {
    if (atom.resource == token.audience || atom.resource == only) continue;
    if (!only.empty()) return "";
    only = atom.resource;
  }
  return only;
}

std::optional<OAuthError> FillFirstHop(const TokenServiceDeps& deps, const TokenRequest& request, const UserToken& user,
                                       GrantCase& grant_case) {
  DecisionInput& input = grant_case.input;
  input.kind = RequestKind::kFirstHop;
  input.task = request.Get("task");
  input.session = request.Get("session");
  const std::string& asked_grant = request.Get("grant");
  for (const std::string* text : std::initializer_list<const std::string*>{&input.task, &input.session, &asked_grant}) {
    if (text->size() > kMaxContextBytes) return InvalidRequest("task, grant and session have at most 128 bytes");
  }
  input.user.emplace();
  input.user->issuer = user.issuer->url;
  input.user->subject = user.subject;
  input.user->auth_time = user.auth_time.value_or(absl::InfinitePast());
  input.user->rights_max_age = user.issuer->rights_max_age;
  input.user->reauth_after = user.issuer->reauth_after;
  SetRights(deps, *input.user, user.rights, user.issued_at);
  grant_case.subject_token = user.hash;
  grant_case.expires_by = user.expires_at;
  grant_case.auth_time = user.auth_time;
  grant_case.acr = user.acr;
  grant_case.amr = user.amr;

  if (!input.task.empty()) {
    grant_case.task = deps.registry.FindTask(input.task);
    input.task_record = grant_case.task.get();
    if (grant_case.task != nullptr) grant_case.grant = deps.registry.FindGrant(grant_case.task->grant);
  } else if (!asked_grant.empty()) {
    grant_case.grant = deps.registry.FindGrant(asked_grant);
  }
  auto grants = deps.registry.GrantsOf(input.user->issuer, input.user->subject, input.client_definition);
  if (const auto revocations = deps.registry.revocations()) {
    std::erase_if(grants, [&](const auto& grant) { return IsDead(*grant, *revocations); });
  }
  std::string fallback;
  const GrantRecord* only = grant_case.grant != nullptr ? grant_case.grant.get()
                            : grants.size() == 1        ? grants.front().get()
                                                        : nullptr;
  if (only != nullptr && only->audiences.size() == 1) fallback = only->audiences.front();
  if (auto error = ReadTargets(deps, request, fallback, grant_case)) return error;
  if (grant_case.grant == nullptr && input.task.empty() && asked_grant.empty()) {
    grant_case.grant = Newest(grants, input.resource, input.now);
  }
  input.grant = grant_case.grant.get();
  return std::nullopt;
}

void FillFromParent(const TokenServiceDeps& deps, std::shared_ptr<const oauth::AccessToken> parent,
                    const oauth::Atoms* captured, GrantCase& grant_case) {
  DecisionInput& input = grant_case.input;
  const oauth::Context& context = parent->context;
  input.parent = parent.get();
  grant_case.rev = context.rev;
  grant_case.auth_time = parent->auth_time;
  grant_case.acr = parent->acr;
  grant_case.amr = parent->amr;
  grant_case.parent_resource = deps.registry.FindResource(parent->audience);
  input.parent_resource = grant_case.parent_resource.get();
  grant_case.grant = deps.registry.FindGrant(context.grant);
  input.grant = grant_case.grant.get();
  if (!context.task.empty()) {
    grant_case.task = deps.registry.FindTask(context.task);
    input.task_record = grant_case.task.get();
  }
  const std::shared_ptr<const IssuerRecord> issuer = deps.registry.FindIssuer(context.user_issuer);
  if (issuer != nullptr) {
    input.user.emplace();
    input.user->issuer = context.user_issuer;
    input.user->subject = context.user_subject;
    input.user->auth_time = parent->auth_time.value_or(absl::InfinitePast());
    input.user->rights_max_age = issuer->rights_max_age;
    input.user->reauth_after = issuer->reauth_after;
    SetRights(deps, *input.user, captured != nullptr ? *captured : parent->atoms, context.rights_at);
  }
  grant_case.parent = std::move(parent);
}

}  // namespace signet::server
