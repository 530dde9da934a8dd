// Hashes, HMAC-free comparison and hex. Raw bytes in std::string.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "common/crypto/key.h"

namespace signet::crypto {

std::string Sha256(absl::string_view data);
std::string Digest(HashAlgorithm hash, absl::string_view data);
std::string Sha1(absl::string_view data);  // key identifiers and x509_pop fingerprints only
bool ConstantTimeEquals(absl::string_view a, absl::string_view b);

// SHA-256 of data that arrives in pieces.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  void Update(absl::string_view data);
  std::string Finish();  // once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace signet::crypto
