#include "agent/sync/entry_sync.h"

#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "common/failpoint/failpoint.h"
#include "common/log/log.h"
#include "common/spiffe/entry_digest.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr absl::Duration kPollEvery = absl::Seconds(5);     // SPIRE's sync_interval
constexpr absl::Duration kReopenSpread = absl::Seconds(5);  // so that agents do not all shake hands at once
constexpr absl::Duration kNextAddress = absl::Milliseconds(50);

bool SameVersion(const spiffe::Entry& entry, const EntryRevision& revision) {
  return entry.revision == revision.revision && entry.created_at == revision.created_at;
}

// An authority of `before` that `now` no longer has.
bool LostAuthority(const spiffe::Bundle& before, const spiffe::Bundle& now) {
  const auto& kept = now.x509_authorities;
  return std::any_of(before.x509_authorities.begin(), before.x509_authorities.end(), [&](const auto& old) {
    return std::none_of(kept.begin(), kept.end(), [&](const auto& a) { return a.certificate == old.certificate; });
  });
}

absl::Duration Spread(absl::Duration up_to) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return up_to * std::uniform_real_distribution<double>(0, 1)(random);
}

}  // namespace

absl::Duration EntrySync::Run() {
  if (deps_.identity.Expired() || deps_.standing.must_attest()) {
    stream_.reset();
    return absl::InfiniteDuration();  // the mint worker wakes us
  }
  const absl::Duration now = deps_.clock.Steady();
  if (reopen_.exchange(false) || now >= reopen_at_) {
    reopen_at_ = absl::InfiniteDuration();
    rest_until_ = absl::ZeroDuration();
    deps_.client.Reconnect();
    stream_.reset();
  }
  if (now < rest_until_) return rest_until_ - now;  // woken early
  if (polling_) return RunPoll();
  if (stream_ == nullptr) {
    listed_.reset();
    stream_ = deps_.client.OpenSync(Hello(), deps_.wake);
    told_interest_ = false;
    if (deps_.tokens != nullptr) {
      deps_.tokens->Opened();
      if (!deps_.tokens->wanted()) stream_->TokenInterest(false);
    }
  }
  TellInterest();
  return ReadStream();
}

SyncHello EntrySync::Hello() const {
  SyncHello hello;
  hello.epoch = deps_.position.epoch();
  hello.bundle_revisions = deps_.position.revisions();
  if (hello.epoch.empty()) return hello;
  const std::vector<EntryPtr> entries = deps_.cache.AllEntries();
  std::vector<spiffe::EntryVersion> versions;
  for (const EntryPtr& entry : entries) versions.push_back({entry->id, entry->revision, entry->created_at});
  hello.digest = spiffe::EntryDigest(std::move(versions));
  return hello;
}

// --- the stream
// --------------------------------------------------------------------------------------------------------

absl::Duration EntrySync::Rest(absl::Duration time) {
  rest_until_ = deps_.clock.Steady() + time;
  return time;
}

absl::Duration EntrySync::ReadStream() {
  uint64_t seq = 0;
  bool any = false;
  std::string audit_head;
  while (std::optional<SyncMessage> message = stream_->Next()) {
    // Positions of the token state are its own: they say nothing about entries and are not acknowledged.
    if (message->kind == SyncMessage::Kind::kTokens) {
      if (deps_.tokens != nullptr) deps_.tokens->Apply(std::move(message->tokens));
      continue;
    }
    if (message->kind == SyncMessage::Kind::kHeartbeat) {
      if (deps_.tokens != nullptr) deps_.tokens->Beat(message->seq);
      continue;
    }
    if (message->kind == SyncMessage::Kind::kAuditHead) {
      audit_head = std::move(message->audit_head);
      continue;
    }
    any = true;
    seq = std::max(seq, message->seq);
    switch (message->kind) {
      case SyncMessage::Kind::kRevisions:
        OnRevisions(*message);
        break;
      case SyncMessage::Kind::kDelta:
        OnDelta(*message);
        break;
      case SyncMessage::Kind::kComplete:
        OnComplete(*message);
        break;
      case SyncMessage::Kind::kNotice:
        return OnNotice(*message);
      default:
        break;
    }
  }
  if (any) {
    deps_.metrics.last_sync_seconds.Set(static_cast<double>(absl::ToUnixSeconds(deps_.clock.Now())));
    SIGNET_FAILPOINT("sync.before_ack");
    if (seq > 0) stream_->Ack(seq, deps_.cache.SvidsByAuthority());
  }
  if (!audit_head.empty() && deps_.on_audit_head) deps_.on_audit_head(audit_head);
  if (const std::optional<absl::Status> end = stream_->end()) return OnEnd(*end);
  return reopen_at_ - deps_.clock.Steady();
}

void EntrySync::TellInterest() {
  if (told_interest_ || deps_.tokens == nullptr || !deps_.tokens->wanted()) return;
  told_interest_ = true;
  stream_->TokenInterest(true);
}

void EntrySync::OnRevisions(SyncMessage& message) {
  if (!listed_.has_value()) listed_.emplace();
  for (EntryRevision& revision : message.revisions) {
    const std::string id = revision.id;
    (*listed_)[id] = std::move(revision);
  }
  if (!message.last_revisions) return;
  std::vector<std::string> want;
  for (const auto& [id, revision] : *listed_) {
    const EntryPtr held = deps_.cache.FindEntry(id);
    if (held == nullptr || !SameVersion(*held, revision)) want.push_back(id);
  }
  stream_->Want(std::move(want));
}

void EntrySync::OnDelta(SyncMessage& message) {
  if (listed_.has_value()) {
    for (const spiffe::Entry& entry : message.upserts) {
      (*listed_)[entry.id] = {entry.id, entry.revision, entry.created_at};
    }
    for (const std::string& id : message.removed_ids) listed_->erase(id);
  }
  MemorySvidCache::Change change{
      std::move(message.upserts), std::move(message.removed_ids), {}, std::move(message.removed_bundles)};
  BundleRevisions revisions;
  for (auto& [bundle, revision] : message.bundles) {
    revisions[bundle.trust_domain.name()] = revision;
    change.bundles.push_back(std::move(bundle));
  }
  Apply(std::move(change), revisions);
}

void EntrySync::OnComplete(const SyncMessage& message) {
  if (listed_.has_value()) {
    MemorySvidCache::Change change;
    for (const EntryPtr& entry : deps_.cache.AllEntries()) {
      if (!listed_->contains(entry->id)) change.removed_ids.push_back(entry->id);
    }
    listed_.reset();
    if (!change.removed_ids.empty()) Apply(std::move(change), {});
  }
  deps_.position.SetEpoch(message.epoch);
  Synced();
}

absl::Duration EntrySync::OnNotice(const SyncMessage& message) {
  stream_.reset();
  deps_.standing.Unsynced();
  switch (message.notice) {
    case SyncMessage::Notice::kBanned:
      deps_.standing.Refused(RefusalStatus(Refusal::kBanned, "banned"));
      return absl::InfiniteDuration();
    case SyncMessage::Notice::kEvicted:
      deps_.standing.Refused(RefusalStatus(Refusal::kNotAttested, "evicted"));
      return absl::InfiniteDuration();  // the mint worker wakes us
    default:
      deps_.client.MoveOn();
      return Rest(message.delay);  // jittered by the server
  }
}

absl::Duration EntrySync::OnEnd(const absl::Status& why) {
  stream_.reset();
  deps_.standing.Unsynced();
  if (reopen_) return absl::ZeroDuration();  // its SVID was replaced
  if (deps_.standing.dead() || absl::IsCancelled(why)) return Rest(backoff_.Next());
  if (absl::IsUnimplemented(why)) {
    SIGNET_LOG(info, "the server does not push; asking it instead", {{"every", absl::FormatDuration(kPollEvery)}});
    polling_ = true;
    return absl::ZeroDuration();
  }
  deps_.standing.Lost(why, "sync");
  deps_.standing.Refused(why);
  return Rest(deps_.client.MoveOn() ? backoff_.Next() : kNextAddress);
}

// --- without a stream
// --------------------------------------------------------------------------------------------------

absl::Duration EntrySync::RunPoll() {
  if (const absl::Status status = Poll(); !status.ok()) {
    polling_ = false;  // what answers next may be able to push
    deps_.standing.Unsynced();
    deps_.standing.Lost(status, "poll");
    deps_.standing.Refused(status);
    deps_.client.MoveOn();
    return Rest(backoff_.Next());
  }
  Synced();
  return Rest(kPollEvery);
}

absl::Status EntrySync::Poll() {
  const std::vector<EntryPtr> held = deps_.cache.AllEntries();
  SIGNET_ASSIGN_OR_RETURN(std::vector<spiffe::Entry> entries, deps_.client.AuthorizedEntries(held));
  MemorySvidCache::Change change;
  std::set<std::string> ids, federated;
  for (spiffe::Entry& entry : entries) {
    ids.insert(entry.id);
    federated.insert(entry.federates_with.begin(), entry.federates_with.end());
    const EntryPtr known = deps_.cache.FindEntry(entry.id);
    if (known == nullptr || *known != entry) change.upserts.push_back(std::move(entry));
  }
  for (const EntryPtr& entry : held) {
    if (!ids.contains(entry->id)) change.removed_ids.push_back(entry->id);
  }
  SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle own, deps_.client.GetBundle());
  change.bundles.push_back(std::move(own));
  federated.erase(deps_.trust_domain.name());
  for (const std::string& name : federated) {
    absl::StatusOr<spiffe::Bundle> bundle = deps_.client.GetFederatedBundle(name);
    if (bundle.ok()) {
      change.bundles.push_back(*std::move(bundle));
    } else if (absl::IsNotFound(bundle.status())) {
      change.removed_bundles.push_back(name);
    } else {
      return bundle.status();
    }
  }
  for (const BundlePtr& bundle : deps_.cache.AllBundles()) {
    const std::string& name = bundle->trust_domain.name();
    if (name != deps_.trust_domain.name() && !federated.contains(name)) change.removed_bundles.push_back(name);
  }
  Apply(std::move(change), {});
  return absl::OkStatus();
}

// --- either way
// --------------------------------------------------------------------------------------------------------

void EntrySync::Synced() {
  backoff_.Reset();
  if (deps_.cache.OwnBundle() == nullptr) return;  // nothing can be verified yet
  deps_.cache.SetReady(deps_.clock.Now());
  deps_.standing.Synced();
  deps_.on_synced();
  if (std::exchange(told_status_, true)) return;
  const absl::Status status = deps_.client.PostStatus(deps_.cache.OwnBundle()->sequence_number);
  if (!status.ok()) SIGNET_LOG(debug, "the agent's status could not be told", {{"error", status.message()}});
}

// What it withdraws, and bundles. Entries that are new stand in the record of their first SVID.
RecordedChange EntrySync::ToRecord(const MemorySvidCache::Change& change, const BundleRevisions& revisions) const {
  RecordedChange record;
  for (const std::string& id : change.removed_ids) {
    if (deps_.cache.FindEntry(id) != nullptr) record.removed_ids.push_back(id);
  }
  for (const spiffe::Entry& entry : change.upserts) {
    const EntryPtr held = deps_.cache.FindEntry(entry.id);
    if (held != nullptr && *held != entry) record.entries.push_back(entry);
  }
  for (const spiffe::Bundle& bundle : change.bundles) {
    const std::string& name = bundle.trust_domain.name();
    const BundlePtr held = deps_.cache.FindBundle(name);
    if (held != nullptr && *held == bundle) continue;
    const auto revision = revisions.find(name);
    record.bundles.emplace_back(bundle, revision == revisions.end() ? "" : revision->second);
  }
  for (const std::string& name : change.removed_bundles) {
    if (deps_.cache.FindBundle(name) != nullptr) record.removed_bundles.push_back(name);
  }
  return record;
}

void EntrySync::Apply(MemorySvidCache::Change change, const BundleRevisions& revisions) {
  const RecordedChange record = deps_.sealed == nullptr ? RecordedChange{} : ToRecord(change, revisions);
  const BundlePtr before = deps_.cache.OwnBundle();
  const std::vector<std::string> removed_bundles = change.removed_bundles;
  const bool gives = !record.entries.empty();
  deps_.cache.Apply(std::move(change), gives ? [&] { Record(record); } : std::function<void()>());
  // After the bundles themselves: a snapshot in between is told again, not left behind.
  for (const std::string& name : removed_bundles) deps_.position.Forget(name);
  for (const auto& [name, revision] : revisions) deps_.position.SetRevision(name, revision);
  if (!gives) Record(record);
  if (const BundlePtr now = deps_.cache.OwnBundle(); now != before) OnOwnBundle(before, now);
  deps_.on_changed();
}

void EntrySync::Record(const RecordedChange& record) {
  if (record.empty()) return;
  if (const absl::Status status = deps_.sealed->Withdraw(record); !status.ok()) {
    deps_.health.SetDegraded("storage", status.message());
    SIGNET_LOG(error, "a withdrawal is not durable", {{"error", status.message()}});
  } else {
    deps_.health.SetReady("storage");
  }
}

void EntrySync::OnOwnBundle(const BundlePtr& before, const BundlePtr& now) {
  if (const absl::Status status = deps_.identity.SetBundle(*now); !status.ok()) {
    deps_.health.SetDegraded("storage", status.message());
    SIGNET_LOG(error, "the trust bundle cannot be stored", {{"error", status.message()}});
  }
  // A connection made under an authority that has gone must not live on (N8).
  if (before != nullptr && LostAuthority(*before, *now)) reopen_at_ = deps_.clock.Steady() + Spread(kReopenSpread);
}

}  // namespace signet::agent
