// AES-256-GCM over a whole buffer: what the sealed cache and nothing else uses.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::crypto {

// `key` 32 bytes. Result: 12-byte random nonce, ciphertext, 16-byte tag. `context` is authenticated, not stored.
absl::StatusOr<std::string> Seal(absl::string_view key, absl::string_view plaintext, absl::string_view context);
// kDataLoss when any bit of key, context or sealed bytes differs; no plaintext is released then.
absl::StatusOr<std::string> Unseal(absl::string_view key, absl::string_view sealed, absl::string_view context);

}  // namespace signet::crypto
