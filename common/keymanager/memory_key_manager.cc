#include "common/keymanager/memory_key_manager.h"

#include "absl/strings/str_cat.h"
#include "common/keymanager/key_id.h"
#include "common/status/macros.h"

namespace signet {

absl::StatusOr<crypto::PublicKey> MemoryKeyManager::GenerateKey(absl::string_view id, crypto::KeyType type) {
  SIGNET_RETURN_IF_ERROR(CheckKeyId(id));
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::Generate(type), absl::StrCat("key \"", id, "\""));
  crypto::PublicKey public_key = key.public_key();
  MutexLock lock(mutex_);
  keys_.insert_or_assign(std::string(id), std::move(key));
  return public_key;
}

absl::StatusOr<crypto::PrivateKey> MemoryKeyManager::Find(absl::string_view id) {
  MutexLock lock(mutex_);
  const auto it = keys_.find(id);
  if (it == keys_.end()) return absl::NotFoundError(absl::StrCat("key \"", id, "\" does not exist"));
  return it->second;
}

absl::StatusOr<crypto::PublicKey> MemoryKeyManager::GetPublicKey(absl::string_view id) {
  SIGNET_ASSIGN_OR_RETURN(const crypto::PrivateKey key, Find(id));
  return key.public_key();
}

std::vector<std::string> MemoryKeyManager::ListKeys() {
  std::vector<std::string> ids;
  MutexLock lock(mutex_);
  for (const auto& [id, key] : keys_) ids.push_back(id);
  return ids;
}

absl::Status MemoryKeyManager::RemoveKey(absl::string_view id) {
  MutexLock lock(mutex_);
  const auto it = keys_.find(id);
  if (it == keys_.end()) return absl::NotFoundError(absl::StrCat("key \"", id, "\" does not exist"));
  keys_.erase(it);
  return absl::OkStatus();
}

absl::StatusOr<std::string> MemoryKeyManager::Sign(absl::string_view id, crypto::HashAlgorithm hash,
                                                   absl::string_view message) {
  SIGNET_ASSIGN_OR_RETURN(const crypto::PrivateKey key, Find(id));
  return key.Sign(hash, message);
}

}  // namespace signet
