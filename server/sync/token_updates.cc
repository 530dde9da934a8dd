#include "server/sync/token_updates.h"

#include "absl/time/time.h"

namespace signet::server {
namespace {

// A server forgets revocations that can kill nothing any more; agents only do with the next whole state. This many more
// than there are is reason for one.
constexpr size_t kForgottenTold = 4096;

void ToWire(const oauth::Revocation& revocation, v1::TokenRevocation& wire) {
  wire.set_kind(static_cast<uint32_t>(revocation.kind));
  wire.set_entity(revocation.entity);
  wire.set_seq(revocation.seq);
  wire.set_not_before(absl::ToUnixSeconds(revocation.not_before));
  wire.set_reinstated(revocation.reinstated);
}

void ToWire(const ResourceRecord& resource, v1::TokenResource& wire) {
  wire.set_uri(resource.uri);
  for (const std::string& server : resource.servers) wire.add_servers(server);
  wire.set_minimum_binding(static_cast<uint32_t>(resource.minimum_binding));
  for (const ToolRecord& tool : resource.tools) {
    if (tool.tombstone) continue;
    v1::TokenResource::Tool& told = *wire.add_tools();
    told.set_name(tool.name);
    told.set_hash(tool.hash);
    told.set_risk(static_cast<uint32_t>(tool.risk));
    told.set_read_only(tool.read_only);
  }
}

void ToWire(const oauth::Keys& keys, v1::TokenState& state) {
  for (const auto& [kid, key] : keys) {
    v1::TokenKey& wire = *state.add_token_keys();
    wire.set_kid(kid);
    wire.set_public_key(key.spki_der());
  }
}

}  // namespace

// --- for all streams
// ---------------------------------------------------------------------------------------------------

struct TokenUpdates::Subscriber {
  std::atomic<bool> interested = false;
  Mutex mutex;  // held during a call
  bool alive ABSL_GUARDED_BY(mutex) = true;
  OnNote call ABSL_GUARDED_BY(mutex);
};

class TokenUpdates::Handle final : public Subscription {
 public:
  Handle(TokenUpdates& updates, uint64_t id, std::shared_ptr<Subscriber> subscriber)
      : updates_(updates), id_(id), subscriber_(std::move(subscriber)) {}
  ~Handle() override {
    SetInterested(false);
    {
      MutexLock lock(updates_.mutex_);
      updates_.subscribers_.erase(id_);
    }
    MutexLock lock(subscriber_->mutex);
    subscriber_->alive = false;
  }
  void SetInterested(bool interested) override {
    if (subscriber_->interested.exchange(interested) == interested) return;
    {
      MutexLock lock(updates_.mutex_);
      interested ? ++updates_.interested_ : --updates_.interested_;
    }
    if (interested) updates_.beater_->Wake();
  }

 private:
  TokenUpdates& updates_;
  const uint64_t id_;
  const std::shared_ptr<Subscriber> subscriber_;
};

TokenUpdates::TokenUpdates(Options options, TokenRegistry& registry, TokenSigner& signer, Clock& clock)
    : options_(std::move(options)),
      registry_(registry),
      signer_(signer),
      position_(registry.seq()),
      told_keys_(signer.token_keys()) {
  beater_ = std::make_unique<Worker>("token-beat", clock, [this] { return Beat(); });
  changes_ = registry.Subscribe([this](const TokenRegistry::ChangeNote& change) {
    Tell({.change = &change}, false);
    position_ = change.seq;  // after everyone was told
  });
}

TokenUpdates::~TokenUpdates() {
  changes_.reset();
  beater_->Stop();
}

void TokenUpdates::SetHead(const std::string& head) {
  {
    MutexLock lock(mutex_);
    head_ = std::make_shared<const std::string>(head);
  }
  Tell({.head = true}, true);
}

std::shared_ptr<const std::string> TokenUpdates::head() const {
  MutexLock lock(mutex_);
  return head_;
}

std::shared_ptr<const std::vector<oauth::Revocation>> TokenUpdates::Revocations() const {
  std::shared_ptr<const oauth::RevocationSet> now = registry_.revocations();
  MutexLock lock(mutex_);
  std::shared_ptr<const std::vector<oauth::Revocation>> listed = listed_.lock();
  if (listed == nullptr || listed_of_ != now) {
    listed = std::make_shared<const std::vector<oauth::Revocation>>(now->All());
    listed_ = listed;
    listed_of_ = std::move(now);
  }
  return listed;
}

std::unique_ptr<TokenUpdates::Subscription> TokenUpdates::Subscribe(OnNote on_note) {
  auto subscriber = std::make_shared<Subscriber>();
  {
    MutexLock lock(subscriber->mutex);
    subscriber->call = std::move(on_note);
  }
  MutexLock lock(mutex_);
  subscribers_.emplace(++last_id_, subscriber);
  return std::make_unique<Handle>(*this, last_id_, std::move(subscriber));
}

void TokenUpdates::Tell(const Note& note, bool all) {
  std::vector<std::shared_ptr<Subscriber>> told;
  {
    MutexLock lock(mutex_);
    for (const auto& [_, subscriber] : subscribers_) {
      if (all || subscriber->interested) told.push_back(subscriber);
    }
  }
  for (const auto& subscriber : told) {
    MutexLock lock(subscriber->mutex);
    if (subscriber->alive) subscriber->call(note);
  }
}

absl::Duration TokenUpdates::Beat() {
  {
    MutexLock lock(mutex_);
    if (interested_ == 0) return absl::InfiniteDuration();
  }
  std::shared_ptr<const oauth::Keys> keys = signer_.token_keys();
  const bool changed = keys != told_keys_;
  told_keys_ = std::move(keys);
  Tell({.keys = changed, .beat = true}, false);
  return options_.beat_every;
}

// --- for one stream
// -------------------------------------------------------------------------------------------------------

void WaitingTokens::OnInterest(bool wanted) {
  if (updates_ == nullptr) return;
  wanted_ = wanted;
  where_ = !wanted;
  whole_ = wanted;
  sending_.reset();
  resources_.clear();
  revocations_.clear();
  keys_ = beat_ = truncated_ = false;
}

void WaitingTokens::OnNote(const TokenUpdates::Note& note) {
  if (note.head) head_ = true;
  if (!wanted_) return;
  keys_ = keys_ || (note.keys && !truncated_);
  beat_ = beat_ || note.beat;
  if (note.change == nullptr) return;
  if (truncated_) {
    whole_ = whole_ || !OverCap();
    return;
  }
  if (whole_) return;  // it will be of a later moment
  resources_.insert(note.change->resources.begin(), note.change->resources.end());
  for (const oauth::Revocation& revocation : note.change->revocations) {
    revocations_[{revocation.kind, revocation.entity}] = revocation;
  }
}

bool WaitingTokens::OverCap() const {
  return updates_->registry().revocations()->size() > updates_->options().max_revocations ||
         updates_->registry().Resources().size() > updates_->options().max_resources;
}

bool WaitingTokens::Next(size_t max_bytes, v1::ServerMessage& message) {
  if (updates_ == nullptr) return false;
  if (std::exchange(where_, false)) {
    message.mutable_token_state()->set_issuer(updates_->options().issuer);
    message.mutable_token_state()->set_introspection_endpoint(updates_->options().introspection_endpoint);
    return true;
  }
  if (std::exchange(whole_, false)) StartWhole();
  if (sending_ != nullptr) return NextOfWhole(max_bytes, message);
  if (!resources_.empty() || !revocations_.empty() || keys_) return NextChanges(max_bytes, message);
  if (head_) {
    head_ = false;
    if (const auto head = updates_->head(); head != nullptr) {
      message.mutable_audit_head()->set_head(*head);
      return true;
    }
  }
  if (!std::exchange(beat_, false) || truncated_) return false;
  message.set_seq(updates_->position());
  message.mutable_heartbeat();
  return true;
}

void WaitingTokens::StartWhole() {
  sending_ = std::make_unique<Whole>();
  sending_->base = updates_->position();  // before the look: what is seen is of this position or a later one
  sending_->resources = updates_->registry().Resources();
  sending_->revocations = updates_->Revocations();
  resources_.clear();
  revocations_.clear();
  keys_ = false;
  told_revocations_ = sending_->revocations->size();
}

bool WaitingTokens::NextOfWhole(size_t max_bytes, v1::ServerMessage& message) {
  v1::TokenState& state = *message.mutable_token_state();
  const TokenUpdates::Options& options = updates_->options();
  truncated_ =
      sending_->resources.size() > options.max_resources || sending_->revocations->size() > options.max_revocations;
  if (!sending_->begun && !truncated_) {
    sending_->begun = true;
    state.set_whole(true);
    state.set_issuer(options.issuer);
    state.set_introspection_endpoint(options.introspection_endpoint);
    state.set_offline_grace_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(options.offline_grace)));
    ToWire(*updates_->keys(), state);
  }
  size_t bytes = 0;
  const std::vector<oauth::Revocation>& revocations = *sending_->revocations;
  size_t& next = sending_->next_revocation;
  for (; !truncated_ && next < revocations.size() && bytes < max_bytes; ++next) {
    v1::TokenRevocation& wire = *state.add_revocations();
    ToWire(revocations[next], wire);
    bytes += wire.ByteSizeLong() + 8;
  }
  while (!truncated_ && !sending_->resources.empty() && bytes < max_bytes) {
    const auto resource = std::move(sending_->resources.back());
    sending_->resources.pop_back();
    if (resource->tombstone) continue;
    v1::TokenResource& wire = *state.add_resources();
    ToWire(*resource, wire);
    bytes += wire.ByteSizeLong() + 8;
    truncated_ = wire.ByteSizeLong() > max_bytes;  // one alone that no message takes
  }
  if (truncated_) {
    state.Clear();
    state.set_truncated(true);
    state.set_issuer(options.issuer);
    state.set_introspection_endpoint(options.introspection_endpoint);
    sending_.reset();
    resources_.clear();
    revocations_.clear();
    return true;
  }
  if (next == revocations.size() && sending_->resources.empty()) {
    state.set_complete(true);
    message.set_seq(sending_->base);
    sending_.reset();
    beat_ = true;  // the position may have moved on meanwhile
  }
  return true;
}

bool WaitingTokens::NextChanges(size_t max_bytes, v1::ServerMessage& message) {
  if (told_revocations_ + revocations_.size() > 2 * updates_->registry().revocations()->size() + kForgottenTold ||
      told_revocations_ + revocations_.size() > updates_->options().max_revocations) {
    StartWhole();
    return NextOfWhole(max_bytes, message);
  }
  const uint64_t position = updates_->position();  // before the look
  v1::TokenState& state = *message.mutable_token_state();
  size_t bytes = 0;
  while (!revocations_.empty() && bytes < max_bytes) {
    v1::TokenRevocation& wire = *state.add_revocations();
    ToWire(revocations_.begin()->second, wire);
    bytes += wire.ByteSizeLong() + 8;
    revocations_.erase(revocations_.begin());
    ++told_revocations_;
  }
  std::vector<std::shared_ptr<const ResourceRecord>> present;
  for (auto it = resources_.begin(); it != resources_.end() && bytes < max_bytes;) {
    auto resource = updates_->registry().FindResource(*it);
    if (resource != nullptr && !resource->tombstone) {
      present.push_back(std::move(resource));
      ++it;
      continue;
    }
    state.add_removed_resources(*it);
    bytes += it->size() + 8;
    it = resources_.erase(it);
  }
  for (const auto& resource : present) {
    if (bytes >= max_bytes) break;
    v1::TokenResource& wire = *state.add_resources();
    ToWire(*resource, wire);
    bytes += wire.ByteSizeLong() + 8;
    resources_.erase(resource->uri);
    if (wire.ByteSizeLong() > max_bytes) {  // too large to be told: as over the cap
      StartWhole();
      state.Clear();
      return NextOfWhole(max_bytes, message);
    }
  }
  if (std::exchange(keys_, false)) ToWire(*updates_->keys(), state);
  if (revocations_.empty() && resources_.empty()) {
    state.set_complete(true);
    message.set_seq(position);
  }
  return true;
}

}  // namespace signet::server
