// client_credentials (RFC 6749 4.4): the identity's own authority, no user (T1).
#include "server/token/grants.h"
#include "server/token/issue.h"

namespace signet::server {

void ClientCredentials(const TokenServiceDeps& deps, TokenCallPtr call) {
  auto grant_case = std::make_shared<GrantCase>();
  grant_case->input.kind = RequestKind::kClientCredentials;
  grant_case->rev = deps.registry.seq();  // before anything is looked up
  ReadClient(*call, *grant_case);
  if (call->client.identity == nullptr) {
    return Refuse(deps, call,
                  {400, "unauthorized_client", "no identity is registered for this client", "", "no identity record"});
  }
  if (!call->request.Get("task").empty() || !call->request.Get("grant").empty()) {
    return Refuse(deps, call, InvalidRequest("own authority has neither task nor grant"));
  }
  // The only resource it has authority for needs no naming.
  std::string only;
  for (const oauth::Atom& atom : call->client.identity->own_authority) {
    if (!only.empty() && only != atom.resource) {
      only.clear();
      break;
    }
    only = atom.resource;
  }
  if (auto error = ReadTargets(deps, call->request, only, *grant_case)) return Refuse(deps, call, *error);
  if (auto error = ReadRequested(call->request, *grant_case)) return Refuse(deps, call, *error);
  if (auto error = ReadBinding(*call, *grant_case)) return Refuse(deps, call, *error);
  grant_case->input.session = call->request.Get("session");
  Issue(deps, {.call = std::move(call),
               .grant_case = std::move(grant_case),
               .answered_type = {},
               .with_refresh = {},
               .on_reuse = {}});
}

}  // namespace signet::server
