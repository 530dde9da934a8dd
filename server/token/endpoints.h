// The token service over HTTP: which path is what. Documents (metadata, keys) are made from what is current, the rest
// is handed on: POST /oauth2/... to the TokenService, /v1/... to the administration. Knows no socket. An issuer with a
// path, https://id.example.org/agents, has every path below it, and its metadata also where RFC 8414 3.1 puts the path:
// /.well-known/oauth-authorization-server/agents. Thread-safe: handlers run on the web server's thread and are quick.
#pragma once

#include <functional>
#include <string>

#include "common/net/web_server.h"
#include "server/token/audit_log.h"
#include "server/token/token_service.h"
#include "server/token/token_signer.h"

namespace signet::server {

// Where things are, from the issuer. Without a trailing slash.
struct TokenUrls {
  explicit TokenUrls(const std::string& issuer);
  std::string issuer;
  std::string path;  // of the issuer; empty at the root
  std::string token, introspection, revocation, jwks, spiffe_jwks;
};

struct TokenEndpointsDeps {
  std::string issuer;
  std::string jwt_issuer;  // `iss` of JWT-SVIDs
  TokenService& service;
  TokenSigner& signer;
  AuditLog& audit;
  std::function<std::string()> jwt_svid_keys;  // JWK set of the trust domain's JWT authorities
  // Everything below /v1/: request.path begins with it, whatever the issuer's path. Authenticates its caller itself.
  net::WebHandler administration;
};
// References must outlive it.
net::WebHandler MakeTokenEndpoints(TokenEndpointsDeps deps);

}  // namespace signet::server
