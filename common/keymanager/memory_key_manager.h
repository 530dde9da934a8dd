// Keys that end with the process. Each restart then adds an authority to the bundle: for tests and throw-away servers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/concurrency/mutex.h"
#include "common/keymanager/key_manager.h"

namespace signet {

class MemoryKeyManager final : public KeyManager {
 public:
  absl::StatusOr<crypto::PublicKey> GenerateKey(absl::string_view id, crypto::KeyType type) override;
  absl::StatusOr<crypto::PublicKey> GetPublicKey(absl::string_view id) override;
  std::vector<std::string> ListKeys() override;
  absl::Status RemoveKey(absl::string_view id) override;
  absl::StatusOr<std::string> Sign(absl::string_view id, crypto::HashAlgorithm hash,
                                   absl::string_view message) override;

 private:
  absl::StatusOr<crypto::PrivateKey> Find(absl::string_view id);

  Mutex mutex_;
  std::map<std::string, crypto::PrivateKey, std::less<>> keys_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet
