// Access tokens and pushed state for the tests of the agent's half of the token service.
#pragma once

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/sync/pushed_tokens.h"
#include "common/oauth/dpop.h"
#include "common/oauth/introspection.h"
#include "tests/testing/test_ca.h"

namespace signet::agent {

inline constexpr char kIssuer[] = "https://id.example.org";
inline constexpr char kOrders[] = "https://mcp.example.org/orders";
inline constexpr char kServer[] = "spiffe://example.org/agent/tools/1";  // who serves kOrders

inline const std::string kToolHash(64, 'a');  // hex

// Signs as the server would.
class TokenMaker {
 public:
  explicit TokenMaker(std::string kid = "k1") : kid_(std::move(kid)) {}

  oauth::AccessToken Claims(absl::Time now) const {
    oauth::AccessToken token;
    token.issuer = kIssuer;
    token.subject = token.client_id = "spiffe://example.org/agent/orders/7";
    token.subject_profile = "ai_agent";
    token.audience = kOrders;
    token.jwt_id = absl::StrCat("jti-", ++made_);
    token.txn = "txn-1";
    token.issued_at = absl::FromUnixSeconds(absl::ToUnixSeconds(now));
    token.expires_at = token.issued_at + absl::Minutes(5);
    token.scope = "orders:read";
    token.atoms = {{.resource = kOrders, .action = "orders:read"}};
    token.binding.x5t_s256 = "peer";
    token.context.identity = "spiffe://example.org/agent/orders";
    token.context.instance = "sha-256:instance";
    token.context.node = "sha-256:node";
    token.context.root = token.jwt_id;
    token.context.rev = 5;
    return token;
  }
  static void AllowTool(oauth::AccessToken& token, const std::string& tool) {
    token.atoms.push_back({.resource = kOrders, .action = tool, .tool = true, .tool_hash = kToolHash});
    token.atoms = oauth::Normalize(std::move(token.atoms)).value();
  }
  std::string Sign(const oauth::AccessToken& token) const {
    return oauth::Sign(token, kid_, key_.type(), testing::SignerOf(key_)).value();
  }
  oauth::Keys keys() const { return {{kid_, key_.public_key()}}; }

 private:
  const std::string kid_;
  const crypto::PrivateKey key_ = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  mutable int made_ = 0;
};

// A whole state at position 10: kOrders with a tool of each kind.
inline TokenUpdate WholeState(const TokenMaker& maker, uint64_t seq = 10, absl::Duration grace = absl::ZeroDuration()) {
  oauth::ResourceState orders{.servers = {"spiffe://example.org/agent/tools"},
                              .minimum_binding = oauth::MinimumBinding::kDpop};
  orders.tools["look"] = {kToolHash, oauth::Risk::kLow, true};
  orders.tools["look_hard"] = {kToolHash, oauth::Risk::kMedium, true};
  orders.tools["change"] = {kToolHash, oauth::Risk::kLow, false};
  TokenUpdate update{.whole = true, .complete = true, .seq = seq, .issuer = kIssuer};
  update.offline_grace = grace;
  update.keys = maker.keys();
  update.resources = {{kOrders, std::move(orders)}};
  return update;
}

inline TokenUpdate Revoked(oauth::EntityKind kind, const std::string& entity, uint64_t seq) {
  return {.complete = true, .seq = seq, .revocations = {{.kind = kind, .entity = entity, .seq = seq}}};
}

}  // namespace signet::agent
