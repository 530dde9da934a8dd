// The numbers a public key is made of, as JWK and other formats carry them: big-endian bytes.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/crypto/key.h"

namespace signet::crypto {

// Exactly the curve's width each: 32, 48 or 66 bytes.
struct EcPoint {
  std::string x, y;
};
struct RsaNumbers {
  std::string modulus, exponent;  // no leading zeros
};

// Bytes of a coordinate of the curve, which is also half of a fixed-width ECDSA signature; 0 for other key types.
size_t CoordinateBytes(KeyType type);
bool IsRsa(KeyType type);

// Null when the key is of another kind.
std::optional<EcPoint> EcPointOf(const PublicKey& key);
std::optional<RsaNumbers> RsaNumbersOf(const PublicKey& key);
std::optional<std::string> Ed25519BytesOf(const PublicKey& key);

// By way of PublicKey::ParseSpki, so that each of its rules holds: kInvalidArgument for a point that is not on the
// curve or not of its width, for an RSA key outside its sizes.
absl::StatusOr<PublicKey> PublicKeyFromEcPoint(KeyType curve, absl::string_view x, absl::string_view y);
absl::StatusOr<PublicKey> PublicKeyFromRsaNumbers(absl::string_view modulus, absl::string_view exponent);
absl::StatusOr<PublicKey> PublicKeyFromEd25519(absl::string_view bytes);

}  // namespace signet::crypto
