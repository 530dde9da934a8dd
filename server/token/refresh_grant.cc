#include "server/token/refresh_grant.h"

#include <utility>

#include <boost/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/crypto/random.h"
#include "common/crypto/seal.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/status/macros.h"
#include "server/token/audit_record.h"
#include "server/token/chain_case.h"
#include "server/token/grants.h"

namespace signet::server {
namespace {

constexpr size_t kMaxStateBytes = 1024 * 1024;
constexpr absl::Duration kRetryWindow = absl::Seconds(10);  // T11
constexpr size_t kMaxRefreshTokenBytes = 128;
constexpr absl::Duration kLongestTask = absl::Hours(8), kToldUntil = absl::Hours(1);

// What a refresh token stands for.
struct RefreshState {
  oauth::AccessToken token;  // as issued last; without receipts
  oauth::Atoms rights;       // of the user, as captured at the first hop
  std::string subject_token;
};

std::string StateJson(const RefreshState& state) {
  return boost::json::serialize(boost::json::object{{"token", oauth::ClaimsJson(state.token)},
                                                    {"rights", oauth::CanonicalJson(state.rights)},
                                                    {"subject_token", state.subject_token}});
}

absl::StatusOr<RefreshState> ParseState(absl::string_view text) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value value, json::Parse(text, kMaxStateBytes));
  const auto member = [&](const char* name) -> absl::string_view {
    const boost::json::value* found = value.is_object() ? value.get_object().if_contains(name) : nullptr;
    if (found == nullptr || !found->is_string()) return "";
    return {found->get_string().data(), found->get_string().size()};
  };
  RefreshState state;
  SIGNET_ASSIGN_OR_RETURN(state.token, oauth::ParseClaims(member("token")));
  SIGNET_ASSIGN_OR_RETURN(state.rights, oauth::ParseAtoms(member("rights")));
  state.subject_token = std::string(member("subject_token"));
  return state;
}

// The key that proved the request, by which a retry is known.
std::string Prover(const TokenCall& call) {
  return call.proven.x5t_s256.empty() ? absl::StrCat("jkt ", call.proven.jkt) : call.proven.x5t_s256;
}

const std::string& SealKey() {
  static const std::string key = crypto::RandomBytes(32);
  return key;
}

std::function<RefreshPart(const oauth::AccessToken&)> Rotation(std::string family, RefreshState state,
                                                               std::optional<std::string> spend, std::string prover) {
  return [family = std::move(family), state = std::move(state), spend = std::move(spend),
          prover = std::move(prover)](const oauth::AccessToken& token) {
    RefreshState next = state;
    next.token = token;
    next.token.receipts.clear();
    RefreshPart part;
    part.token = absl::StrCat(kRefreshTokenPrefix, jose::Base64UrlEncode(crypto::RandomBytes(32)));
    part.record.hash = crypto::Sha256(part.token);
    part.record.family = family;
    part.record.instance = token.context.instance;
    part.record.task = token.context.task;
    part.record.state = StateJson(next);
    // Nothing of it may be used after the next checkpoint, but a client that comes late shall be told so.
    part.record.expires_at = std::min(token.context.reauth_at, token.issued_at + kLongestTask) + kToldUntil;
    part.spend = spend;
    if (spend.has_value()) {
      part.seal = [token, hash = *spend](const std::string& answer) {
        const std::string both =
            boost::json::serialize(boost::json::object{{"answer", answer}, {"token", oauth::ClaimsJson(token)}});
        return crypto::Seal(SealKey(), both, hash).value_or("");
      };
      part.successor_for = prover;
    }
    return part;
  };
}

// --- reuse
// ---------------------------------------------------------------------------------------------------------------

void RevokeFamily(const TokenServiceDeps& deps, const TokenCallPtr& call, const std::string& family,
                  const std::string& txn) {
  deps.alerts.Raise("refresh-reuse", call->client.definition, "a refresh token was used twice", txn);
  call->audit["anomaly"] = boost::json::array{"refresh-reuse"};
  call->audit["refresh_family"] = family;
  RevokeChange change;
  change.revocation.kind = oauth::EntityKind::kFamily;
  change.revocation.entity = family;
  change.revocation.not_before = call->now;
  change.revocation.reason = "refresh token used twice";
  deps.revoker.Revoke(std::move(change), [&deps, call](const absl::StatusOr<uint64_t>& revoked) {
    if (!revoked.ok()) SIGNET_LOG(error, "refresh family not revoked", {{"reason", revoked.status().message()}});
    Refuse(deps, call, InvalidGrant("the refresh token was used before: its family is revoked", "revoked"));
  });
}

void KillFamily(const TokenServiceDeps& deps, const TokenCallPtr& call, const std::string& family,
                const std::string& txn) {
  UseUp(deps, call, [&deps, call, family, txn] { RevokeFamily(deps, call, family, txn); });
}

// T11: the answer that was given for this token, if the same key asks again at once and it still holds.
bool AnswerAgain(const TokenServiceDeps& deps, const TokenCallPtr& call, const RefreshRecord& record) {
  if (record.successor.empty() || record.successor_for != Prover(*call) || call->now - record.used_at > kRetryWindow) {
    return false;
  }
  const absl::StatusOr<std::string> both = crypto::Unseal(SealKey(), record.successor, record.hash);
  if (!both.ok()) return false;  // of an earlier process
  const absl::StatusOr<boost::json::value> value = json::Parse(*both, kMaxStateBytes);
  if (!value.ok()) return false;
  absl::StatusOr<oauth::AccessToken> token = oauth::ParseClaims(value->at("token").as_string().c_str());
  if (!token.ok()) return false;
  const std::string answer(value->at("answer").as_string());
  boost::json::object audit = call->audit;
  audit["event"] = call->event;
  audit["outcome"] = "granted";
  audit["again"] = true;
  audit["req"] = boost::json::object{{"grant_type", call->grant_type}};
  AuditIssued(*token, audit);
  Consume consume;
  consume.once = std::exchange(call->once, {});
  deps.audit.Append(
      std::move(audit), std::move(consume),
      [&deps, call, answer, family = record.family, token = *std::move(token)](const absl::Status& status) {
        if (!status.ok()) return Refuse(deps, call, ErrorOfCommit(*call, status));
        IssuanceGate::Ticket ticket;
        if (const auto blocked = deps.gate.Enter(token, ticket, family)) {
          return Refuse(deps, call, InvalidGrant("revoked", "revoked", *blocked));
        }
        call->done({.status = 200, .body = answer, .headers = {{"Cache-Control", "no-store"}, {"Pragma", "no-cache"}}});
      });
  return true;
}

void Refresh(const TokenServiceDeps& deps, TokenCallPtr call, const RefreshRecord& record) {
  const absl::StatusOr<RefreshState> state = ParseState(record.state);
  if (!state.ok()) {
    return Refuse(deps, call, {500, "server_error", "", "", absl::StrCat("refresh state: ", state.status().message())});
  }
  call->audit["txn"] = state->token.txn;
  call->audit["refresh_family"] = record.family;
  if (record.instance != InstanceOf(call->client)) {
    return Refuse(deps, call, InvalidGrant("the refresh token is another instance's", "instance_mismatch"));
  }
  const auto revocations = deps.registry.revocations();
  if (revocations == nullptr || revocations->Find(oauth::EntityKind::kFamily, record.family) != nullptr) {
    return Refuse(deps, call, InvalidGrant("revoked", "revoked", "refresh family"));
  }
  if (record.used) {
    if (!AnswerAgain(deps, call, record)) KillFamily(deps, call, record.family, state->token.txn);
    return;
  }
  if (record.expires_at <= call->now)
    return Refuse(deps, call, InvalidGrant("the refresh token has expired", "expired"));

  auto grant_case = std::make_shared<GrantCase>();
  ReadClient(*call, *grant_case);
  grant_case->input.kind = RequestKind::kRefresh;
  grant_case->input.refresh_not_after = absl::InfiniteFuture();  // first hops alone have refresh tokens
  grant_case->input.task = call->request.Get("task");
  grant_case->input.session = call->request.Get("session");
  auto parent = std::make_shared<const oauth::AccessToken>(state->token);
  FillFromParent(deps, parent, &state->rights, *grant_case);
  grant_case->subject_token = state->subject_token;
  grant_case->family = record.family;
  if (auto error = ReadTargets(deps, call->request, parent->audience, *grant_case)) return Refuse(deps, call, *error);
  if (auto error = ReadRequested(call->request, *grant_case)) return Refuse(deps, call, *error);
  if (grant_case->input.nothing_asked) {  // RFC 6749 6: all that was granted
    grant_case->input.nothing_asked = false;
    grant_case->input.requested = parent->atoms;
    AddCarried(deps, *parent, *grant_case);
  }
  if (auto error = ReadBinding(*call, *grant_case)) return Refuse(deps, call, *error);
  Issuance issuance{.call = call, .grant_case = grant_case, .answered_type = {}, .with_refresh = {}, .on_reuse = {}};
  issuance.with_refresh = Rotation(record.family, *state, record.hash, Prover(*call));
  // Another request was quicker: of the same key, it is a retry (T11). Nothing of this one was written, so what it
  // carried for one use is still to be used up.
  issuance.on_reuse = [&deps, call, once = call->once, hash = record.hash, family = record.family, txn = parent->txn] {
    const bool posted = deps.executor.Post([&deps, call, once, hash, family, txn] {
      const absl::StatusOr<RefreshRecord> now = deps.uses.GetRefresh(hash);
      call->once = once;
      if (now.ok() && now->used && AnswerAgain(deps, call, *now)) return;
      KillFamily(deps, call, family, txn);
    });
    if (!posted) {
      Refuse(deps, call, {503, "temporarily_unavailable", "try again", "", "too much waits for the datastore"});
    }
  };
  Issue(deps, std::move(issuance));
}

}  // namespace

std::function<RefreshPart(const oauth::AccessToken&)> NewRefreshFamily(const TokenCall& call,
                                                                       const GrantCase& grant_case) {
  RefreshState state;
  state.rights = grant_case.input.user->rights;
  state.subject_token = grant_case.subject_token;
  return Rotation(absl::StrCat("f-", absl::BytesToHexString(crypto::RandomBytes(16))), std::move(state), std::nullopt,
                  Prover(call));
}

absl::StatusOr<std::string> RootOfRefresh(const RefreshRecord& record) {
  SIGNET_ASSIGN_OR_RETURN(const RefreshState state, ParseState(record.state));
  return state.token.context.root;
}

void RefreshToken(const TokenServiceDeps& deps, TokenCallPtr call) {
  const std::string& token = call->request.Get("refresh_token");
  if (token.empty() || token.size() > kMaxRefreshTokenBytes) {
    return Refuse(deps, call, InvalidRequest("refresh_token is missing or malformed"));
  }
  const std::string hash = crypto::Sha256(token);
  const bool posted = deps.executor.Post([&deps, call, hash] {
    const absl::StatusOr<RefreshRecord> record = deps.uses.GetRefresh(hash);
    if (record.ok()) return Refresh(deps, call, *record);
    if (absl::IsNotFound(record.status())) return Refuse(deps, call, InvalidGrant("no such refresh token"));
    Refuse(deps, call, {503, "temporarily_unavailable", "try again", "", std::string(record.status().message())});
  });
  if (!posted)
    Refuse(deps, call, {503, "temporarily_unavailable", "try again", "", "too much waits for the datastore"});
}

}  // namespace signet::server
