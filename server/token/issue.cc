#include "server/token/issue.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/crypto/random.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "server/token/audit_record.h"

namespace signet::server {
namespace {

// Receipts stand in a token of at most kMaxTokenBytes: so many bytes of them without a look at the rest, never more
// than so many.
constexpr size_t kFewReceiptBytes = 1536, kMostReceiptBytes = 3584;
constexpr size_t kJwsOverhead = 256;  // header, signature, dots

// Whether the token, signed, would pass its limit.
bool TooLarge(const oauth::AccessToken& token) {
  return oauth::ClaimsJson(token).size() * 4 / 3 + kJwsOverhead > oauth::kMaxTokenBytes;
}

std::string NewId() { return absl::BytesToHexString(crypto::RandomBytes(16)); }

absl::Time WholeSeconds(absl::Time time) { return absl::FromUnixSeconds(absl::ToUnixSeconds(time)); }

oauth::Receipt MakeReceipt(const oauth::AccessToken& token, const GrantCase& grant_case) {
  oauth::Receipt receipt;
  receipt.jwt_id = NewId();
  receipt.txn = token.txn;
  receipt.root = oauth::Hash(token.context.root);
  receipt.issued_at = token.issued_at;
  receipt.token_hash = oauth::Hash(token.jwt_id);
  receipt.subject_token = grant_case.subject_token;
  receipt.user = oauth::Hash(oauth::UserKey(token.context.user_issuer, token.context.user_subject));
  receipt.actor = token.client_id;
  receipt.audience = token.audience;
  receipt.bounds = token.atoms;
  receipt.expires_at = token.expires_at;
  receipt.depth = token.context.depth;
  receipt.max_depth = token.context.max_depth;
  receipt.calls = token.context.calls;
  receipt.binding = token.binding;
  receipt.policy = kPolicy;
  receipt.grant = token.context.grant;
  receipt.task = token.context.task;
  // A refreshed token's receipt stands in the place of the one it renews.
  const bool follows = grant_case.input.kind == RequestKind::kNewHop || grant_case.input.kind == RequestKind::kNarrow;
  if (follows) {
    receipt.from = grant_case.parent->client_id;
    receipt.previous = grant_case.parent->context.receipt_hash;
  }
  return receipt;
}

// Signs the receipt of this hop and puts it, or where it can be had, into the token.
absl::StatusOr<std::string> AddReceipt(const TokenServiceDeps& deps, const GrantCase& grant_case,
                                       oauth::AccessToken& token) {
  absl::StatusOr<std::string> receipt = deps.signer.SignReceipt(MakeReceipt(token, grant_case));
  if (!receipt.ok()) return receipt;
  const RequestKind kind = grant_case.input.kind;
  token.receipts.clear();
  token.context.receipts = 1;
  size_t bytes = receipt->size();
  bool inside = true;
  if (kind == RequestKind::kNewHop || kind == RequestKind::kNarrow) {
    token.receipts = grant_case.parent->receipts;
    token.context.receipts = grant_case.parent->context.receipts + 1;
    inside = !token.receipts.empty();
    for (const std::string& earlier : token.receipts) bytes += earlier.size();
  }
  token.context.receipt_hash = oauth::ReceiptHash(*receipt);
  if (inside) token.receipts.push_back(*receipt);
  if (!inside || bytes > kMostReceiptBytes || (bytes > kFewReceiptBytes && TooLarge(token))) {  // by reference
    token.receipts.clear();
    token.receipts_uri = absl::StrCat(deps.issuer, "/v1/chains/", token.txn);
  }
  return receipt;
}

boost::json::object AnswerOf(const Issuance& issuance, const oauth::AccessToken& token, const std::string& jwt) {
  boost::json::object body{{"access_token", jwt},
                           {"token_type", token.binding.jkt.empty() ? "Bearer" : "DPoP"},
                           {"expires_in", absl::ToInt64Seconds(token.expires_at - issuance.call->now)},
                           {"scope", token.scope}};
  if (!issuance.answered_type.empty()) body["issued_token_type"] = issuance.answered_type;
  const std::string details = oauth::AuthorizationDetails(token.atoms, token.context.calls);
  if (absl::StatusOr<boost::json::value> value = json::Parse(details, details.size());
      value.ok() && value->is_array() && !value->get_array().empty()) {
    body["authorization_details"] = *std::move(value);
  }
  return body;
}

void Count(const TokenServiceDeps& deps, RequestKind kind) {
  switch (kind) {
    case RequestKind::kClientCredentials:
      return deps.metrics.tokens_client_credentials.Add();
    case RequestKind::kRefresh:
      return deps.metrics.tokens_refresh.Add();
    default:
      return deps.metrics.tokens_exchange.Add();
  }
}

Alerts::Observation ObservationOf(const oauth::AccessToken& token, const Decision& decision) {
  Alerts::Observation seen;
  seen.identity = token.context.identity;
  seen.node = token.context.node;
  seen.audience = token.audience;
  seen.txn = token.txn;
  seen.scopes = absl::StrSplit(token.scope, ' ', absl::SkipEmpty());
  for (const oauth::Atom& atom : token.atoms) {
    if (atom.tool) seen.tools.push_back(absl::StrCat(atom.resource, " ", atom.action));
  }
  seen.granted = true;
  seen.depth = decision.depth;
  seen.max_depth = decision.max_depth;
  seen.near_depth_limit = decision.near_depth_limit;
  return seen;
}

boost::json::object RecordOf(const TokenServiceDeps& deps, const Issuance& issuance, const Decision& decision,
                             const oauth::AccessToken& token, const std::string& receipt) {
  boost::json::object record = issuance.call->audit;
  record["event"] = issuance.call->event;
  record["outcome"] = "granted";
  record["req"] = AuditAsked(issuance.call->grant_type, issuance.grant_case->input);
  record["policy"] = kPolicy;
  AuditIssued(token, record);
  if (!receipt.empty()) record["receipt"] = receipt;  // no credential; chains are read from here
  if (boost::json::array removed = AuditRemoved(decision); !removed.empty()) record["removed"] = std::move(removed);
  const std::vector<std::string> raised = deps.alerts.Observe(ObservationOf(token, decision));
  if (!raised.empty()) record["anomaly"] = boost::json::array(raised.begin(), raised.end());
  return record;
}

// What the store must take with the audit record, or nothing of it.
Consume ConsumeOf(const Issuance& issuance, const oauth::AccessToken& token) {
  Consume consume;
  consume.once = std::exchange(issuance.call->once, {});
  if (!token.context.task.empty()) {
    Consume::Budget budget;
    budget.task = token.context.task;
    budget.calls = token.context.calls.value_or(0);
    // T8: the task is bound to who began it, not to a later hop.
    const std::vector<oauth::Ancestor>& ancestors = token.context.ancestors;
    budget.instance = ancestors.empty() ? token.context.instance : ancestors.back().instance;
    budget.root_subject = oauth::UserKey(token.context.user_issuer, token.context.user_subject);
    budget.reauth_at = token.context.reauth_at;
    consume.budget = std::move(budget);
  }
  // T8: what a token hands on it has no more. A refreshed one stands beside its predecessor, not below it.
  const RequestKind kind = issuance.grant_case->input.kind;
  if (kind == RequestKind::kNewHop || kind == RequestKind::kNarrow) {
    const oauth::AccessToken& parent = *issuance.grant_case->parent;
    if (parent.context.calls.has_value()) {
      consume.parent_calls = Consume::ParentCalls{.token = token.context.parent,
                                                  .quota = *parent.context.calls,
                                                  .calls = token.context.calls.value_or(*parent.context.calls),
                                                  .expires_at = parent.expires_at};
    }
  }
  return consume;
}

}  // namespace

OAuthError ErrorOf(const Refusal& refusal) {
  OAuthError error;
  error.error = refusal.error;
  error.reason = refusal.reason;
  error.detail = refusal.detail;
  if (refusal.error == "invalid_scope") {
    error.description = "nothing of what was asked may be granted";
  } else if (refusal.error == "invalid_target") {
    error.description = "the resource lies outside what was consented to";
  } else if (refusal.error == "invalid_grant") {
    error.description = "the grant does not hold any more";
  } else {
    error.description = "refused by policy";
  }
  return error;
}

oauth::AccessToken MakeToken(const TokenServiceDeps& deps, const Client& client, const GrantCase& grant_case,
                             const Decision& decision) {
  const DecisionInput& input = grant_case.input;
  const oauth::AccessToken* parent = grant_case.parent.get();
  oauth::AccessToken token;
  token.key_id = deps.signer.active_kid();
  token.issuer = deps.issuer;
  token.client_id = client.id;
  token.audience = input.resource;
  token.jwt_id = NewId();
  token.txn = parent != nullptr ? parent->txn : NewId();
  token.issued_at = WholeSeconds(input.now);
  token.expires_at = WholeSeconds(std::min(decision.expires_at, grant_case.expires_by));
  token.scope = decision.scope;
  token.atoms = decision.granted;
  token.actors = decision.actors;
  token.binding = input.binding;
  token.auth_time = grant_case.auth_time;
  token.acr = grant_case.acr;
  token.amr = grant_case.amr;
  if (input.kind == RequestKind::kClientCredentials) {
    token.subject = client.id;
    token.subject_profile = "ai_agent";
  } else {
    token.subject = oauth::UserSubject(input.user->issuer, input.user->subject);
    token.subject_profile = "user";
  }

  oauth::Context& context = token.context;
  if (grant_case.task != nullptr) {
    context.task = grant_case.task->id;
    context.task_hash = grant_case.task->hash;
  }
  context.session = parent != nullptr ? parent->context.session : input.session;
  context.instance = InstanceOf(client);
  context.node = client.node;
  context.identity = client.definition;
  if (grant_case.grant != nullptr) context.grant = grant_case.grant->id;
  if (input.user.has_value()) {
    context.user_issuer = input.user->issuer;
    context.user_subject = input.user->subject;
    context.rights_at = input.user->rights_at;
  }
  context.depth = decision.depth;
  context.max_depth = decision.max_depth;
  context.reauth_at = decision.reauth_at;
  context.calls = decision.calls;
  context.rev = grant_case.rev;
  context.root = token.jwt_id;
  if (input.kind == RequestKind::kRefresh) {
    // The same place in the same chain: it descends from what its predecessor descended from.
    context.root = parent->context.root;
    context.parent = parent->context.parent;
    context.ancestors = parent->context.ancestors;
  } else if (parent != nullptr) {
    context.root = parent->context.root;
    context.parent = oauth::Hash(parent->jwt_id);
    context.ancestors = oauth::AncestorsFor(*parent);
  }
  return token;
}

void Issue(const TokenServiceDeps& deps, Issuance issuance) {
  const TokenCallPtr& call = issuance.call;
  const GrantCase& grant_case = *issuance.grant_case;
  const auto refuse = [&](OAuthError error, const Decision* decision) {
    call->audit["req"] = AuditAsked(call->grant_type, grant_case.input);
    Refuse(deps, call, std::move(error), decision);
  };
  const Decision decision = Decide(grant_case.input);
  if (decision.refusal.has_value()) return refuse(ErrorOf(*decision.refusal), &decision);

  oauth::AccessToken token = MakeToken(deps, call->client, grant_case, decision);
  if (token.expires_at <= token.issued_at) {
    return refuse(InvalidGrant("what it would rest on ends now", "expired", decision.expiry_bound_by), &decision);
  }
  if (const auto blocked = deps.gate.Check(token, grant_case.family)) {
    return refuse(InvalidGrant("revoked", "revoked", *blocked), &decision);
  }

  std::string receipt;
  absl::StatusOr<std::string> jwt;
  if (!token.actors.empty()) {
    absl::StatusOr<std::string> signed_receipt = AddReceipt(deps, grant_case, token);
    if (!signed_receipt.ok()) jwt = signed_receipt.status();
    if (signed_receipt.ok()) receipt = *std::move(signed_receipt);
  }
  if (jwt.ok() || !receipt.empty() || token.actors.empty()) jwt = deps.signer.SignToken(token);
  if (jwt.ok() && jwt->size() > oauth::kMaxTokenBytes) {
    return refuse({400, "invalid_scope", "a token for all of this would be too large; ask for less", "", ""},
                  &decision);
  }
  if (!jwt.ok()) {
    return refuse({503, "temporarily_unavailable", "try again", "", jwt.status().ToString()}, &decision);
  }

  boost::json::object body = AnswerOf(issuance, token, *jwt);
  boost::json::object record = RecordOf(deps, issuance, decision, token, receipt);
  Consume consume = ConsumeOf(issuance, token);
  if (issuance.with_refresh) {
    RefreshPart refresh = issuance.with_refresh(token);
    body["refresh_token"] = refresh.token;
    record["refresh_family"] = refresh.record.family;
    consume.new_refresh = std::move(refresh.record);
    consume.spend_refresh = std::move(refresh.spend);
    if (refresh.seal) consume.successor = refresh.seal(boost::json::serialize(body));
    consume.successor_for = std::move(refresh.successor_for);
  }
  deps.audit.Append(std::move(record), std::move(consume),
                    [&deps, issuance = std::move(issuance), token = std::move(token),
                     body = std::move(body)](const absl::Status& status) mutable {
                      TokenCall& waiting = *issuance.call;
                      if (absl::IsAborted(status) && issuance.on_reuse) return issuance.on_reuse();
                      if (!status.ok()) return Refuse(deps, issuance.call, ErrorOfCommit(waiting, status));
                      // T3: whatever was revoked while this was signed and written keeps it from leaving.
                      IssuanceGate::Ticket ticket;
                      if (const auto blocked = deps.gate.Enter(token, ticket, issuance.grant_case->family)) {
                        waiting.audit["withheld"] = oauth::Hash(token.jwt_id);
                        return Refuse(deps, issuance.call, InvalidGrant("revoked", "revoked", *blocked));
                      }
                      Count(deps, issuance.grant_case->input.kind);
                      Answer(waiting, 200, body);
                    });
}

}  // namespace signet::server
