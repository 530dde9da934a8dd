// A chain of signed receipts and its token: planner -> worker -> orders, the worker's token narrowed once in between.
#pragma once

#include <string>
#include <vector>

#include "common/crypto/key.h"
#include "common/oauth/receipt.h"
#include "tests/common/oauth/sample.h"
#include "tests/testing/test_ca.h"

namespace signet::oauth::sample {

inline constexpr char kOrdersId[] = "spiffe://example.org/agent/orders/3d2e";

struct Chain {
  crypto::PrivateKey receipt_key, token_key;
  std::vector<Receipt> hops;  // unsigned; previous and token hashes are set when signed
  AccessToken token;          // of the last hop

  Keys receipt_keys() const { return {{"r1", receipt_key.public_key()}}; }
  Keys token_keys() const { return {{"t1", token_key.public_key()}}; }

  static std::string JwtId(size_t hop) { return absl::StrCat("jti-", hop + 1); }

  // Signs what `hops` and `token` say now. With `link`, the hashes that join them are set first.
  std::vector<std::string> SignReceipts(bool link = true) {
    std::vector<std::string> receipts;
    for (size_t i = 0; i < hops.size(); ++i) {
      if (link) {
        hops[i].previous = i == 0 ? "" : ReceiptHash(receipts.back());
      }
      receipts.push_back(*SignReceipt(hops[i], "r1", receipt_key.type(), ::signet::testing::SignerOf(receipt_key)));
    }
    if (link && !receipts.empty()) {
      token.context.receipts = static_cast<int>(receipts.size());
      token.context.receipt_hash = ReceiptHash(receipts.back());
    }
    return receipts;
  }
  std::string SignToken() const { return *Sign(token, "t1", token_key.type(), ::signet::testing::SignerOf(token_key)); }
};

inline Chain MakeChain(const crypto::PrivateKey& receipt_key, const crypto::PrivateKey& token_key) {
  Chain chain{.receipt_key = receipt_key, .token_key = token_key, .hops = {}, .token = {}};
  struct Hop {
    const char* actor;
    const char* audience;
    int depth;
    Atoms bounds;
  };
  const Atoms all = *Normalize({Action(kWorker, "work:run"), Action(kOrders, "orders:read"),
                                Tool(kOrders, "query_orders"), Tool(kOrders, "list_orders")});
  const Atoms orders =
      *Normalize({Action(kOrders, "orders:read"),
                  Tool(kOrders, "query_orders", {{"rows", AtMost(50)}, {"customer", In({"\"c-17\""})}})});
  const Atoms less =
      *Normalize({Tool(kOrders, "query_orders", {{"rows", AtMost(10)}, {"customer", In({"\"c-17\""})}})});
  const Hop kHops[] = {{kPlannerId, kWorker, 1, all},
                       {kWorkerId, kOrders, 2, orders},
                       {kWorkerId, kOrders, 2, orders},  // narrowed in place
                       {kOrdersId, kOrders, 3, less}};
  for (size_t i = 0; i < std::size(kHops); ++i) {
    Receipt r;
    r.jwt_id = absl::StrCat("receipt-", i + 1);
    r.txn = "txn-1";
    r.issued_at = kNow + absl::Seconds(static_cast<int64_t>(i));
    r.root = Hash("jti-1");
    r.token_hash = Hash(Chain::JwtId(i));
    r.subject_token = i == 0 ? Hash("the user's token") : Hash(Chain::JwtId(i - 1));
    r.user = Hash(UserKey("https://idp.example.org", "u-1"));
    r.actor = kHops[i].actor;
    r.from = i == 0 ? "" : kHops[i - 1].actor;
    r.audience = kHops[i].audience;
    r.bounds = kHops[i].bounds;
    r.expires_at = kNow + absl::Seconds(300 - 10 * static_cast<int64_t>(i));
    r.depth = kHops[i].depth;
    r.max_depth = 4;
    r.calls = 50 - static_cast<int64_t>(i);
    r.binding.jkt = absl::StrCat("key-of-", kHops[i].actor);
    r.policy = "signet-1";
    r.grant = "g-1";
    r.task = "task-1";
    chain.hops.push_back(std::move(r));
  }
  const Receipt& last = chain.hops.back();
  AccessToken& t = chain.token;
  t = Token();
  t.audience = last.audience;
  t.client_id = kOrdersId;
  t.jwt_id = Chain::JwtId(chain.hops.size() - 1);
  t.issued_at = last.issued_at;
  t.expires_at = last.expires_at;
  t.scope = "";
  t.atoms = last.bounds;
  t.actors.insert(t.actors.begin(), {.subject = kOrdersId, .issuer = "spiffe://example.org"});
  t.binding = last.binding;
  t.context.depth = 3;
  t.context.max_depth = 4;
  t.context.calls = last.calls;
  t.context.parent = last.subject_token;
  t.context.ancestors = {{.jwt_id = "jti-3", .instance = {}, .node = {}, .key_id = {}},
                         {.jwt_id = "jti-2", .instance = {}, .node = {}, .key_id = {}},
                         {.jwt_id = "jti-1", .instance = {}, .node = {}, .key_id = {}}};
  return chain;
}

inline Chain MakeChain() {
  return MakeChain(*crypto::PrivateKey::Generate(crypto::KeyType::kEcP256),
                   *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256));
}

}  // namespace signet::oauth::sample
