// token.sock: the token service as a workload sees it, without a secret and without a TLS stack. Open this first in
// agent/token:
//   POST /oauth2/token       passed to the server as the workload that asks: mutual TLS with its own X.509-SVID, a DPoP
//                            proof by its instance key
//   POST /oauth2/dpop        a proof by that key for one call of a resource
//   POST /oauth2/introspect  whether a presentation of a token is good, answered from pushed state (introspection.h)
//   GET  /livez
// The caller is the process at the other end of the connection, attested for each request (rule T6); what it says of
// itself is read as a form, checked and written anew. Errors are OAuth's JSON.
// Thread-safe. Handle() is called on the web server's thread and never waits.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "agent/metrics.h"
#include "agent/sync/pushed_tokens.h"
#include "agent/token/callers.h"
#include "agent/token/instance_keys.h"
#include "agent/token/introspection.h"
#include "agent/token/upstream.h"
#include "common/net/form.h"
#include "common/net/web_server.h"
#include "common/time/clock.h"

namespace signet::agent {

struct TokenFrontDeps {
  TokenCallers& callers;
  InstanceKeys& keys;
  Upstream& upstream;
  PushedTokens& pushed;
  Introspection& introspection;
  Clock& clock;
  Metrics& metrics;
  std::string server_url;  // of the token service; empty: the issuer's, as the server tells it
};

class TokenFront {
 public:
  // References outlive every answer.
  explicit TokenFront(TokenFrontDeps deps) : deps_(std::move(deps)) {}

  void Handle(const net::WebRequest& request, net::Respond respond);

 private:
  class TokenCall;
  class IntrospectCall;
  void Token(const net::WebRequest& request, net::Form form, net::Respond respond);
  void Dpop(const net::WebRequest& request, net::Form form, net::Respond respond);
  void Introspect(const net::WebRequest& request, net::Form form, net::Respond respond);
  absl::StatusOr<std::string> MakeProof(const net::Form& form, const TokenCaller& caller) const;

  // Where the token service is; `issuer` empty: not known.
  struct Endpoints {
    std::string issuer, token, introspect;  // what they are called
    std::string token_url, introspect_url;  // where to go
  };
  Endpoints Where() const;

  const TokenFrontDeps deps_;
};

}  // namespace signet::agent
