// From a decision to an answer, the one way a token leaves:
//   decide -> gate -> sign receipt and token -> audit, durable, with all that is used up -> gate, with a ticket ->
//   reply
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/token/grant_request.h"
#include "server/token/token_call.h"

namespace signet::server {

// What a refresh token adds to an issuance: filled in by refresh_grant.cc when the token is signed.
struct RefreshPart {
  std::string token;                                           // for the answer
  RefreshRecord record;                                        // the new one
  std::optional<std::string> spend;                            // hash of the one it replaces
  std::function<std::string(const std::string& answer)> seal;  // the answer for a retry (T11)
  std::string successor_for;
};

struct Issuance {
  TokenCallPtr call;
  std::shared_ptr<GrantCase> grant_case;
  std::string answered_type;  // issued_token_type; empty: none is said (client_credentials)
  // Makes the refresh token that goes with `token`; null: none goes with it.
  std::function<RefreshPart(const oauth::AccessToken& token)> with_refresh;
  // A commit that was refused because the refresh token was used before. Null: cannot be.
  std::function<void()> on_reuse;
};
void Issue(const TokenServiceDeps& deps, Issuance issuance);

// The token as it would be issued; `decision` must have granted.
oauth::AccessToken MakeToken(const TokenServiceDeps& deps, const Client& client, const GrantCase& grant_case,
                             const Decision& decision);
OAuthError ErrorOf(const Refusal& refusal);

}  // namespace signet::server
