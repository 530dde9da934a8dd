// Node attestor "join_token": a one-time secret that an operator made. SPIRE's wire: the payload is the token itself,
// the agent becomes /spire/agent/join_token/<token>. The token is only looked up here, by its SHA-256; it is spent in
// the transaction that records the agent, so of any number of racers one wins (SPIRE 1.14.6 fixed a read-then-delete). A token that was
// spent a moment ago is let through with the key that spent it (data_store.h: kSpentTokenLasts); who asks must hold it.
#pragma once

#include <memory>

#include "common/concurrency/executor.h"
#include "common/spiffe/trust_domain.h"
#include "common/time/clock.h"
#include "server/datastore/data_store.h"
#include "server/nodeattestor/node_attestor.h"

namespace signet::server {

class JoinToken final : public NodeAttestor {
 public:
  // All outlive the attestor and its attestations. `executor` runs the look-up, which blocks.
  JoinToken(spiffe::TrustDomain trust_domain, JoinTokenStore& tokens, Executor& executor, Clock& clock);

  absl::string_view type() const override { return "join_token"; }
  std::unique_ptr<NodeAttestation> Begin() override;

 private:
  const spiffe::TrustDomain trust_domain_;
  JoinTokenStore& tokens_;
  Executor& executor_;
  Clock& clock_;
};

}  // namespace signet::server
