// What a request for a token asks, read into the input of the decision: audience, scopes, tools, quota, and what the
// token shall be bound to. The input's pointers are kept alive here.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/token/token_call.h"

namespace signet::server {

// The input of one decision and what else the token is made of.
struct GrantCase {
  DecisionInput input;
  std::shared_ptr<const IdentityRecord> identity;
  std::shared_ptr<const ResourceRecord> target, parent_resource;
  std::vector<std::shared_ptr<const ResourceRecord>> carried;
  std::shared_ptr<const GrantRecord> grant;
  std::shared_ptr<const TaskRecord> task;
  std::shared_ptr<const oauth::AccessToken> parent;

  uint64_t rev = 0;                                // T3: of the root authority
  std::string subject_token;                       // hash, for the receipt
  std::string family;                              // of the refresh token that asks
  absl::Time expires_by = absl::InfiniteFuture();  // of the user's token
  std::optional<absl::Time> auth_time;
  std::string acr;
  std::vector<std::string> amr;
};

// The audience and the further resources: `resource` and `audience` as they came; the first is the audience. None
// asked: `fallback`, which may be empty.
std::optional<OAuthError> ReadTargets(const TokenServiceDeps& deps, const TokenRequest& request,
                                      const std::string& fallback, GrantCase& grant_case);
// Adds what `token` carries beside its audience to the further resources; those that are gone are left out.
void AddCarried(const TokenServiceDeps& deps, const oauth::AccessToken& token, GrantCase& grant_case);
// scope and authorization_details, by the catalogues of those resources; after ReadTargets.
std::optional<OAuthError> ReadRequested(const TokenRequest& request, GrantCase& grant_case);
// What the token is bound to: the key of the proof; the certificate on request (token_binding=x5t); nothing only where
// the resource says that it cannot do better. After ReadTargets.
std::optional<OAuthError> ReadBinding(const TokenCall& call, GrantCase& grant_case);
// Who asks, and when.
void ReadClient(const TokenCall& call, GrantCase& grant_case);

}  // namespace signet::server
