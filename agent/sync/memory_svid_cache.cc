#include "agent/sync/memory_svid_cache.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/key.h"
#include "spiffe/workload/workload.pb.h"

namespace signet::agent {
namespace {

constexpr size_t kUnusedSetsKept = 1024;  // a workload that fetches and leaves finds its response ready
constexpr size_t kManyChanges = 64;       // from here on all groups are matched anew

std::string KeyOf(const spiffe::Selectors& selectors) {
  std::string key;
  for (const spiffe::Selector& selector : selectors) {
    absl::StrAppend(&key, selector.type.size(), ":", selector.type, selector.value.size(), ":", selector.value);
  }
  return key;
}

std::string KeyOf(const std::vector<std::string>& ids) {
  std::string key;
  for (const std::string& id : ids) absl::StrAppend(&key, id.size(), ":", id);
  return key;
}

bool Older(const spiffe::Entry& a, const spiffe::Entry& b) {
  return a.created_at != b.created_at ? a.created_at < b.created_at : a.id < b.id;
}

size_t BytesOf(const HeldSvid& held) {
  size_t bytes = 600;  // key, bookkeeping
  for (const crypto::Certificate& certificate : held.svid->chain) bytes += certificate.der().size();
  return bytes;
}

bool SameContent(const WorkloadUpdate& a, const WorkloadUpdate& b) {
  return a.own_bundle == b.own_bundle && a.federated_bundles == b.federated_bundles &&
         a.x509_response == b.x509_response && a.identities.size() == b.identities.size();
}

std::string Response(const WorkloadUpdate& update) {
  if (update.identities.empty()) return "";
  X509SVIDResponse response;
  const std::string own = update.own_bundle->X509Der();
  for (const Identity& identity : update.identities) {
    X509SVID& svid = *response.add_svids();
    svid.set_spiffe_id(identity.svid->id.string());
    svid.set_x509_svid(identity.svid->ChainDer());
    svid.set_x509_svid_key(identity.svid->key.Pkcs8Der());
    svid.set_bundle(own);
    svid.set_hint(identity.entry->hint);
  }
  for (const auto& [name, bundle] : update.federated_bundles) {
    (*response.mutable_federated_bundles())[bundle->trust_domain.IdString()] = bundle->X509Der();
  }
  std::string bytes = response.SerializeAsString();
  for (X509SVID& svid : *response.mutable_svids()) crypto::Cleanse(*svid.mutable_x509_svid_key());
  return bytes;
}

}  // namespace

class MemorySvidCache::Handle final : public Subscription {
 public:
  Handle(MemorySvidCache& cache, uint64_t id) : cache_(cache), id_(id) {}
  ~Handle() override { cache_.Unsubscribe(id_); }

 private:
  MemorySvidCache& cache_;
  const uint64_t id_;
};

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

std::unique_ptr<SvidCache::Subscription> MemorySvidCache::Subscribe(spiffe::Selectors selectors, OnUpdate on_update) {
  bool wanted = false;
  uint64_t id;
  {
    std::lock_guard lock(mutex_);
    id = ++last_member_;
    std::unique_ptr<Group>& group = groups_[KeyOf(selectors)];
    if (group == nullptr) {
      group = std::make_unique<Group>();
      group->selectors = std::move(selectors);
      Regroup(*group);
    }
    group->members.insert(id);
    members_[id] = Member{std::make_shared<const OnUpdate>(std::move(on_update)), group.get(), nullptr};
    newcomers_.insert(id);
    for (const std::string& entry_id : group->set->entry_ids) {
      const Slot& slot = *slots_.at(entry_id);
      wanted |= !slot.held.has_value() || slot.held->life.Expired(Now());
    }
    work_ = true;
  }
  wake_.notify_one();
  if (wanted && on_wanted_) on_wanted_();
  return std::make_unique<Handle>(*this, id);
}

void MemorySvidCache::Unsubscribe(uint64_t id) {
  std::unique_lock lock(mutex_);
  const auto member = members_.find(id);
  Group& group = *member->second.group;
  newcomers_.erase(id);
  members_.erase(member);
  group.members.erase(id);
  if (group.members.empty()) {
    Detach(group);
    groups_.erase(KeyOf(group.selectors));
  }
  if (std::this_thread::get_id() == notifier_.get_id()) return;
  idle_.wait(lock, [&] { return running_ != id; });
}

// --- groups and sets
// ---------------------------------------------------------------------------------------------------

void MemorySvidCache::Regroup(Group& group) {
  std::vector<std::string> ids;
  for (const Slot* slot : Match(group.selectors)) ids.push_back(slot->entry->id);
  if (group.set != nullptr && !group.set->dead && group.set->entry_ids == ids) return MarkDirty(*group.set);

  const absl::Duration told = group.set == nullptr ? -absl::InfiniteDuration() : group.set->told;
  Detach(group);
  std::unique_ptr<IdentitySet>& set = sets_[KeyOf(ids)];
  if (set == nullptr) {
    set = std::make_unique<IdentitySet>();
    set->entry_ids = std::move(ids);
    for (const std::string& id : set->entry_ids) slots_.at(id)->sets.insert(set.get());
  }
  if (set->groups.empty()) {
    for (const std::string& id : set->entry_ids) ++slots_.at(id)->live_sets;
  }
  set->groups.insert(&group);
  set->told = std::max(set->told, told);
  group.set = set.get();
  if (!group.members.empty()) MarkDirty(*set);  // its streams may know another state
}

void MemorySvidCache::Detach(Group& group) {
  IdentitySet* set = std::exchange(group.set, nullptr);
  if (set == nullptr) return;
  set->groups.erase(&group);
  if (!set->groups.empty()) return;
  for (const std::string& id : set->entry_ids) {
    const auto slot = slots_.find(id);
    if (slot == slots_.end() || slot->second->live_sets == 0) continue;
    if (--slot->second->live_sets == 0) slot->second->asked = clock_.Steady();
  }
  if (set->dead || set->dirty || sets_.size() > kUnusedSetsKept) EraseSet(*set);
}

void MemorySvidCache::EraseSet(IdentitySet& set) {
  for (const std::string& id : set.entry_ids) {
    if (const auto slot = slots_.find(id); slot != slots_.end()) slot->second->sets.erase(&set);
  }
  sets_.erase(KeyOf(set.entry_ids));
}

void MemorySvidCache::MarkDirty(IdentitySet& set) {
  set.dirty = true;
  work_ = true;
}

void MemorySvidCache::MarkAllDirty() {
  for (auto& [_, set] : sets_) MarkDirty(*set);
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

// --- the notifier
// ------------------------------------------------------------------------------------------------------

std::shared_ptr<WorkloadUpdate> MemorySvidCache::BuildUpdate(const IdentitySet& set, bool& pending) const {
  std::shared_ptr<WorkloadUpdate> update(new WorkloadUpdate, [](WorkloadUpdate* dying) {
    crypto::Cleanse(dying->x509_response);
    delete dying;
  });
  const Instant now = Now();
  bool missing = false;
  for (const std::string& id : set.entry_ids) {
    const Slot& slot = *slots_.at(id);
    if (slot.held.has_value() && !slot.held->life.Expired(now)) {
      update->identities.push_back({slot.entry, slot.held->svid});
      for (const std::string& name : slot.entry->federates_with) {
        const auto bundle = bundles_.find(name);
        if (bundle != bundles_.end() && name != trust_domain_.name()) update->federated_bundles[name] = bundle->second;
      }
    } else {
      missing |= !slot.refused;
    }
  }
  pending = missing && !(offline_ && !update->identities.empty());
  update->own_bundle = bundles_.at(trust_domain_.name());
  update->x509_response = Response(*update);
  return update;
}

absl::Duration MemorySvidCache::CollectDeliveries(std::vector<Delivery>& out) {
  work_ = false;
  if (!ready_ || !bundles_.contains(trust_domain_.name())) return absl::InfiniteDuration();
  absl::flat_hash_set<const IdentitySet*> awaited;
  for (const uint64_t id : newcomers_) awaited.insert(members_.at(id).group->set);

  absl::Duration wait = absl::InfiniteDuration();
  const absl::Duration now = clock_.Steady();
  std::vector<IdentitySet*> unused;
  for (auto& [_, set] : sets_) {
    if (!set->dirty) continue;
    if (set->groups.empty()) {
      unused.push_back(set.get());
      continue;
    }
    // A first change goes out at once, those close behind it together. A newcomer is never shown a state that has
    // passed.
    if (const absl::Duration due = set->told + options_.merge_window - now;
        set->update != nullptr && due > absl::ZeroDuration() && !awaited.contains(set.get())) {
      wait = std::min(wait, due);
      continue;
    }
    std::shared_ptr<WorkloadUpdate> update = BuildUpdate(*set, set->pending);
    set->dirty = false;
    // The only identity is being signed anew: saying "nothing" would end the stream.
    if (set->pending && update->identities.empty()) continue;
    set->update = std::move(update);
    for (const Group* group : set->groups) {
      for (const uint64_t id : group->members) {
        Member& member = members_.at(id);
        if (member.fresh) continue;  // below
        if (member.last != nullptr && SameContent(*member.last, *set->update)) continue;
        member.last = set->update;
        set->told = now;
        out.push_back({id, set->update});
      }
    }
  }
  for (IdentitySet* set : unused) EraseSet(*set);

  for (auto it = newcomers_.begin(); it != newcomers_.end();) {
    Member& member = members_.at(*it);
    const IdentitySet& set = *member.group->set;
    if (set.update == nullptr || set.pending) {
      ++it;
      continue;
    }
    member.fresh = false;
    member.last = set.update;
    out.push_back({*it, set.update});
    it = newcomers_.erase(it);
  }
  return wait;
}

void MemorySvidCache::RunNotifier() {
  std::unique_lock lock(mutex_);
  std::vector<Delivery> deliveries;
  while (!stopping_) {
    deliveries.clear();
    const absl::Duration wait = silences_ > 0 ? absl::InfiniteDuration() : CollectDeliveries(deliveries);
    for (Delivery& delivery : deliveries) {
      const auto member = members_.find(delivery.member);
      if (member == members_.end()) continue;
      const std::shared_ptr<const OnUpdate> call = member->second.call;
      running_ = delivery.member;
      lock.unlock();
      (*call)(std::move(delivery.update));
      lock.lock();
      running_ = 0;
      idle_.notify_all();
    }
    if (!deliveries.empty()) continue;
    clock_.Wait(lock, wake_, wait, [&] { return (work_ && silences_ == 0) || stopping_; });
  }
}

}  // namespace signet::agent
