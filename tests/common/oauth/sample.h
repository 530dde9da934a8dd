// A token two hops deep, with everything in it, for the tests of common/oauth.
#pragma once

#include <string>

#include "common/oauth/access_token.h"
#include "common/oauth/receipt.h"
#include "common/oauth/revocation.h"

namespace signet::oauth::sample {

inline const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
inline constexpr char kIssuer[] = "https://id.example.org";
inline constexpr char kOrders[] = "https://mcp.example.org/orders";
inline constexpr char kWorker[] = "https://worker.example.org";
inline constexpr char kPlannerId[] = "spiffe://example.org/agent/planner/01aa";
inline constexpr char kWorkerId[] = "spiffe://example.org/agent/worker/7c1f";
inline const std::string kToolHash(64, 'a');

inline Atom Action(const std::string& resource, const std::string& action, Constraints constraints = {}) {
  return {.resource = resource, .action = action, .tool_hash = {}, .constraints = std::move(constraints)};
}
inline Atom Tool(const std::string& resource, const std::string& name, Constraints constraints = {},
                 const std::string& hash = kToolHash) {
  return {.resource = resource, .action = name, .tool = true, .tool_hash = hash, .constraints = std::move(constraints)};
}
inline Constraint In(std::set<std::string> values) {
  Constraint c;
  c.in = std::move(values);
  return c;
}
inline Constraint AtMost(int64_t max) {
  Constraint c;
  c.max = max;
  return c;
}

inline AccessToken Token() {
  AccessToken t;
  t.issuer = kIssuer;
  t.subject = UserSubject("https://idp.example.org", "u-1");
  t.subject_profile = "user";
  t.audience = kOrders;
  t.client_id = kWorkerId;
  t.jwt_id = "jti-2";
  t.txn = "txn-1";
  t.issued_at = kNow;
  t.expires_at = kNow + absl::Seconds(240);
  t.scope = "orders:read";
  t.atoms =
      *Normalize({Action(kOrders, "orders:read"),
                  Tool(kOrders, "query_orders", {{"customer", In({"\"c-17\"", "\"c-20\""})}, {"rows", AtMost(50)}}),
                  Tool(kOrders, "list_orders")});
  t.actors = {{.subject = kWorkerId, .issuer = "spiffe://example.org"},
              {.subject = kPlannerId, .issuer = "spiffe://example.org"}};
  t.binding.jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
  Context& c = t.context;
  c.task = "task-1";
  c.task_hash = Hash("task");
  c.session = "s-9";
  c.instance = "instance-worker";
  c.grant = "g-1";
  c.identity = "spiffe://example.org/agent/worker";
  c.user_issuer = "https://idp.example.org";
  c.user_subject = "u-1";
  c.node = "node-worker";
  c.depth = 2;
  c.max_depth = 4;
  c.parent = Hash("jti-1");
  c.root = "jti-1";
  c.ancestors = {{.jwt_id = "jti-1", .instance = "instance-planner", .node = "node-planner", .key_id = "k0"}};
  c.reauth_at = kNow + absl::Hours(1);
  c.rights_at = kNow - absl::Seconds(20);
  c.calls = 50;
  c.rev = 17;
  return t;
}

}  // namespace signet::oauth::sample
