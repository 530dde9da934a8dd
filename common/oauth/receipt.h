// Receipts: one signed record for each token of a chain, `typ: signet-receipt+jwt`, keys of their own (T5). A chain is
// proven offline with public keys alone: hashes link, depths run 1..n, bounds only shrink, the token names the last
// receipt and the count (T10). A token narrowed in place has a receipt too, of the same depth and actor, whose `from`
// is that actor; one that was refreshed has a receipt in the place of the one it renews. A receipt has no top-level
// iss, aud, sub or scope: it can be taken for no other kind of JWT. Pure but for signatures. Thread-safe.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/oauth/access_token.h"

namespace signet::oauth {

struct Receipt {
  std::string jwt_id, txn;
  absl::Time issued_at;
  std::string previous;    // SHA-256 (hex) of the receipt before, as compact JWS; empty: the root
  std::string root;        // Hash(Context::root): one for the whole chain, through refreshes too
  std::string token_hash;  // of this hop's jti
  std::string
      subject_token;     // first hop: Hash() of the user's token; later Hash(jti) of ours, the hop before's token_hash
  std::string user;      // Hash(UserKey(issuer, user)); empty: no user
  std::string actor;     // SPIFFE ID of who receives this hop's token
  std::string from;      // SPIFFE ID of who passed it on; empty at the root
  std::string audience;  // recorded; may change within the grant
  Atoms bounds;
  absl::Time expires_at;
  int depth = 1, max_depth = kMaxDepth;
  std::optional<int64_t> calls;  // quota
  Binding binding;
  std::string policy;  // id and version of the rules that decided
  std::string grant, task;
  friend bool operator==(const Receipt&, const Receipt&) = default;
};

absl::StatusOr<std::string> SignReceipt(const Receipt& receipt, absl::string_view kid, crypto::KeyType type,
                                        const crypto::MessageSigner& sign);
absl::StatusOr<Receipt> VerifyReceipt(absl::string_view jws, const Keys& receipt_keys);

struct ChainFinding {
  bool proven = false;
  std::string problem;  // first thing wrong, naming the hop; "incomplete" when a part is missing
  std::vector<Receipt> hops;
  std::optional<AccessToken> token;
};
// Hash for `previous` and Context::receipt_hash: SHA-256 (hex) of the compact JWS.
std::string ReceiptHash(absl::string_view jws);

// `receipts` first hop first; `token` may be expired (an audit looks back) but must verify otherwise. Without token the
// result is never proven: "incomplete".
ChainFinding VerifyChain(const std::vector<std::string>& receipts, absl::string_view token, const Keys& receipt_keys,
                         const Keys& token_keys, absl::string_view issuer);

}  // namespace signet::oauth
