#include "server/sync/sync_conversation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/spiffe/entry_digest.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

// What an agent may send (agent_sync.proto): more is no agent of ours.
constexpr int kMaxWants = 500;
constexpr size_t kMaxVersionBytes = 128;
constexpr size_t kMaxBundles = 1000;
constexpr size_t kMaxWaitingAcks = 64;

absl::Status Broken(absl::string_view what) { return absl::InvalidArgumentError(absl::StrCat("AgentSync: ", what)); }

}  // namespace

absl::Status SyncConversation::OnMessage(const v1::AgentMessage& message, absl::Duration now) {
  switch (message.body_case()) {
    case v1::AgentMessage::kHello:
      return OnHello(message.hello());
    case v1::AgentMessage::kWant:
      return OnWant(message.want());
    case v1::AgentMessage::kAck:
      return OnAck(message.ack(), now);
    case v1::AgentMessage::kTokenInterest:
      if (phase_ == Phase::kHello) return Broken("the first message is not hello");
      tokens_.OnInterest(message.token_interest().wanted());
      return absl::OkStatus();
    default:
      return phase_ == Phase::kHello ? Broken("the first message is not hello") : absl::OkStatus();
  }
}

absl::Status SyncConversation::OnHello(const v1::Hello& hello) {
  if (phase_ != Phase::kHello) return Broken("hello comes once");
  if (hello.agent_version().size() > kMaxVersionBytes) return Broken("agent_version is too long");
  if (static_cast<size_t>(hello.bundle_revisions().size()) > kMaxBundles) return Broken("too many bundle_revisions");
  agent_version_ = hello.agent_version();
  held_bundles_.insert(hello.bundle_revisions().begin(), hello.bundle_revisions().end());

  waiting_.set_seq(index_.seq());  // before the look: what is seen is of this position or a later one
  waiting_.MarkBundles();
  std::vector<EntryPtr> entries = index_.AuthorizedEntries(agent_);
  std::vector<spiffe::EntryVersion> versions;
  versions.reserve(entries.size());
  for (const EntryPtr& entry : entries) {
    versions.push_back({entry->id, entry->revision, entry->created_at});
    if (!entry->federates_with.empty()) Federate(entry->id, &entry->federates_with);
  }
  const bool same_epoch = hello.epoch() == options_.epoch;
  if (same_epoch && hello.digest() == spiffe::EntryDigest(std::move(versions))) {
    phase_ = Phase::kSending;  // bundles at most, then complete
    return absl::OkStatus();
  }
  send_all_ = !same_epoch;
  listed_ = std::move(entries);
  wants_left_ = listed_.size();
  phase_ = Phase::kListing;
  return absl::OkStatus();
}

absl::Status SyncConversation::OnWant(const v1::Want& want) {
  if (phase_ != Phase::kWants) return Broken("want without a list");
  if (want.entry_ids_size() > kMaxWants) return Broken("more than 500 ids in a want");
  if (static_cast<size_t>(want.entry_ids_size()) > wants_left_) return Broken("more ids wanted than were listed");
  wants_left_ -= static_cast<size_t>(want.entry_ids_size());
  for (const std::string& id : want.entry_ids()) waiting_.AddEntry(id);
  if (!want.last()) return absl::OkStatus();
  if (send_all_) {
    const std::vector<EntryPtr> entries = index_.AuthorizedEntries(agent_);
    for (const EntryPtr& entry : entries) waiting_.AddEntry(entry->id);
  }
  phase_ = Phase::kSending;
  return absl::OkStatus();
}

absl::Status SyncConversation::OnAck(const v1::Ack& ack, absl::Duration now) {
  if (phase_ == Phase::kHello) return Broken("the first message is not hello");
  while (!on_their_way_.empty() && on_their_way_.front().first <= ack.seq()) {
    propagation_.push_back(now - on_their_way_.front().second);
    on_their_way_.pop_front();
  }
  return absl::OkStatus();
}

void SyncConversation::OnChange(const AgentChange& change, absl::Duration now) {
  waiting_.Merge(change);
  noted_at_ = std::min(noted_at_, now);
}

bool SyncConversation::Next(v1::ServerMessage& message) {
  message.Clear();
  switch (phase_) {
    case Phase::kHello:
    case Phase::kWants:
      return false;
    case Phase::kListing:
      NextRevisions(*message.mutable_revisions());
      return true;
    case Phase::kSending:
    case Phase::kLive:
      break;
  }
  // First what withdraws: a revocation waits for no entry. Before `complete` no token is judged by the agent anyway.
  if (phase_ == Phase::kLive && tokens_.Next(options_.max_message_bytes, message)) return true;
  if (!waiting_.empty()) {
    v1::Delta& delta = *message.mutable_delta();
    NextDelta(delta);
    const bool nothing = delta.upserts().empty() && delta.removed_ids().empty() && delta.bundles().empty() &&
                         delta.removed_bundles().empty();
    if (!nothing) {
      if (waiting_.empty() && phase_ == Phase::kLive) {
        message.set_seq(waiting_.seq());
        if (noted_at_ != absl::InfiniteDuration() && on_their_way_.size() < kMaxWaitingAcks) {
          on_their_way_.emplace_back(waiting_.seq(), noted_at_);
        }
        noted_at_ = absl::InfiniteDuration();
      }
      return true;
    }
  }
  if (phase_ == Phase::kLive) return false;
  message.set_seq(waiting_.seq());
  message.mutable_complete()->set_epoch(options_.epoch);
  phase_ = Phase::kLive;
  noted_at_ = absl::InfiniteDuration();
  return true;
}

void SyncConversation::NextRevisions(v1::Revisions& revisions) {
  size_t bytes = 0;
  for (; next_listed_ < listed_.size() && bytes < options_.max_message_bytes; ++next_listed_) {
    const spiffe::Entry& entry = *listed_[next_listed_];
    v1::EntryRevision& revision = *revisions.add_entries();
    revision.set_id(entry.id);
    revision.set_revision(entry.revision);
    revision.set_created_at(absl::ToUnixSeconds(entry.created_at));
    bytes += entry.id.size() + 24;  // tags, lengths and two numbers
  }
  if (next_listed_ < listed_.size()) return;
  revisions.set_last(true);
  listed_ = {};
  phase_ = Phase::kWants;
}

void SyncConversation::NextDelta(v1::Delta& delta) {
  size_t bytes = 0;
  bool federation_changed = false;
  waiting_.Take([&](const std::string& id) { return index_.FindAuthorized(agent_, id); },
                [&](const std::string& id) {
                  delta.add_removed_ids(id);
                  if (federating_.contains(id)) federation_changed = true;
                  Federate(id, nullptr);
                  bytes += id.size() + 4;
                  return bytes < options_.max_message_bytes;
                },
                [&](const spiffe::Entry& entry) {
                  spiffe::wire::Entry& upsert = *delta.add_upserts();
                  spiffe::ToWire(entry, &upsert);
                  if (!entry.federates_with.empty() || federating_.contains(entry.id)) federation_changed = true;
                  Federate(entry.id, entry.federates_with.empty() ? nullptr : &entry.federates_with);
                  bytes += upsert.ByteSizeLong() + 8;
                  return bytes < options_.max_message_bytes;
                });
  // In the message of the entries that need them, so that no entry is without its bundles.
  if (waiting_.TakeBundles() || federation_changed) AddBundles(delta);
}

// Brings the agent's bundles to: its own trust domain's, and those its entries federate with.
void SyncConversation::AddBundles(v1::Delta& delta) {
  std::set<std::string> needed = {options_.trust_domain.name()};
  for (const auto& [id, trust_domains] : federating_) needed.insert(trust_domains.begin(), trust_domains.end());
  for (const std::string& name : needed) {
    const std::shared_ptr<const v1::BundleUpdate> update = bundles_.Get(name);
    auto held = held_bundles_.find(name);
    if (update == nullptr) continue;
    if (held != held_bundles_.end() && held->second == update->revision()) continue;
    *delta.add_bundles() = *update;
    held_bundles_[name] = update->revision();
  }
  for (auto held = held_bundles_.begin(); held != held_bundles_.end();) {
    const bool own = held->first == options_.trust_domain.name();  // an agent is never left without it
    if (own || (needed.contains(held->first) && bundles_.Get(held->first) != nullptr)) {
      ++held;
      continue;
    }
    delta.add_removed_bundles(held->first);
    held = held_bundles_.erase(held);
  }
}

void SyncConversation::Federate(const std::string& entry_id, const std::vector<std::string>* trust_domains) {
  if (trust_domains == nullptr) {
    federating_.erase(entry_id);
  } else {
    federating_[entry_id] = *trust_domains;
  }
}

}  // namespace signet::server
