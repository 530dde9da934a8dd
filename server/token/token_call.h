// One request to the token service from its arrival to its answer: who asks, what must be used up with the answer, and
// how it is refused. A refusal is audited as fully as a grant; `error_id` in the answer finds the record.
// Held by shared_ptr while something is waited for; not thread-safe, one step at a time.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/object.hpp>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/token/client_auth.h"
#include "server/token/decision.h"
#include "server/token/token_request.h"
#include "server/token/token_service.h"

namespace signet::server {

inline constexpr char kTokenEvent[] = "token";  // at the token endpoint

struct TokenCall {
  TokenRequest request;
  AnswerDone done;
  absl::Time now;
  std::string event;       // of its audit record: kTokenEvent, "introspect", "revoke"
  std::string grant_type;  // as asked
  Client client;
  // Single-use values of this request: used up by the answer, also by a refusal.
  std::vector<std::pair<std::string, absl::Time>> once;
  oauth::Binding proven;  // jkt of the DPoP proof that came along, x5t of the certificate of the connection

  // What is known so far of what it is about; for the audit of a refusal.
  boost::json::object audit;
};
using TokenCallPtr = std::shared_ptr<TokenCall>;

// Authenticates the client and judges its DPoP proof, if there is one. False: it has been refused.
bool Admit(const TokenServiceDeps& deps, const TokenCallPtr& call);

// RFC 6749 5.2; audited first. `decision`: why, operand by operand, when it came that far.
void Refuse(const TokenServiceDeps& deps, TokenCallPtr call, OAuthError error, const Decision* decision = nullptr);
// Uses up the single-use values now, for an effect that comes before the answer: a replay must have none. Then `next`,
// on the datastore's writer thread or at once; or the request has been refused.
void UseUp(const TokenServiceDeps& deps, const TokenCallPtr& call, absl::AnyInvocable<void()> next);
// What a commit was refused with, as an answer.
OAuthError ErrorOfCommit(const TokenCall& call, const absl::Status& status);

void Answer(TokenCall& call, int status, const boost::json::object& body);

// An instance in tokens and records; clients without an attested agent stand for themselves.
std::string InstanceOf(const Client& client);

inline OAuthError InvalidRequest(std::string description, std::string detail = "") {
  return {.status = 400,
          .error = "invalid_request",
          .description = std::move(description),
          .reason = {},
          .detail = std::move(detail)};
}
inline OAuthError InvalidGrant(std::string description, std::string reason = "", std::string detail = "") {
  return {.status = 400,
          .error = "invalid_grant",
          .description = std::move(description),
          .reason = std::move(reason),
          .detail = std::move(detail)};
}

}  // namespace signet::server
