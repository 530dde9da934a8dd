// DPoP proofs (RFC 9449): made and judged. Pure; whether a `jti` was seen before is for the caller to keep.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/crypto/key.h"

namespace signet::oauth {

inline constexpr absl::Duration kDpopWindow = absl::Seconds(60);  // iat may lie this far from now, either way

struct DpopProof {
  std::string jkt, jwt_id;
  std::string nonce;  // empty: none
  absl::Time issued_at;
};

// `access_token` empty: none presented, and `ath` must be absent or is ignored. `uri` without query and fragment.
// kInvalidArgument with the rule that failed (RFC 9449 4.3), never a part of the proof. ES256, ES384, RS256 (of at
// least 2048 bits), PS256; no symmetric algorithm, no private member in `jwk`; at most 8 KiB.
absl::StatusOr<DpopProof> VerifyDpop(absl::string_view proof, absl::string_view method, absl::string_view uri,
                                     absl::string_view access_token, absl::Time now);

absl::StatusOr<std::string> MakeDpop(const crypto::PrivateKey& key, absl::string_view method, absl::string_view uri,
                                     absl::string_view access_token, absl::string_view nonce, absl::Time now);

}  // namespace signet::oauth
