// What a server with the rightful keys could say that is not true. Each must be found, by our verifier and by the one
// in tests/interop/chain.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/common/oauth/sample_chain.h"

namespace signet::oauth::sample {

using Lie = std::pair<const char*, std::function<void(Chain&)>>;

// Between two receipts.
inline std::vector<Lie> LinkLies() {
  return {
      {"root has from", [](Chain& c) { c.hops[0].from = kWorkerId; }},
      {"root depth", [](Chain& c) { c.hops[0].depth = 2; }},
      {"other txn", [](Chain& c) { c.hops[1].txn = "txn-2"; }},
      {"other root", [](Chain& c) { c.hops[2].root = Hash("jti-9"); }},
      {"other user", [](Chain& c) { c.hops[1].user = Hash("x"); }},
      {"other grant", [](Chain& c) { c.hops[2].grant = "g-2"; }},
      {"other task", [](Chain& c) { c.hops[3].task = ""; }},
      {"other subject token", [](Chain& c) { c.hops[1].subject_token = Hash("jti-9"); }},
      {"other from", [](Chain& c) { c.hops[3].from = kPlannerId; }},
      {"depth skips", [](Chain& c) { c.hops[3].depth = 4; }},
      {"new actor, same depth",
       [](Chain& c) {  // and the token tells the story without it
         c.hops[3].depth = c.token.context.depth = 2;
         c.token.actors.erase(c.token.actors.begin());
         c.token.client_id = c.token.actors[0].subject;
       }},
      {"max_depth rises", [](Chain& c) { c.hops[2].max_depth = 5; }},
      {"depth over its limit", [](Chain& c) { c.hops[3].max_depth = 2; }},
      {"expiry rises", [](Chain& c) { c.hops[2].expires_at += absl::Seconds(11); }},
      {"time runs back", [](Chain& c) { c.hops[2].issued_at -= absl::Seconds(5); }},
      {"calls rise", [](Chain& c) { c.hops[2].calls = 51; }},
      {"calls get lost", [](Chain& c) { c.hops[2].calls.reset(); }},
      {"a bound is dropped", [](Chain& c) { c.hops[3].bounds[0].constraints.erase("rows"); }},
      {"a bound is widened", [](Chain& c) { c.hops[3].bounds[0].constraints["rows"].max = 51; }},
      {"a value is added", [](Chain& c) { c.hops[3].bounds[0].constraints["customer"].in->insert("\"c-18\""); }},
      {"a permission appears", [](Chain& c) { c.hops[2].bounds = c.hops[0].bounds; }},
      {"another tool of that name", [](Chain& c) { c.hops[3].bounds[0].tool_hash = std::string(64, 'b'); }},
      {"a cycle",
       [](Chain& c) {
         c.hops[3].actor = kPlannerId;
         c.token.actors[0].subject = c.token.client_id = kPlannerId;
       }},
  };
}

// Between the last receipt and the token.
inline std::vector<Lie> TokenLies() {
  return {
      {"receipts inside", [](Chain& c) { c.token.receipts = {"a.b.c"}; }},
      {"jti", [](Chain& c) { c.token.jwt_id = "jti-9"; }},
      {"txn", [](Chain& c) { c.token.txn = "txn-9"; }},
      {"root", [](Chain& c) { c.token.context.root = "jti-9"; }},
      {"parent", [](Chain& c) { c.token.context.parent = Hash("jti-9"); }},
      {"grant", [](Chain& c) { c.token.context.grant = "g-9"; }},
      {"task", [](Chain& c) { c.token.context.task = "task-9"; }},
      {"user", [](Chain& c) { c.token.context.user_subject = "u-9"; }},
      {"audience", [](Chain& c) { c.token.audience = kWorker; }},
      {"binding", [](Chain& c) { c.token.binding.jkt = "other"; }},
      {"max_depth", [](Chain& c) { c.token.context.max_depth = 5; }},
      {"exp", [](Chain& c) { c.token.expires_at += absl::Seconds(1); }},
      {"calls", [](Chain& c) { *c.token.context.calls += 1; }},
      {"no calls", [](Chain& c) { c.token.context.calls.reset(); }},
      {"atoms", [](Chain& c) { c.token.atoms[0].constraints.clear(); }},
      {"actor inside", [](Chain& c) { c.token.actors[1].subject = "spiffe://example.org/agent/worker/other"; }},
      {"outermost actor",
       [](Chain& c) { c.token.actors[0].subject = c.token.client_id = "spiffe://example.org/agent/orders/o"; }},
  };
}

}  // namespace signet::oauth::sample
