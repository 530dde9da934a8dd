// Operands of a decision about a chain: grant, task, user and parent, looked up in the registry. Used by the exchange,
// the refresh and the dry run. Nothing here decides; what is not found stays empty (T1).
#pragma once

#include <memory>
#include <string>

#include "server/token/grant_request.h"
#include "server/token/user_token.h"

namespace signet::server {

// First hop: the user, the grant and the task. `grant`, `task`: ids as asked, or empty. Without both, the grant is the
// one of the user's active grants for the identity that covers the audience; the newest of several.
// Also reads the targets, since the one choice depends on the other.
std::optional<OAuthError> FillFirstHop(const TokenServiceDeps& deps, const TokenRequest& request, const UserToken& user,
                                       GrantCase& grant_case);

// Later: parent, its grant and task, its user with the rights as they stand now. `captured`: the user's rights when no
// record replaces them (null: the parent's atoms, which lie within them).
void FillFromParent(const TokenServiceDeps& deps, std::shared_ptr<const oauth::AccessToken> parent,
                    const oauth::Atoms* captured, GrantCase& grant_case);

// The only resource beside its audience that a token carries; empty: none, or several.
std::string OnlyCarried(const oauth::AccessToken& token);

}  // namespace signet::server
