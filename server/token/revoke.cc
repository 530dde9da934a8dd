// Revocation by a client (RFC 7009): of a token it holds or that was derived from its own. An access token takes with
// it what descends from it; a refresh token its family and the whole chain. What is unknown or over is answered 200, as
// the RFC wants; what is another's is refused.
#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/match.h"
#include "common/crypto/digest.h"
#include "server/token/audit_record.h"
#include "server/token/endpoint_answers.h"
#include "server/token/refresh_grant.h"

namespace signet::server {
namespace {

OAuthError NotYours() {
  return {400, "unauthorized_client", "the token was issued to another client", "actor_not_permitted", ""};
}

void Finish(const TokenServiceDeps& deps, const TokenCallPtr& call, boost::json::object what) {
  boost::json::object record = call->audit;
  record["event"] = call->event;
  record["outcome"] = "revoked";
  record["revoked"] = std::move(what);
  Consume consume;
  consume.once = std::exchange(call->once, {});
  deps.audit.Append(std::move(record), std::move(consume), [&deps, call](const absl::Status& status) {
    if (!status.ok()) return Refuse(deps, call, ErrorOfCommit(*call, status));
    deps.metrics.token_revocations.Add();
    call->done({.status = 200, .body = "", .headers = {{"Cache-Control", "no-store"}, {"Pragma", "no-cache"}}});
  });
}

RevokeChange ChangeOf(oauth::EntityKind kind, const std::string& entity, absl::Time now) {
  RevokeChange change;
  change.revocation.kind = kind;
  change.revocation.entity = entity;
  change.revocation.not_before = absl::FromUnixSeconds(absl::ToUnixSeconds(now));
  change.revocation.reason = "revoked by its client";
  return change;
}

// One after the other; the audit record last.
void RevokeAll(const TokenServiceDeps& deps, const TokenCallPtr& call, std::vector<RevokeChange> changes,
               boost::json::object what) {
  if (changes.empty()) return Finish(deps, call, std::move(what));
  RevokeChange next = std::move(changes.back());
  changes.pop_back();
  deps.revoker.Revoke(std::move(next), [&deps, call, changes = std::move(changes),
                                        what = std::move(what)](const absl::StatusOr<uint64_t>& seq) mutable {
    if (!seq.ok()) {
      return Refuse(deps, call, {503, "temporarily_unavailable", "try again", "", std::string(seq.status().message())});
    }
    RevokeAll(deps, call, std::move(changes), std::move(what));
  });
}

// A replayed request revokes nothing.
void UseUpAndRevoke(const TokenServiceDeps& deps, const TokenCallPtr& call, std::vector<RevokeChange> changes,
                    boost::json::object what) {
  UseUp(deps, call, [&deps, call, changes = std::move(changes), what = std::move(what)]() mutable {
    RevokeAll(deps, call, std::move(changes), std::move(what));
  });
}

void RevokeAccessToken(const TokenServiceDeps& deps, const TokenCallPtr& call) {
  const auto token = oauth::VerifyAnyTime(call->request.Get("token"), *deps.signer.token_keys(), deps.issuer);
  if (!token.ok() || token->expires_at <= call->now) {
    return Finish(deps, call, {{"kind", "token"}, {"effect", "none: unknown or over"}});
  }
  call->audit["txn"] = token->txn;
  const std::string& client = call->client.id;
  const bool acted =
      token->client_id == client || std::any_of(token->actors.begin(), token->actors.end(),
                                                [&](const oauth::Actor& actor) { return actor.subject == client; });
  if (!acted) return Refuse(deps, call, NotYours());
  UseUpAndRevoke(deps, call, {ChangeOf(oauth::EntityKind::kToken, token->jwt_id, call->now)},
                 {{"kind", "token"}, {"entity_hash", oauth::Hash(token->jwt_id)}});
}

void RevokeRefreshToken(const TokenServiceDeps& deps, const TokenCallPtr& call) {
  const absl::StatusOr<RefreshRecord> record = deps.uses.GetRefresh(crypto::Sha256(call->request.Get("token")));
  if (absl::IsNotFound(record.status())) {
    return Finish(deps, call, {{"kind", "family"}, {"effect", "none: unknown or over"}});
  }
  if (!record.ok()) {
    return Refuse(deps, call,
                  {503, "temporarily_unavailable", "try again", "", std::string(record.status().message())});
  }
  if (record->instance != InstanceOf(call->client)) return Refuse(deps, call, NotYours());
  const absl::StatusOr<std::string> root = RootOfRefresh(*record);
  std::vector<RevokeChange> changes;
  if (root.ok()) changes.push_back(ChangeOf(oauth::EntityKind::kChain, *root, call->now));
  changes.push_back(ChangeOf(oauth::EntityKind::kFamily, record->family, call->now));
  UseUpAndRevoke(deps, call, std::move(changes), {{"kind", "family"}, {"entity", record->family}});
}

}  // namespace

void RevokeToken(const TokenServiceDeps& deps, TokenCallPtr call) {
  const std::string& token = call->request.Get("token");
  if (token.empty()) return Refuse(deps, call, InvalidRequest("token is missing"));
  if (!absl::StartsWith(token, kRefreshTokenPrefix)) return RevokeAccessToken(deps, call);
  const bool posted = deps.executor.Post([&deps, call] { RevokeRefreshToken(deps, call); });
  if (!posted)
    Refuse(deps, call, {503, "temporarily_unavailable", "try again", "", "too much waits for the datastore"});
}

}  // namespace signet::server
