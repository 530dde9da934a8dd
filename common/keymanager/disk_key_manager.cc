#include "common/keymanager/disk_key_manager.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "common/fs/atomic_file.h"
#include "common/keymanager/key_id.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet {
namespace {

constexpr absl::string_view kSuffix = ".pem";
constexpr size_t kMaxFileBytes = size_t{32} * 1024;

absl::Status CheckFolder(const std::string& folder) {
  struct stat info;
  if (stat(folder.c_str(), &info) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("key folder ", folder, ": ", std::strerror(errno)));
  }
  if ((info.st_mode & 077) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrFormat("key folder %s is open to others (mode %04o): chmod 700 %s",
                                                       folder, info.st_mode & 07777u, folder));
}

// kFailedPrecondition: the file must not be touched or used as it is. kDataLoss: it is damaged.
absl::StatusOr<crypto::PrivateKey> ReadKey(const std::string& path) {
  SIGNET_ASSIGN_OR_RETURN(std::string pem, fs::ReadSecretFile(path, kMaxFileBytes));
  auto key = crypto::PrivateKey::ParsePem(pem);
  crypto::Cleanse(pem);
  if (key.ok()) return key;
  return absl::DataLossError(absl::StrCat("key file ", path, " is damaged (", key.status().message(),
                                          "): restore it from a backup and restart"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<DiskKeyManager>> DiskKeyManager::Open(std::string folder, Clock& clock) {
  SIGNET_RETURN_IF_ERROR(fs::MakeDirectory(folder, 0700), "key folder");
  SIGNET_RETURN_IF_ERROR(CheckFolder(folder));
  std::unique_ptr<DiskKeyManager> keys(new DiskKeyManager(std::move(folder), clock));
  SIGNET_RETURN_IF_ERROR(keys->Load());
  return keys;
}

std::string DiskKeyManager::PathOf(absl::string_view id) const { return absl::StrCat(folder_, "/", id, kSuffix); }

absl::Status DiskKeyManager::Load() {
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder_, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    absl::string_view id = name;
    // Anything else, such as what a crash left of an atomic write, is none of ours.
    if (!absl::ConsumeSuffix(&id, kSuffix) || !CheckKeyId(id).ok()) continue;
    auto key = ReadKey(PathOf(id));
    if (!key.ok() && key.status().code() != absl::StatusCode::kDataLoss) return key.status();
    if (!key.ok()) SIGNET_LOG(error, "key file is damaged", {{"key_id", id}, {"error", key.status().message()}});
    MutexLock lock(mutex_);
    keys_.insert_or_assign(std::string(id), std::move(key));
  }
  if (error) return absl::UnavailableError(absl::StrCat("key folder ", folder_, ": ", error.message()));
  return absl::OkStatus();
}

absl::StatusOr<crypto::PublicKey> DiskKeyManager::GenerateKey(absl::string_view id, crypto::KeyType type) {
  SIGNET_RETURN_IF_ERROR(CheckKeyId(id));
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::Generate(type), absl::StrCat("key \"", id, "\""));
  MutexLock write_lock(write_mutex_);
  const std::string path = PathOf(id);
  if (const auto previous = Find(id); previous.status().code() == absl::StatusCode::kDataLoss) {
    SIGNET_ASSIGN_OR_RETURN(const std::string aside, fs::SetAside(path, clock_.Now()));
    SIGNET_LOG(error, "damaged key file set aside, a new key takes its place", {{"key_id", id}, {"kept_as", aside}});
    MutexLock lock(mutex_);
    keys_.erase(keys_.find(id));  // should the write below fail, the next try finds no file to set aside
  }
  std::string pem = key.Pkcs8Pem();
  absl::Status written = fs::WriteFileAtomically(path, pem);
  crypto::Cleanse(pem);
  if (!written.ok()) return WithContext(written, absl::StrCat("key \"", id, "\""));
  crypto::PublicKey public_key = key.public_key();
  MutexLock lock(mutex_);
  keys_.insert_or_assign(std::string(id), std::move(key));
  return public_key;
}

absl::StatusOr<crypto::PrivateKey> DiskKeyManager::Find(absl::string_view id) {
  MutexLock lock(mutex_);
  const auto it = keys_.find(id);
  if (it == keys_.end()) return absl::NotFoundError(absl::StrCat("key \"", id, "\" does not exist in ", folder_));
  return it->second;
}

absl::StatusOr<crypto::PublicKey> DiskKeyManager::GetPublicKey(absl::string_view id) {
  SIGNET_ASSIGN_OR_RETURN(const crypto::PrivateKey key, Find(id));
  return key.public_key();
}

std::vector<std::string> DiskKeyManager::ListKeys() {
  std::vector<std::string> ids;
  MutexLock lock(mutex_);
  for (const auto& [id, key] : keys_) {
    if (key.ok()) ids.push_back(id);
  }
  return ids;
}

absl::Status DiskKeyManager::RemoveKey(absl::string_view id) {
  MutexLock write_lock(write_mutex_);
  SIGNET_RETURN_IF_ERROR(Find(id).status());  // a damaged file is never removed
  SIGNET_RETURN_IF_ERROR(fs::RemoveFile(PathOf(id)));
  MutexLock lock(mutex_);
  keys_.erase(keys_.find(id));
  return absl::OkStatus();
}

absl::StatusOr<std::string> DiskKeyManager::Sign(absl::string_view id, crypto::HashAlgorithm hash,
                                                 absl::string_view message) {
  SIGNET_ASSIGN_OR_RETURN(const crypto::PrivateKey key, Find(id));
  return key.Sign(hash, message);
}

}  // namespace signet
