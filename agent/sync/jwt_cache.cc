#include "agent/sync/jwt_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace signet::agent {
namespace {

// Lengths stand before the parts: no audience can be made to look like two.
std::string KeyOf(absl::string_view entry_id, const std::vector<std::string>& sorted_audience) {
  std::string key = absl::StrCat(entry_id.size(), ":", entry_id);
  for (const std::string& audience : sorted_audience) absl::StrAppend(&key, audience.size(), ":", audience);
  return key;
}

}  // namespace

void JwtCache::Fetch(const EntryPtr& entry, std::vector<std::string> audience, Done done) {
  if (entry->jwt_svid_include_jti) {  // each is unique: nothing to keep
    metrics_.jwt_mints.Add();
    minter_(entry, audience, [done = std::move(done), hint = entry->hint](absl::StatusOr<MintedJwt> minted) {
      if (!minted.ok()) return done(minted.status());
      done(SvidCache::JwtResult{std::move(minted->id), std::move(minted->token), hint});
    });
    return;
  }
  std::vector<std::string> sorted = audience;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::string key = KeyOf(entry->id, sorted);

  std::unique_ptr<SvidCache::JwtResult> hit;
  bool mint = false;
  {
    MutexLock lock(mutex_);
    if (auto it = by_key_.find(key); it != by_key_.end()) {
      const Token& token = *it->second;
      if (!token.life.Expired(Now())) {
        hit = std::make_unique<SvidCache::JwtResult>(SvidCache::JwtResult{token.jwt.id, token.jwt.token, entry->hint});
        mint = token.life.Due(Now());
        tokens_.splice(tokens_.begin(), tokens_, it->second);
      }
    }
    if (hit == nullptr || mint) {
      std::shared_ptr<Pending>& pending = pending_[key];
      mint = pending == nullptr;  // else somebody has asked already
      if (mint) {
        pending = std::make_shared<Pending>();
        pending->entry_id = entry->id;
      }
      if (hit == nullptr) pending->waiting.emplace_back(std::move(done), entry->hint);
    }
  }
  if (hit != nullptr) {
    metrics_.jwt_cache_hits.Add();
    done(std::move(*hit));
  }
  if (mint) Mint(entry, std::move(audience), std::move(key));
}

void JwtCache::Mint(const EntryPtr& entry, std::vector<std::string> audience, std::string key) {
  metrics_.jwt_mints.Add();
  minter_(entry, audience, [this, key = std::move(key), entry](absl::StatusOr<MintedJwt> minted) {
    if (minted.ok() && minted->id != entry->spiffe_id) {
      minted = absl::InternalError(
          absl::StrCat("entry \"", entry->id, "\": the server signed a token for another SPIFFE ID"));
    }
    Finish(key, std::move(minted));
  });
}

void JwtCache::Finish(const std::string& key, absl::StatusOr<MintedJwt> minted) {
  std::shared_ptr<Pending> pending;
  {
    MutexLock lock(mutex_);
    auto found = pending_.find(key);
    pending = std::move(found->second);
    pending_.erase(found);
    if (pending->forgotten) {
      minted = absl::UnavailableError(
          absl::StrCat("entry \"", pending->entry_id, "\" changed while its token was being signed; ask again"));
    }
    if (minted.ok()) {
      if (auto old = by_key_.find(key); old != by_key_.end()) {
        tokens_.erase(old->second);
        by_key_.erase(old);
      }
      const SvidLife life = SvidLife::Received(minted->issued_at, minted->expires_at, 0, Now());
      tokens_.push_front(Token{key, pending->entry_id, *minted, life});
      by_key_[key] = tokens_.begin();
      while (tokens_.size() > limit_) {
        by_key_.erase(tokens_.back().key);
        tokens_.pop_back();
      }
    }
  }
  for (auto& [done, hint] : pending->waiting) {
    if (minted.ok()) {
      done(SvidCache::JwtResult{minted->id, minted->token, hint});
    } else {
      done(minted.status());
    }
  }
}

void JwtCache::Forget(absl::string_view entry_id) {
  MutexLock lock(mutex_);
  for (auto it = tokens_.begin(); it != tokens_.end();) {
    if (it->entry_id != entry_id) {
      ++it;
      continue;
    }
    by_key_.erase(it->key);
    it = tokens_.erase(it);
  }
  for (auto& [_, pending] : pending_) {
    if (pending->entry_id == entry_id) pending->forgotten = true;
  }
}

void JwtCache::ForgetKeys(const std::function<bool(const std::string&)>& is_gone) {
  MutexLock lock(mutex_);
  for (auto it = tokens_.begin(); it != tokens_.end();) {
    if (!is_gone(it->jwt.key_id)) {
      ++it;
      continue;
    }
    by_key_.erase(it->key);
    it = tokens_.erase(it);
  }
}

size_t JwtCache::size() const {
  MutexLock lock(mutex_);
  return tokens_.size();
}

}  // namespace signet::agent
