#include "agent/sync/pushed_tokens.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace signet::agent {
namespace {

// Heartbeats move the position of a state that is otherwise the same: it is held beside the state, and compared with a
// token's by who reads it (View::seq).
constexpr uint64_t kAnyPosition = std::numeric_limits<uint64_t>::max();

}  // namespace

PushedTokens::View PushedTokens::Get() const {
  MutexLock lock(mutex_);
  // While a machine is suspended its steady clock stands still, and the wall clock jumps when it wakes.
  return {state_, seq_, std::max(clock_.Steady() - beat_, clock_.Now() - beat_at_), issuer_, introspection_endpoint_};
}

void PushedTokens::Want() {
  {
    MutexLock lock(mutex_);
    if (std::exchange(wanted_, true)) return;
  }
  if (on_wanted_) on_wanted_();
}

bool PushedTokens::wanted() const {
  MutexLock lock(mutex_);
  return wanted_;
}

void PushedTokens::Opened() {
  staged_.reset();
  MutexLock lock(mutex_);
  caught_up_ = false;
}

void PushedTokens::Merge(oauth::TokenState& state, TokenUpdate& update) const {
  // What withdraws comes first: whoever reads in between would see less, never more.
  if (!update.revocations.empty()) {
    std::vector<oauth::Revocation> all = state.revocations.All();
    std::move(update.revocations.begin(), update.revocations.end(), std::back_inserter(all));
    state.revocations = oauth::RevocationSet(all);
  }
  for (const std::string& uri : update.removed_resources) state.resources.erase(uri);
  for (auto& [uri, resource] : update.resources) state.resources[uri] = std::move(resource);
  if (update.keys.has_value()) state.token_keys = *std::move(update.keys);
  if (!update.issuer.empty()) state.issuer = update.issuer;
  if (update.whole) state.offline_grace = update.offline_grace;
}

std::shared_ptr<const oauth::TokenState> PushedTokens::Current() const {
  MutexLock lock(mutex_);
  return caught_up_ ? state_ : nullptr;
}

void PushedTokens::Apply(TokenUpdate update) {
  const std::string issuer = update.issuer, endpoint = update.introspection_endpoint;
  const uint64_t seq = update.seq;
  bool drop = update.truncated, whole = false;
  std::shared_ptr<const oauth::TokenState> next;
  if (!drop) {
    if (update.whole) staged_.emplace();
    if (staged_.has_value()) {
      Merge(*staged_, update);
      if (update.complete) {
        staged_->seq = kAnyPosition;
        whole = true;
        next = std::make_shared<const oauth::TokenState>(*std::exchange(staged_, std::nullopt));
      } else if (staged_->resources.size() > limits_.resources || staged_->revocations.size() > limits_.revocations) {
        drop = true;
      }
    } else if (const auto held = Current(); held != nullptr) {
      oauth::TokenState changed = *held;
      Merge(changed, update);
      next = std::make_shared<const oauth::TokenState>(std::move(changed));
    }
    drop = drop || (next != nullptr &&
                    (next->resources.size() > limits_.resources || next->revocations.size() > limits_.revocations));
  }
  if (drop) staged_.reset();
  MutexLock lock(mutex_);
  if (!issuer.empty()) issuer_ = issuer;
  if (!endpoint.empty()) introspection_endpoint_ = endpoint;
  if (drop) {
    state_ = nullptr;
    caught_up_ = false;
    return;
  }
  if (next == nullptr) return;
  state_ = std::move(next);
  seq_ = whole ? seq : std::max(seq_, seq);
  if (whole) {
    caught_up_ = true;
    beat_ = clock_.Steady();
    beat_at_ = clock_.Now();
  }
}

void PushedTokens::Beat(uint64_t seq) {
  MutexLock lock(mutex_);
  if (!caught_up_) return;
  seq_ = std::max(seq_, seq);
  beat_ = clock_.Steady();
  beat_at_ = clock_.Now();
}

}  // namespace signet::agent
