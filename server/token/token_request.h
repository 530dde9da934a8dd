// A request to the token, introspection or revocation endpoint, read from the wire: the form, the client's proof, the
// DPoP proof. Strict (token-service 7): body at most 64 KiB, one method of authentication, single-valued parameters
// once, `resource` and `audience` the repeatable ones, UTF-8.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/crypto/certificate.h"
#include "common/net/web_server.h"

namespace signet::server {

// RFC 6749 2.3, 5.2: what goes to the client. `reason` only to clients of the own trust domain.
struct OAuthError {
  int status = 400;
  std::string error;        // "invalid_request", "invalid_client", ...
  std::string description;  // never internal detail
  std::string reason;
  std::string detail;  // for audit alone
};

// What every failure of client authentication says, whatever it was.
inline constexpr char kInvalidClientText[] = "the client is not known here or did not prove who it is";

struct TokenRequest {
  std::map<std::string, std::string> form;  // single-valued parameters
  std::vector<std::string> resources, audiences;
  std::vector<crypto::Certificate> client_chain;  // as shown, not verified
  std::string client_assertion_type, client_assertion;
  std::string dpop;  // proof; empty: none
  std::string peer;

  const std::string& Get(const std::string& name) const;  // empty: absent
  // nullopt: `out` is the request. Judges no proof.
  static std::optional<OAuthError> Parse(net::WebRequest request, TokenRequest& out);
};

}  // namespace signet::server
