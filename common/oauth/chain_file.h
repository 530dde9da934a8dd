// A chain as it lies in a file, with the keys to prove it, and what was found. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/oauth/receipt.h"

namespace signet::oauth {

inline constexpr size_t kMaxChainFileBytes = 4 * 1024 * 1024;
inline constexpr size_t kMaxChainFileReceipts = 4096;

// JSON object: issuer, token (compact JWS), receipts (array of compact JWS, first hop first; left out: those inside the
// token; more than the token counts: of a whole tree, those of the token's chain are picked by their hashes), token_keys and receipt_keys (JWK sets). All may be absent; other members are ignored, so the answer of
// GetChain is such a file. Keys that came with the chain prove nothing by themselves: take them from the issuer.
struct ChainFile {
  std::string issuer, token;
  std::vector<std::string> receipts;
  std::optional<Keys> token_keys, receipt_keys;

  static absl::StatusOr<ChainFile> Parse(absl::string_view json);  // kInvalidArgument
  // An absent key set is empty: nothing verifies.
  ChainFinding Verify() const;
};

// Canonical JSON: {"proven":..., "problem":"...", "hops":[...]}; a hop as it was signed.
std::string FindingJson(const ChainFinding& finding);

}  // namespace signet::oauth
