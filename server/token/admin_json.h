// Administration as JSON over HTTPS: /v1/identities, issuers, resources (and their tools), grants, tasks, user-rights,
// revocations, chains, audit, alerts, explain. Bodies are protobuf's JSON mapping of signet.server.token.v1; a key in a
// path is percent-encoded ("/v1/identities/spiffe%3A%2F%2Fexample.org%2Fagent%2Forders:suspend"). Bodies need
// `Content-Type: application/json`, which no form of a foreign web page can send with an administrator's certificate.
// Errors: {"error": {"code": "NOT_FOUND", "message": "..."}} with the fitting HTTP status; internal detail never
// leaves. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/net/web_server.h"
#include "server/api/authorizer.h"
#include "server/api/caller.h"
#include "server/token/administration.h"
#include "server/token/client_auth.h"

namespace signet::server {

class AdminJson {
 public:
  // Must outlive it, and every answer must have been given before it goes.
  explicit AdminJson(Administration& administration) : administration_(administration) {}

  static bool Owns(absl::string_view path);  // "/v1/..."
  void Handle(const net::WebRequest& request, const AdminCaller& caller, net::Respond respond);

 private:
  Administration& administration_;
};

// The answer to who is refused before a call is looked at.
net::WebResponse AdminRefusal(const absl::Status& status);

// Who calls over HTTPS: an administrator by its SVID, of the own trust domain (T7); else a workload that proves itself
// as at the token endpoint (T6), which may tend tasks (T8).
class AdminCallers {
 public:
  AdminCallers(spiffe::TrustDomain own, FindBundle find_bundle, Authorizer& authorizer, ClientAuthenticator& clients,
               Clock& clock);
  // kUnauthenticated: no SVID, or none that is proven; kPermissionDenied: of another trust domain.
  absl::StatusOr<AdminCaller> Identify(const net::WebRequest& request);

 private:
  const spiffe::TrustDomain own_;
  TlsCallers callers_;
  Authorizer& authorizer_;
  ClientAuthenticator& clients_;
  Clock& clock_;
};

}  // namespace signet::server
