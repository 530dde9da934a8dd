// The chain verifier (T10). tests/interop/chain/verify_chain.py is written from the same rules and must agree.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/oauth/receipt.h"
#include "common/oauth/revocation.h"

namespace signet::oauth {
namespace {

constexpr absl::string_view kIncomplete = "incomplete";

bool CallsRise(const std::optional<int64_t>& before, const std::optional<int64_t>& after) {
  return before.has_value() && (!after.has_value() || *after > *before);
}

// What is wrong with the first receipt; empty: nothing.
std::string RootProblem(const Receipt& r) {
  if (!r.previous.empty()) return absl::StrCat(kIncomplete, ": the first receipt has one before it");
  if (r.depth != 1) return absl::StrCat(kIncomplete, ": the first receipt has depth ", r.depth);
  if (!r.from.empty()) return "the first receipt names one who passed it on";
  return "";
}

// What is wrong between two neighbours.
std::string LinkProblem(const Receipt& before, const std::string& before_hash, const Receipt& r) {
  if (r.previous != before_hash) return absl::StrCat(kIncomplete, ": it does not follow the one before");
  if (r.txn != before.txn || r.root != before.root || r.user != before.user || r.grant != before.grant ||
      r.task != before.task) {
    return "its chain, root, user, grant or task is another";
  }
  if (r.subject_token != before.token_hash) return "it was not made from the token of the one before";
  if (r.from != before.actor) return "it was not passed on by the actor before";
  if (r.depth == before.depth) {
    if (r.actor != before.actor) return "a new actor without a new hop";
  } else if (r.depth != before.depth + 1) {
    return absl::StrCat(kIncomplete, ": depth ", r.depth, " after ", before.depth);
  }
  if (r.max_depth > before.max_depth || r.depth > r.max_depth) return "depth or its limit rises";
  if (r.expires_at > before.expires_at) return "its expiry rises";
  if (r.issued_at < before.issued_at) return "it is older than the one before";
  if (CallsRise(before.calls, r.calls)) return "its calls rise";
  if (!Within(r.bounds, before.bounds)) return "its permissions are wider than those before";
  return "";
}

// Outermost first, as in a token: one a depth.
std::vector<std::string> ActorsOf(const std::vector<Receipt>& hops) {
  std::vector<std::string> actors;
  for (const Receipt& r : hops) {
    if (static_cast<int>(actors.size()) < r.depth) actors.insert(actors.begin(), r.actor);
  }
  return actors;
}

// A definition may follow itself, but not come back (T2).
bool HasCycle(const std::vector<std::string>& actors) {
  for (size_t i = 0; i < actors.size(); ++i) {
    for (size_t j = i + 2; j < actors.size(); ++j) {
      if (DefinitionOf(actors[i]) != DefinitionOf(actors[j])) continue;
      for (size_t k = i + 1; k < j; ++k) {
        if (DefinitionOf(actors[k]) != DefinitionOf(actors[i])) return true;
      }
    }
  }
  return false;
}

std::string TokenProblem(const AccessToken& t, const std::vector<std::string>& receipts,
                         const std::vector<Receipt>& hops) {
  const Receipt& last = hops.back();
  if (t.context.receipts != static_cast<int>(receipts.size())) {
    return absl::StrCat(kIncomplete, ": ", receipts.size(), " of ", t.context.receipts, " receipts");
  }
  if (t.context.receipt_hash != ReceiptHash(receipts.back())) {
    return absl::StrCat(kIncomplete, ": the last receipt is not the one the token names");
  }
  if (!t.receipts.empty() && t.receipts != receipts) return "its own receipts are others";
  if (last.token_hash != Hash(t.jwt_id)) return "the last receipt is of another token";
  if (last.root != Hash(t.context.root)) return "the chain has another root";
  if (hops.size() > 1 && last.subject_token != t.context.parent) return "its parent is another";
  if (hops.size() == 1 && !t.context.parent.empty()) return absl::StrCat(kIncomplete, ": it has a parent");
  if (last.txn != t.txn || last.grant != t.context.grant || last.task != t.context.task) {
    return "its chain, grant or task is another";
  }
  const std::string user =
      t.context.user_issuer.empty() ? "" : Hash(UserKey(t.context.user_issuer, t.context.user_subject));
  if (last.user != user) return "its user is another";
  if (last.audience != t.audience) return "its audience is another";
  if (last.binding != t.binding) return "it is bound to another key";
  if (last.depth != t.context.depth || t.context.max_depth > last.max_depth) return "its depth or limit is another";
  if (t.expires_at > last.expires_at || CallsRise(last.calls, t.context.calls)) return "its expiry or calls rise";
  if (!Within(t.atoms, last.bounds)) return "its permissions are wider than the last receipt's";
  std::vector<std::string> actors;
  for (const Actor& actor : t.actors) actors.push_back(actor.subject);
  if (actors.empty()) actors.push_back(t.client_id);  // own authority
  if (actors != ActorsOf(hops)) return "its actors are not those of the receipts";
  return "";
}

}  // namespace

ChainFinding VerifyChain(const std::vector<std::string>& receipts, absl::string_view token, const Keys& receipt_keys,
                         const Keys& token_keys, absl::string_view issuer) {
  ChainFinding finding;
  const auto problem = [&](absl::string_view text) {
    finding.problem = std::string(text);
    return finding;
  };
  if (receipts.empty()) return problem(absl::StrCat(kIncomplete, ": no receipts"));
  if (receipts.size() > kMaxAncestors + 1) return problem("more receipts than a chain can have");
  for (size_t i = 0; i < receipts.size(); ++i) {
    const std::string name = absl::StrCat("receipt ", i + 1);
    absl::StatusOr<Receipt> read = VerifyReceipt(receipts[i], receipt_keys);
    if (!read.ok()) return problem(absl::StrCat(name, ": ", absl::StripPrefix(read.status().message(), "receipt: ")));
    finding.hops.push_back(*std::move(read));
    const std::string wrong = i == 0 ? RootProblem(finding.hops.front())
                                     : LinkProblem(finding.hops[i - 1], ReceiptHash(receipts[i - 1]), finding.hops[i]);
    if (!wrong.empty()) return problem(absl::StrCat(name, ": ", wrong));
  }
  if (HasCycle(ActorsOf(finding.hops))) return problem("an identity acts twice, not in a row");
  if (token.empty()) return problem(absl::StrCat(kIncomplete, ": no token"));
  absl::StatusOr<AccessToken> read = VerifyAnyTime(token, token_keys, issuer);
  if (!read.ok()) return problem(absl::StrCat("token: ", read.status().message()));
  finding.token = *std::move(read);
  const std::string wrong = TokenProblem(*finding.token, receipts, finding.hops);
  if (!wrong.empty()) return problem(absl::StrCat("token: ", wrong));
  finding.proven = true;
  return finding;
}

}  // namespace signet::oauth
