// Seam for the server's private keys: create and sign. Keys never leave the manager.
// Thread-safe. The managers here (memory, disk) sign inline in well under a millisecond; GenerateKey and RemoveKey may
// touch the disk and are called by workers only.
// Errors: kNotFound no such id; kUnavailable backend unreachable, retry; kFailedPrecondition key type or store refused;
// kDataLoss the key is there but damaged (the message names where), until GenerateKey puts a new one in its place.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/crypto/key.h"

namespace signet {

class KeyManager {
 public:
  virtual ~KeyManager() = default;

  // Creates or replaces the key `id` ([A-Za-z0-9._-]{1,64}, no leading dot). On error the previous key is still usable.
  virtual absl::StatusOr<crypto::PublicKey> GenerateKey(absl::string_view id, crypto::KeyType type) = 0;
  virtual absl::StatusOr<crypto::PublicKey> GetPublicKey(absl::string_view id) = 0;
  virtual std::vector<std::string> ListKeys() = 0;
  virtual absl::Status RemoveKey(absl::string_view id) = 0;

  // Hashes and signs `message`. DER ECDSA-Sig-Value (RFC 3279 2.2.3), or RSASSA-PKCS1-v1_5.
  virtual absl::StatusOr<std::string> Sign(absl::string_view id, crypto::HashAlgorithm hash,
                                           absl::string_view message) = 0;
};

}  // namespace signet
