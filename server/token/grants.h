// The grant types of the token endpoint, one function and one file each. The client is authenticated. What a token is
// decides the path, not which parameters came along.
#pragma once

#include "server/token/grant_request.h"
#include "server/token/token_call.h"

namespace signet::server {

inline constexpr char kTokenExchangeGrant[] = "urn:ietf:params:oauth:grant-type:token-exchange";
inline constexpr char kAccessTokenType[] = "urn:ietf:params:oauth:token-type:access_token";
inline constexpr char kJwtType[] = "urn:ietf:params:oauth:token-type:jwt";

void ClientCredentials(const TokenServiceDeps& deps, TokenCallPtr call);
void ExchangeToken(const TokenServiceDeps& deps, TokenCallPtr call);
void RefreshToken(const TokenServiceDeps& deps, TokenCallPtr call);

}  // namespace signet::server
