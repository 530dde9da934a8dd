#include "server/token/token_call.h"

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "common/oauth/dpop.h"
#include "server/token/audit_record.h"

namespace signet::server {
namespace {

constexpr char kDpopKey[] = "dpop ";

// Nothing is told that a stranger could learn from.
OAuthError InvalidClient(std::string detail) {
  return {.status = 401,
          .error = "invalid_client",
          .description = "the client is not known here or did not prove who it is",
          .reason = {},
          .detail = std::move(detail)};
}

OAuthError InvalidProof(std::string description) {
  return {
      .status = 400, .error = "invalid_dpop_proof", .description = std::move(description), .reason = {}, .detail = {}};
}

void AnswerError(TokenCall& call, const OAuthError& error, const std::string& error_id) {
  boost::json::object body{{"error", error.error}, {"error_id", error_id}};
  if (!error.description.empty()) body["error_description"] = error.description;
  if (!error.reason.empty() && call.client.own_trust_domain) body["reason"] = error.reason;
  Answer(call, error.status, body);
}

}  // namespace

std::string InstanceOf(const Client& client) {
  return client.instance.empty() ? oauth::Hash(client.id) : client.instance;
}

void Answer(TokenCall& call, int status, const boost::json::object& body) {
  TokenAnswer answer;
  answer.status = status;
  answer.body = boost::json::serialize(body);
  answer.headers = {{"Cache-Control", "no-store"}, {"Pragma", "no-cache"}};
  // No WWW-Authenticate with a 401: it is owed to who used an Authorization header (RFC 6749 5.2), which is refused
  // before, and clients that see a challenge do not read the error.
  call.done(std::move(answer));
}

namespace {

// T3: an assertion from before a revocation of its instance, node or identity authenticates nobody, though that was
// reinstated since. An X.509-SVID is judged by what it belongs to now: an honest one is older than the revocation too.
bool OlderThanARevocation(const TokenServiceDeps& deps, const Client& client) {
  if (client.method == ClientAuthMethod::kX509Svid) return false;
  const auto revocations = deps.registry.revocations();
  if (revocations == nullptr) return true;
  for (const auto& [kind, entity] : {std::pair{oauth::EntityKind::kInstance, InstanceOf(client)},
                                     std::pair{oauth::EntityKind::kNode, client.node},
                                     std::pair{oauth::EntityKind::kIdentity, client.definition}}) {
    if (revocations->KillsExternal(kind, entity, client.issued_at) != nullptr) return true;
  }
  return false;
}

}  // namespace

bool Admit(const TokenServiceDeps& deps, const TokenCallPtr& call) {
  absl::StatusOr<Client> client = deps.clients.Authenticate(call->request, call->now);
  if (client.ok() && OlderThanARevocation(deps, *client)) {
    client = absl::UnauthenticatedError("the assertion is older than a revocation");
  }
  if (!client.ok()) {
    deps.metrics.token_clients_refused.Add();
    const std::string error_id = deps.audit.CountRefusal(call->event, call->request.peer);
    SIGNET_LOG(debug, "token client refused",
               {{"error_id", error_id}, {"peer", call->request.peer}, {"reason", client.status().message()}});
    AnswerError(*call, InvalidClient(""), error_id);
    return false;
  }
  call->client = *std::move(client);
  call->once = call->client.once;
  call->audit["who"] = AuditWho(call->client);
  call->audit["auth"] = AuditAuth(call->client);
  call->audit["net"] = AuditNet(call->request.peer);
  call->proven.x5t_s256 = call->client.x5t_s256;

  // Elsewhere the proof of a presentation is a parameter; a header there proves nothing that is asked for.
  if (!call->request.dpop.empty() && call->event == kTokenEvent) {
    const absl::StatusOr<oauth::DpopProof> proof =
        oauth::VerifyDpop(call->request.dpop, "POST", deps.token_endpoint, "", call->now);
    if (!proof.ok()) {
      Refuse(deps, call, InvalidProof(std::string(proof.status().message())));
      return false;
    }
    call->proven.jkt = proof->jkt;
    // Once for each key: a stranger cannot use up another's jti.
    call->once.emplace_back(oauth::Hash(absl::StrCat(kDpopKey, proof->jkt, " ", proof->jwt_id)),
                            proof->issued_at + oauth::kDpopWindow + absl::Seconds(1));
  }
  return true;
}

OAuthError ErrorOfCommit(const TokenCall& call, const absl::Status& status) {
  const std::string detail(status.message());
  switch (status.code()) {
    case absl::StatusCode::kAlreadyExists: {
      const auto used = status.GetPayload(kUsedBeforeUrl);
      for (const auto& [value, until] : call.client.once) {
        if (used.has_value() && *used == value) return InvalidClient("the assertion was used before");
      }
      return InvalidProof("the proof was used before");
    }
    case absl::StatusCode::kResourceExhausted:
      if (const auto whose = status.GetPayload(kNoCallsLeftUrl)) {
        const char* text = *whose == kOfParent
                               ? "the subject token has not so many calls left: ask for fewer (max_calls)"
                               : "the task has no calls left";
        return {400, "access_denied", text, "budget_exhausted", detail};
      }
      break;  // too much waits for the store
    case absl::StatusCode::kPermissionDenied:
      return {400, "access_denied", "the task is bound to another instance or user", "task_mismatch", detail};
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kNotFound:
      return InvalidGrant("the task is closed", "task_closed", detail);
    default:
      break;
  }
  return {503, "temporarily_unavailable", "try again", "", detail};
}

void UseUp(const TokenServiceDeps& deps, const TokenCallPtr& call, absl::AnyInvocable<void()> next) {
  Consume consume;
  consume.once = std::exchange(call->once, {});
  if (consume.once.empty()) return next();
  deps.uses.Commit(std::move(consume), call->now,
                   [&deps, call, next = std::move(next)](const absl::Status& status) mutable {
                     if (!status.ok()) return Refuse(deps, call, ErrorOfCommit(*call, status));
                     next();
                   });
}

void Refuse(const TokenServiceDeps& deps, TokenCallPtr call, OAuthError error, const Decision* decision) {
  deps.metrics.token_requests_refused.Add();
  const std::string error_id = NewErrorId();
  boost::json::object record = call->audit;
  record["event"] = call->event;
  record["outcome"] = "refused";
  record["error"] = error.error;
  record["error_id"] = error_id;
  if (!error.reason.empty()) record["reason"] = error.reason;
  if (!error.detail.empty()) record["detail"] = error.detail;
  record["policy"] = kPolicy;
  if (decision != nullptr) {
    if (boost::json::array removed = AuditRemoved(*decision); !removed.empty()) record["removed"] = std::move(removed);
  }
  if (!call->client.definition.empty() && error.status < 500) {
    Alerts::Observation seen{.identity = call->client.definition, .granted = false};
    seen.refusal = error.reason.empty() ? error.error : error.reason;
    const std::vector<std::string> raised = deps.alerts.Observe(seen);
    if (!raised.empty()) record["anomaly"] = boost::json::array(raised.begin(), raised.end());
  }
  Consume consume;
  consume.once = std::exchange(call->once, {});
  const bool once = !consume.once.empty();
  deps.audit.Append(
      record, std::move(consume),
      [&deps, call, error = std::move(error), error_id, once](const absl::Status& status) mutable {
        // Used before: that is the reason then, and the audit has a record of it.
        if (absl::IsAlreadyExists(status) && once) {
          return Refuse(deps, call, ErrorOfCommit(*call, status));
        }
        if (!status.ok()) {
          SIGNET_LOG(error, "refusal not audited", {{"error_id", error_id}, {"reason", status.message()}});
        }
        AnswerError(*call, error, error_id);
      });
}

}  // namespace signet::server
