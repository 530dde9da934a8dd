#include "agent/token/introspection.h"

#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/crypto/digest.h"
#include "common/jose/jws.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/oauth/dpop.h"

namespace signet::agent {
namespace {

constexpr char kInactive[] = R"({"active":false})";
constexpr absl::Duration kBucket = absl::Seconds(15);
constexpr size_t kMaxAnswer = 64 * 1024;

// The pushed tools of the resource, when they say that this call can do little harm.
bool IsHarmless(const oauth::TokenState& state, const std::string& audience, const std::string& tool) {
  const auto resource = state.resources.find(audience);
  if (resource == state.resources.end()) return false;
  const auto found = resource->second.tools.find(tool);
  return found != resource->second.tools.end() && found->second.read_only && found->second.risk == oauth::Risk::kLow;
}

// Of a token that the server has found good: its claims, unverified.
std::optional<oauth::AccessToken> ReadClaims(const std::string& token) {
  const auto jws = jose::CompactJws::Parse(token, oauth::kMaxJwtBytes);
  if (!jws.ok()) return std::nullopt;
  auto claims = oauth::ParseClaims(jws->payload);
  if (!claims.ok()) return std::nullopt;
  return *std::move(claims);
}

}  // namespace

// --- proofs and calls
// ---------------------------------------------------------------------------------------------------

void SeenProofs::Expire(absl::Time now) {
  const int64_t current = absl::ToUnixSeconds(now) / absl::ToInt64Seconds(kBucket);
  while (!buckets_.empty() && buckets_.begin()->first < current) {
    const Bucket& old = buckets_.begin()->second;
    for (const std::string& proof : old.proofs) seen_.erase(proof);
    for (const auto& [jkt, count] : old.by_key) {
      const auto it = per_key_.find(jkt);
      if (it != per_key_.end() && (it->second -= std::min(it->second, count)) == 0) per_key_.erase(it);
    }
    buckets_.erase(buckets_.begin());
  }
}

bool SeenProofs::FirstTime(absl::string_view jkt, absl::string_view jwt_id, absl::Time until, absl::Time now) {
  // Half of the hash is plenty: who makes two proofs collide has only refused himself.
  std::string proof = crypto::Sha256(absl::StrCat(jkt.size(), ":", jkt, jwt_id)).substr(0, 16);
  MutexLock lock(mutex_);
  Expire(now);
  if (seen_.contains(proof) || seen_.size() >= limit_) return false;
  size_t& of_key = per_key_[jkt];
  if (of_key >= limit_per_key_) return false;
  ++of_key;
  const int64_t bucket = absl::ToUnixSeconds(until) / absl::ToInt64Seconds(kBucket) + 1;
  Bucket& into = buckets_[bucket];
  ++into.by_key[jkt];
  into.proofs.push_back(proof);
  seen_.emplace(std::move(proof), bucket);
  return true;
}

size_t SeenProofs::size() const {
  MutexLock lock(mutex_);
  return seen_.size();
}

bool UsedCalls::Take(const oauth::AccessToken& token, absl::Time now) {
  if (!token.context.calls.has_value()) return true;
  MutexLock lock(mutex_);
  auto use = used_.find(token.jwt_id);
  if (use == used_.end()) {
    if (used_.size() >= limit_) absl::erase_if(used_, [&](const auto& u) { return u.second.until <= now; });
    if (used_.size() >= limit_) return false;
    use = used_.emplace(token.jwt_id, Use{0, token.expires_at}).first;
  }
  if (use->second.calls >= *token.context.calls) return false;
  ++use->second.calls;
  return true;
}

bool Sightings::ShouldTell(const std::string& what, absl::Duration now) {
  MutexLock lock(mutex_);
  if (now - since_ >= absl::Minutes(1)) {
    since_ = now;
    told_.clear();
  }
  return told_.size() < kPerMinute && told_.insert(what).second;
}

// --- judging
// ------------------------------------------------------------------------------------------------------------

Introspection::Introspection(const PushedTokens& pushed, Clock& clock, Metrics& metrics, Options options)
    : pushed_(pushed),
      clock_(clock),
      metrics_(metrics),
      options_(options),
      proofs_(options.proofs_limit, options.proofs_per_key),
      calls_(options.quota_limit) {}

Introspection::VerifiedPtr Introspection::Find(const std::string& hash, const oauth::TokenState& state) {
  MutexLock lock(mutex_);
  const auto found = verified_.find(hash);
  if (found == verified_.end()) return nullptr;
  VerifiedPtr verified = *found->second;
  const auto key = state.token_keys.find(verified->token.key_id);
  if (key == state.token_keys.end() || !(key->second == verified->key)) {  // it would not be found good now
    recent_.erase(found->second);
    verified_.erase(found);
    return nullptr;
  }
  recent_.splice(recent_.begin(), recent_, found->second);
  return verified;
}

void Introspection::Keep(VerifiedPtr verified) {
  MutexLock lock(mutex_);
  if (verified_.contains(verified->hash)) return;
  if (verified_.size() >= options_.verified_limit) {
    verified_.erase(recent_.back()->hash);
    recent_.pop_back();
  }
  recent_.push_front(std::move(verified));
  verified_.emplace(recent_.front()->hash, recent_.begin());
}

bool Introspection::Spend(const oauth::Presentation& presentation, const oauth::AccessToken& token,
                          absl::string_view dpop_jti) {
  const absl::Time now = clock_.Now();
  if (!presentation.dpop_proof.empty() && !token.binding.jkt.empty()) {
    // Whatever its iat was, it is no longer good once the window after the latest allowed one is over.
    if (dpop_jti.empty() || !proofs_.FirstTime(token.binding.jkt, dpop_jti, now + 2 * oauth::kDpopWindow, now)) {
      return false;
    }
  }
  return calls_.Take(token, now);
}

// A token with a key that is not its own; and of a plain bearer token each peer, for only the server sees them all.
bool Introspection::ShouldTell(const oauth::Presentation& presentation, const oauth::Judgement& judged) {
  const bool another_key = oauth::ShownWithAnotherKey(presentation, judged, clock_.Now());
  const bool bearers_peer = judged.active && judged.token.binding.bearer() && !presentation.peer_x5t_s256.empty();
  if (!another_key && !bearers_peer) return false;
  return sightings_.ShouldTell(
      absl::StrCat(judged.token.jwt_id, bearers_peer ? crypto::Sha256(presentation.peer_x5t_s256) : ""),
      clock_.Steady());
}

std::optional<std::string> Introspection::Judge(const oauth::Presentation& presentation, const PushedTokens::View& view,
                                                bool online) {
  const oauth::TokenState& state = *view.state;
  if (presentation.token.size() > oauth::kMaxJwtBytes) return kInactive;
  std::string hash = crypto::Sha256(presentation.token);
  VerifiedPtr verified = Find(hash, state);
  if (verified == nullptr) {
    const auto jws = jose::CompactJws::Parse(presentation.token, oauth::kMaxJwtBytes);
    if (!jws.ok()) return kInactive;
    // A key this agent was not told of yet: of a token that is newer than its state.
    if (!state.token_keys.contains(jws->header.key_id.value_or(""))) return std::nullopt;
  }
  const oauth::Judgement judged =
      oauth::Judge(presentation, state, clock_.Now(), verified == nullptr ? nullptr : &verified->token);
  const auto key = state.token_keys.find(judged.token.key_id);
  if (verified == nullptr && key != state.token_keys.end()) {
    // The answer holds the claims alone: it is the same for every presentation that is good.
    verified = std::make_shared<Verified>(
        Verified{std::move(hash), judged.token, key->second, judged.active ? oauth::IntrospectionJson(judged) : ""});
    if (judged.active) Keep(verified);
  }
  if (judged.token.context.rev > view.seq) return std::nullopt;
  if (online && ShouldTell(presentation, judged)) return std::nullopt;
  if (!judged.active) {
    SIGNET_LOG(debug, "a token is not active", {{"caller", presentation.caller}, {"why", judged.why_not}});
    return kInactive;
  }
  if (!Spend(presentation, judged.token, judged.dpop_jti)) {
    SIGNET_LOG(debug, "a proof was seen before, or the calls are used up", {{"caller", presentation.caller}});
    return kInactive;
  }
  return verified->answer;
}

std::optional<std::string> Introspection::Local(const oauth::Presentation& presentation) {
  const PushedTokens::View view = pushed_.Get();
  if (view.state == nullptr || view.heartbeat_age >= options_.max_heartbeat_age) return std::nullopt;
  std::optional<std::string> answer = Judge(presentation, view, /*online=*/true);
  if (answer.has_value()) metrics_.introspections_local.Add();
  return answer;
}

std::string Introspection::FromServer(const oauth::Presentation& presentation, std::string answer) {
  metrics_.introspections_asked.Add();
  const auto parsed = json::Parse(answer, kMaxAnswer);
  const boost::json::object* object = parsed.ok() ? parsed->if_object() : nullptr;
  const boost::json::value* active = object == nullptr ? nullptr : object->if_contains("active");
  if (active == nullptr || !active->is_bool() || !active->get_bool()) return kInactive;
  const std::optional<oauth::AccessToken> token = ReadClaims(presentation.token);
  if (!token.has_value()) return kInactive;
  std::string dpop_jti;
  if (!presentation.dpop_proof.empty()) {
    const auto proof = oauth::VerifyDpop(presentation.dpop_proof, presentation.dpop_method, presentation.dpop_uri,
                                         presentation.token, clock_.Now());
    if (!proof.ok()) return kInactive;
    dpop_jti = proof->jwt_id;
  }
  return Spend(presentation, *token, dpop_jti) ? std::move(answer) : kInactive;
}

std::string Introspection::Offline(const oauth::Presentation& presentation) {
  const PushedTokens::View view = pushed_.Get();
  if (view.state == nullptr || presentation.tool.empty() ||
      view.heartbeat_age > std::min(options_.offline_grace, view.state->offline_grace)) {
    return kInactive;
  }
  const std::optional<oauth::AccessToken> claims = ReadClaims(presentation.token);
  if (!claims.has_value() || !IsHarmless(*view.state, claims->audience, presentation.tool)) return kInactive;
  return Judge(presentation, view, /*online=*/false).value_or(kInactive);
}

}  // namespace signet::agent
