// The token service: requests in, answers out; knows no HTTP. Open this first in server/token:
//   endpoints.cc -> TokenRequest::Parse -> ClientAuthenticator -> TokenService::Token
//     -> decision.h (pure) -> IssuanceGate -> TokenSigner -> AuditLog (durable) -> gate again -> reply
// Thread-safe; asynchronous where it waits (datastore, fetching a user issuer's keys).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "server/token/client_auth.h"
#include "server/token/token_request.h"
#include "signet/server/token/v1/token.pb.h"

namespace signet::server {

struct TokenAnswer {
  int status = 200;
  std::string body;  // JSON: RFC 6749 5.1 / 5.2, RFC 7662, empty for RFC 7009
  std::vector<std::pair<std::string, std::string>> headers;  // Cache-Control: no-store, DPoP-Nonce, WWW-Authenticate
};
using AnswerDone = absl::AnyInvocable<void(TokenAnswer)>;

class TokenService {
 public:
  virtual ~TokenService() = default;
  virtual void Token(TokenRequest request, AnswerDone done) = 0;       // POST /oauth2/token
  virtual void Introspect(TokenRequest request, AnswerDone done) = 0;  // POST /oauth2/introspect
  virtual void Revoke(TokenRequest request, AnswerDone done) = 0;      // POST /oauth2/revoke
  // A dry run: nothing is issued, consumed or changed.
  virtual void Explain(token::v1::ExplainRequest request,
                       absl::AnyInvocable<void(absl::StatusOr<token::v1::ExplainResponse>)> done) = 0;
};

}  // namespace signet::server
