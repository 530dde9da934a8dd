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
#include "common/concurrency/executor.h"
#include "common/spiffe/jwt_svid.h"
#include "common/time/clock.h"
#include "server/metrics.h"
#include "server/token/alerts.h"
#include "server/token/audit_log.h"
#include "server/token/client_auth.h"
#include "server/token/issuance_gate.h"
#include "server/token/issuer_keys.h"
#include "server/token/revoker.h"
#include "server/token/token_registry.h"
#include "server/token/token_request.h"
#include "server/token/token_signer.h"
#include "signet/server/token/v1/token.pb.h"

namespace signet::server {

struct TokenAnswer {
  int status = 200;
  std::string body;                                          // JSON: RFC 6749 5.1 / 5.2, RFC 7662, empty for RFC 7009
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

struct TokenServiceDeps {
  std::string issuer;          // `iss` of access tokens
  std::string token_endpoint;  // the one `htu` of DPoP proofs that come here
  ClientAuthenticator& clients;
  const TokenRegistry& registry;
  IssuanceGate& gate;
  TokenSigner& signer;
  AuditLog& audit;
  TokenUseStore& uses;
  Revoker& revoker;
  IssuerKeys& issuer_keys;
  Alerts& alerts;
  spiffe::BundleOf bundles;  // for actor tokens that are JWT-SVIDs
  Executor& executor;        // reads of the datastore
  Clock& clock;
  Metrics& metrics;
};
// References must outlive it, and every request must have been answered before it goes.
std::unique_ptr<TokenService> MakeTokenService(TokenServiceDeps deps);

}  // namespace signet::server
