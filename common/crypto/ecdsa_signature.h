// The two shapes of an ECDSA signature: DER (X.509, OpenSSL) and its two bare numbers (JWS, SPIRE's x509pop).
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::crypto {

// Big-endian numbers, leading zeros allowed, at most 66 bytes each (P-521). kInvalidArgument when one is empty or
// longer.
absl::StatusOr<std::string> EcdsaToDer(absl::string_view r, absl::string_view s);

struct EcdsaNumbers {
  std::string r, s;  // `width` bytes each
};
// kInvalidArgument when `der` is no ECDSA-Sig-Value (RFC 3279 2.2.3) or a number needs more than `width` bytes.
absl::StatusOr<EcdsaNumbers> EcdsaFromDer(absl::string_view der, size_t width);

}  // namespace signet::crypto
