// A user's access token from an identity provider, as the root of a chain (T2, T7). It counts only if its issuer is
// registered, its `aud` has an audience that the issuer record reserves for exchange, it is an access token and no
// other kind of JWT, the user is a stable claim that is no SPIFFE ID, and what binds it (`cnf`, `may_act`) names the
// client.
//
// Access token: `typ` is at+jwt (RFC 9068). Providers that say only JWT must say it in the claims: `typ` "Bearer"
// (Keycloak), `token_use` "access" (Cognito), or a `scope` or `scp`; with `nonce`, `at_hash`, `c_hash` or `s_hash` it
// is an ID token whatever else it says. A token that was delegated before (`act`, `agent_ctx`) is refused: its chain
// could not be carried on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/jose/jws.h"
#include "common/jose/jwt.h"
#include "server/datastore/completion.h"
#include "server/token/token_call.h"

namespace signet::server {

struct UserToken {
  std::shared_ptr<const IssuerRecord> issuer;
  std::string subject;
  oauth::Atoms rights;  // what the strings of the rights claim mean, as registered (T9)
  absl::Time issued_at, expires_at;
  std::optional<absl::Time> auth_time;
  std::string acr;
  std::vector<std::string> amr;
  std::string hash;  // of the token
};

// What the token must be satisfied by.
struct TokenPresenter {
  std::string client_id, client_definition;
  oauth::Binding proven;
};

// kInvalidArgument, kPermissionDenied: the rule that failed, never a part of the token; kUnavailable: no keys now.
void ReadUserToken(const TokenServiceDeps& deps, std::string token, TokenPresenter presenter, absl::Time now,
                   Completion<UserToken> done);

// The rules beside the signature; pure.
absl::StatusOr<UserToken> JudgeUserToken(std::shared_ptr<const IssuerRecord> issuer, const jose::JwsHeader& header,
                                         const jose::Claims& claims, const TokenPresenter& presenter, absl::Time now);

}  // namespace signet::server
