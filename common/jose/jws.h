// JWS compact serialization (RFC 7515) with the nine algorithms of JWT-SVID 2.1 and no other.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/crypto/certificate_builder.h"
#include "common/crypto/key.h"

namespace signet::jose {

std::string Base64UrlEncode(absl::string_view bytes);                 // no padding
absl::StatusOr<std::string> Base64UrlDecode(absl::string_view text);  // refuses padding and stray bits

struct JwsHeader {
  std::string algorithm;  // one of the nine
  std::optional<std::string> key_id, type;
};

// Three parts, header decoded, algorithm on the list; `crit`, `jwk`, `jku`, `x5u`, `x5c`, `b64` refuse the token.
struct CompactJws {
  JwsHeader header;
  std::string payload;        // decoded
  std::string signature;      // decoded, as on the wire (ECDSA: r || s)
  std::string signing_input;  // header.payload as received

  static absl::StatusOr<CompactJws> Parse(absl::string_view token, size_t max_bytes = 16 * 1024);
  // The key's type and curve must fit the algorithm. kPermissionDenied when it does not verify.
  absl::Status Verify(const crypto::PublicKey& key) const;
};

// The algorithm a key of ours signs with: ES256, ES384, RS256.
absl::StatusOr<absl::string_view> AlgorithmFor(crypto::KeyType type);

// `header_json` and `payload_json` as they shall stand in the token. Turns a DER ECDSA signature into r || s.
absl::StatusOr<std::string> SignCompact(absl::string_view header_json, absl::string_view payload_json,
                                        crypto::KeyType type, const crypto::MessageSigner& sign);

}  // namespace signet::jose
