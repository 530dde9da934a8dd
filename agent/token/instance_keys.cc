#include "agent/token/instance_keys.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/jose/jwk.h"
#include "common/status/macros.h"

namespace signet::agent {

absl::StatusOr<InstanceKeyPtr> InstanceKeys::Get(const spiffe::Entry& entry) {
  const std::string name = absl::StrCat(entry.id, " ", entry.spiffe_id.string());
  MutexLock lock(mutex_);
  const absl::Duration now = clock_.Steady();
  if (const auto it = held_.find(name); it != held_.end()) {
    it->second.used = now;
    return it->second.key;
  }
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, crypto::PrivateKey::Generate(crypto::KeyType::kEcP256));
  std::string jkt = jose::Thumbprint(key.public_key());
  absl::erase_if(held_, [&](const auto& held) { return now - held.second.used > options_.keep; });
  if (held_.size() >= options_.limit) {
    auto oldest = held_.begin();
    for (auto it = held_.begin(); it != held_.end(); ++it) {
      if (it->second.used < oldest->second.used) oldest = it;
    }
    held_.erase(oldest);
  }
  auto made = std::make_shared<const InstanceKey>(InstanceKey{std::move(key), std::move(jkt)});
  held_[name] = {made, now};
  return made;
}

size_t InstanceKeys::size() const {
  MutexLock lock(mutex_);
  return held_.size();
}

}  // namespace signet::agent
