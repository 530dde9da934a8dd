#include "agent/sync/memory_svid_cache.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace signet::agent {
namespace {

constexpr size_t kManyChanges = 64;  // from here on all groups are matched anew

bool Older(const spiffe::Entry& a, const spiffe::Entry& b) {
  return a.created_at != b.created_at ? a.created_at < b.created_at : a.id < b.id;
}

size_t BytesOf(const HeldSvid& held) {
  size_t bytes = 600;  // key, bookkeeping
  for (const crypto::Certificate& certificate : held.svid->chain) bytes += certificate.der().size();
  return bytes;
}

}  // namespace

MemorySvidCache::MemorySvidCache(const spiffe::TrustDomain& trust_domain, Clock& clock, Metrics& metrics,
                                 Options options)
    : trust_domain_(trust_domain),
      clock_(clock),
      metrics_(metrics),
      options_(options),
      jwts_(clock, metrics, options.jwt_limit),
      notifier_([this] { RunNotifier(); }) {
  pthread_setname_np(notifier_.native_handle(), "svid-notifier");
}

MemorySvidCache::~MemorySvidCache() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  notifier_.join();
}

// --- readers
// -----------------------------------------------------------------------------------------------------------

std::vector<MemorySvidCache::Slot*> MemorySvidCache::Match(const spiffe::Selectors& selectors) const {
  std::vector<Slot*> found;
  for (const spiffe::Selector& selector : selectors) {
    const auto bucket = index_.find(selector);
    if (bucket == index_.end()) continue;
    for (Slot* slot : bucket->second) {
      // What goes to a secret store is not served to workloads.
      if (!slot->entry->store_svid && spiffe::IsSubset(slot->entry->selectors, selectors)) found.push_back(slot);
    }
  }
  std::sort(found.begin(), found.end(), [](const Slot* a, const Slot* b) { return Older(*a->entry, *b->entry); });
  absl::flat_hash_set<absl::string_view> hints;
  std::erase_if(found, [&](const Slot* slot) {  // WL-13: the oldest keeps the hint
    return !slot->entry->hint.empty() && !hints.insert(slot->entry->hint).second;
  });
  return found;
}

std::vector<EntryPtr> MemorySvidCache::MatchingEntries(const spiffe::Selectors& selectors) const {
  std::lock_guard lock(mutex_);
  std::vector<EntryPtr> entries;
  for (const Slot* slot : Match(selectors)) entries.push_back(slot->entry);
  return entries;
}

BundlePtr MemorySvidCache::OwnBundle() const { return FindBundle(trust_domain_.name()); }

BundlePtr MemorySvidCache::FindBundle(const std::string& trust_domain) const {
  std::lock_guard lock(mutex_);
  const auto it = bundles_.find(trust_domain);
  return it == bundles_.end() ? nullptr : it->second;
}

void MemorySvidCache::FetchJwt(EntryPtr entry, std::vector<std::string> audience,
                               std::function<void(absl::StatusOr<JwtResult>)> done) {
  const EntryPtr current = FindEntry(entry->id);
  if (current == nullptr || current->spiffe_id != entry->spiffe_id) {
    return done(absl::PermissionDeniedError(absl::StrCat("entry \"", entry->id, "\" is no longer there")));
  }
  jwts_.Fetch(current, std::move(audience), std::move(done));
}

SvidCache::Counts MemorySvidCache::counts() const {
  std::lock_guard lock(mutex_);
  Counts counts;
  counts.entries = slots_.size();
  counts.x509_svids = held_count_;
  counts.jwt_svids = jwts_.size();
  counts.subscriptions = members_.size();
  counts.last_sync = last_sync_;
  return counts;
}

void MemorySvidCache::Changed() {
  ++version_;
  metrics_.entries.Set(static_cast<double>(slots_.size()));
  metrics_.x509_svids.Set(static_cast<double>(held_count_));
  wake_.notify_one();
}

// --- writers
// -----------------------------------------------------------------------------------------------------------

void MemorySvidCache::Unindex(Slot& slot) {
  const auto bucket = index_.find(slot.indexed_under);
  if (bucket == index_.end()) return;
  bucket->second.erase(&slot);
  if (bucket->second.empty()) index_.erase(bucket);
}

void MemorySvidCache::Drop(Slot& slot) {
  if (!slot.held.has_value()) return;
  held_bytes_ -= BytesOf(*slot.held);
  --held_count_;
  slot.held.reset();
  for (IdentitySet* set : slot.sets) MarkDirty(*set);
}

void MemorySvidCache::RemoveEntry(const std::string& id, absl::flat_hash_set<Group*>& regroup) {
  const auto it = slots_.find(id);
  if (it == slots_.end()) return;
  Slot& slot = *it->second;
  Unindex(slot);
  Drop(slot);
  jwts_.Forget(id);
  for (IdentitySet* set : std::vector<IdentitySet*>(slot.sets.begin(), slot.sets.end())) {
    set->dead = true;
    if (set->groups.empty()) {
      EraseSet(*set);
    } else {
      regroup.insert(set->groups.begin(), set->groups.end());
    }
  }
  slots_.erase(it);
}

void MemorySvidCache::PutEntry(spiffe::Entry entry, absl::flat_hash_set<Group*>& regroup) {
  auto now = std::make_shared<const spiffe::Entry>(std::move(entry));
  std::unique_ptr<Slot>& slot = slots_[now->id];
  const bool is_new = slot == nullptr;
  if (is_new) slot = std::make_unique<Slot>();
  const EntryPtr before = std::exchange(slot->entry, now);
  slot->refused = false;
  if (!is_new) {
    if (*before == *now) return;
    jwts_.Forget(now->id);
    if (before->spiffe_id != now->spiffe_id) Drop(*slot);  // no longer what it is entitled to
    for (IdentitySet* set : slot->sets) MarkDirty(*set);
    if (before->selectors == now->selectors && before->created_at == now->created_at && before->hint == now->hint &&
        before->store_svid == now->store_svid) {
      return;  // the same streams match, in the same order
    }
    for (IdentitySet* set : slot->sets) regroup.insert(set->groups.begin(), set->groups.end());
    Unindex(*slot);
  }
  // Under the selector that tells most: the one with the fewest entries.
  size_t smallest = SIZE_MAX;
  for (const spiffe::Selector& selector : now->selectors) {
    const auto bucket = index_.find(selector);
    const size_t size = bucket == index_.end() ? 0 : bucket->second.size();
    if (size >= smallest) continue;
    smallest = size;
    slot->indexed_under = selector;
  }
  if (now->selectors.empty()) return;  // matches nothing
  index_[slot->indexed_under].insert(slot.get());
}

void MemorySvidCache::Apply(Change change, const std::function<void()>& before_told) {
  bool wanted = false;
  {
    std::lock_guard lock(mutex_);
    if (before_told) ++silences_;
    absl::flat_hash_set<Group*> regroup;
    for (const std::string& id : change.removed_ids) RemoveEntry(id, regroup);
    for (Group* group : regroup) Regroup(*group);
    regroup.clear();

    const bool many = change.upserts.size() > kManyChanges;
    for (spiffe::Entry& entry : change.upserts) {
      const std::string id = entry.id;
      PutEntry(std::move(entry), regroup);
      if (many) continue;
      const Slot& slot = *slots_.at(id);
      for (auto& [_, group] : groups_) {
        if (spiffe::IsSubset(slot.entry->selectors, group->selectors)) regroup.insert(group.get());
      }
    }
    if (many) {
      for (auto& [_, group] : groups_) regroup.insert(group.get());
    }
    for (Group* group : regroup) {
      Regroup(*group);
      for (const std::string& id : group->set->entry_ids) wanted |= !slots_.at(id)->held.has_value();
    }
    // An entry whose SPIFFE ID changed lost its SVID while its groups stayed.
    wanted |= !change.upserts.empty();

    for (spiffe::Bundle& bundle : change.bundles) {
      const std::string name = bundle.trust_domain.name();
      BundlePtr& held = bundles_[name];
      if (held != nullptr && *held == bundle) continue;
      held = std::make_shared<const spiffe::Bundle>(std::move(bundle));
      if (name == trust_domain_.name()) {
        jwts_.ForgetKeys([&](const std::string& key_id) {
          const spiffe::JwtAuthority* authority = held->FindJwtAuthority(key_id);
          return authority == nullptr || authority->tainted;
        });
        wanted = true;  // perhaps an authority is tainted
      }
      MarkAllDirty();
    }
    for (const std::string& name : change.removed_bundles) {
      if (name != trust_domain_.name() && bundles_.erase(name) > 0) MarkAllDirty();
    }
    Changed();
  }
  if (before_told) {
    before_told();
    std::lock_guard lock(mutex_);
    --silences_;
    work_ = true;  // what came due meanwhile
    wake_.notify_one();
  }
  if (wanted && on_wanted_) on_wanted_();
}

void MemorySvidCache::SetReady(absl::Time last_sync) {
  std::lock_guard lock(mutex_);
  ready_ = true;
  last_sync_ = std::max(last_sync_, last_sync);
  work_ = true;
  wake_.notify_one();
}

void MemorySvidCache::SetSvids(std::vector<HeldSvid> svids) {
  std::lock_guard lock(mutex_);
  for (HeldSvid& held : svids) {
    const auto it = slots_.find(held.entry->id);
    if (it == slots_.end() || it->second->entry->spiffe_id != held.svid->id) continue;
    Slot& slot = *it->second;
    Drop(slot);
    held_bytes_ += BytesOf(held);
    ++held_count_;
    slot.held = std::move(held);
    slot.refused = false;
    if (slot.live_sets == 0 && slot.asked == -absl::InfiniteDuration()) slot.asked = clock_.Steady();
    for (IdentitySet* set : slot.sets) MarkDirty(*set);
  }
  EnforceBudget();
  Changed();
}

void MemorySvidCache::EnforceBudget() {
  if (held_bytes_ <= options_.budget_bytes) return;
  std::vector<Slot*> unused;
  for (auto& [_, slot] : slots_) {
    if (slot->held.has_value() && slot->live_sets == 0) unused.push_back(slot.get());
  }
  std::sort(unused.begin(), unused.end(), [](const Slot* a, const Slot* b) { return a->asked < b->asked; });
  for (Slot* slot : unused) {
    if (held_bytes_ <= options_.budget_bytes) break;
    slot->asked = -absl::InfiniteDuration();
    Drop(*slot);
  }
}

void MemorySvidCache::DropSvids(const std::vector<std::string>& entry_ids) {
  std::lock_guard lock(mutex_);
  for (const std::string& id : entry_ids) {
    if (const auto it = slots_.find(id); it != slots_.end()) Drop(*it->second);
  }
  Changed();
}

void MemorySvidCache::SetRefused(const std::vector<std::string>& entry_ids) {
  std::lock_guard lock(mutex_);
  for (const std::string& id : entry_ids) {
    const auto it = slots_.find(id);
    if (it == slots_.end() || it->second->refused) continue;
    it->second->refused = true;
    for (IdentitySet* set : it->second->sets) MarkDirty(*set);
  }
  wake_.notify_one();
}

void MemorySvidCache::SetOffline(bool offline) {
  std::lock_guard lock(mutex_);
  if (std::exchange(offline_, offline) == offline) return;
  for (auto& [_, set] : sets_) {
    if (set->pending) MarkDirty(*set);
  }
  wake_.notify_one();
}

// --- the writers' view
// -------------------------------------------------------------------------------------------------

EntryPtr MemorySvidCache::FindEntry(const std::string& id) const {
  std::lock_guard lock(mutex_);
  const auto it = slots_.find(id);
  return it == slots_.end() ? nullptr : it->second->entry;
}

std::vector<EntryPtr> MemorySvidCache::AllEntries() const {
  std::lock_guard lock(mutex_);
  std::vector<EntryPtr> entries;
  entries.reserve(slots_.size());
  for (const auto& [_, slot] : slots_) entries.push_back(slot->entry);
  return entries;
}

std::vector<BundlePtr> MemorySvidCache::AllBundles() const {
  std::lock_guard lock(mutex_);
  std::vector<BundlePtr> bundles;
  for (const auto& [_, bundle] : bundles_) bundles.push_back(bundle);
  return bundles;
}

bool ChainsToTainted(const spiffe::Bundle& bundle, const std::vector<crypto::Certificate>& chain) {
  const std::string& authority = chain.back().authority_key_id();
  if (authority.empty()) return false;
  for (const spiffe::X509Authority& trusted : bundle.x509_authorities) {
    if (trusted.certificate.subject_key_id() == authority) return trusted.tainted;
  }
  return true;  // revoked: nobody can verify it any more
}

bool MemorySvidCache::IsTainted(const HeldSvid& held) const {
  const auto own = bundles_.find(trust_domain_.name());
  return own != bundles_.end() && ChainsToTainted(*own->second, held.svid->chain);
}

std::vector<PlanItem> MemorySvidCache::PlanItems() const {
  std::lock_guard lock(mutex_);
  const Instant now = Now();
  std::vector<PlanItem> items;
  for (const auto& [id, slot] : slots_) {
    PlanItem item;
    item.wanted = slot->live_sets > 0 || now.steady - slot->asked < options_.keep_fresh;
    item.held = slot->held.has_value();
    if (!item.wanted && !item.held) continue;
    item.entry_id = id;
    item.waiting = slot->live_sets > 0;
    if (item.held) {
      item.life = slot->held->life;
      item.outdated = slot->held->entry->revision != slot->entry->revision ||
                      slot->held->entry->created_at != slot->entry->created_at;
      item.tainted = IsTainted(*slot->held);
    }
    items.push_back(std::move(item));
  }
  return items;
}

CacheSnapshot MemorySvidCache::Snapshot() const {
  std::lock_guard lock(mutex_);
  CacheSnapshot snapshot;
  const Instant now = Now();
  for (const auto& [_, slot] : slots_) {
    snapshot.entries.push_back(slot->entry);
    if (slot->held.has_value() && !slot->held->life.Expired(now)) snapshot.svids.push_back(*slot->held);
  }
  for (const auto& [_, bundle] : bundles_) snapshot.bundles.push_back(bundle);
  return snapshot;
}

std::map<std::string, uint32_t> MemorySvidCache::SvidsByAuthority() const {
  std::lock_guard lock(mutex_);
  std::map<std::string, uint32_t> counts;
  for (const auto& [_, slot] : slots_) {
    if (slot->held.has_value()) ++counts[absl::BytesToHexString(slot->held->svid->chain.back().authority_key_id())];
  }
  return counts;
}

}  // namespace signet::agent
