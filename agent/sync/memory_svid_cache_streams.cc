// Who is told: subscriptions, groups and identity sets of MemorySvidCache, and its notifier.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/sync/memory_svid_cache.h"
#include "common/crypto/key.h"
#include "spiffe/workload/workload.pb.h"

namespace signet::agent {
namespace {

constexpr size_t kUnusedSetsKept = 1024;  // a workload that fetches and leaves finds its response ready

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
