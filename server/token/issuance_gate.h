// The one gate before every issuance (T3): what is revoked or suspended issues nothing. A token is checked when it is
// decided and again, after signing, with the reply held by a ticket; Close() returns when no ticket that was let
// through under an older feed position is left. So after a revocation returns, nothing more leaves. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "common/oauth/access_token.h"
#include "server/token/token_registry.h"

namespace signet::server {

// T3: what an identity, a user or an issuer was granted before it was revoked never holds again.
bool IsDead(const GrantRecord& grant, const oauth::RevocationSet& revocations);

class IssuanceGate {
 public:
  explicit IssuanceGate(const TokenRegistry& registry);
  ~IssuanceGate();

  class Ticket {  // held until the reply is handed to the network
   public:
    Ticket() = default;
    Ticket(Ticket&&) noexcept;
    Ticket& operator=(Ticket&&) noexcept;
    ~Ticket();

   private:
    friend class IssuanceGate;
    struct State;
    std::shared_ptr<State> state_;
  };
  // What blocks a token like this one now: the entity, for audit; nullopt: nothing. Looks at all it descends from:
  // revocations, the states of identities, grant and task, and whether issuer and resource are still registered. A
  // grant that is older than a revocation of its identity, user or issuer, and a task than one of its instance too,
  // stay dead after the reinstatement. `family`: of the refresh token that asks for it.
  std::optional<std::string> Check(const oauth::AccessToken& token, const std::string& family = "") const;
  // The same, and `ticket` is taken when nothing does.
  std::optional<std::string> Enter(const oauth::AccessToken& token, Ticket& ticket, const std::string& family = "");
  // Waits until every ticket taken before this call is gone, or `timeout`. True when they are.
  bool Drain(absl::Duration timeout);

 private:
  struct Tickets;
  const TokenRegistry& registry_;
  std::shared_ptr<Tickets> tickets_;
};

}  // namespace signet::server
