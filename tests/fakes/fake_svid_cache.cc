#include "tests/fakes/fake_svid_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "spiffe/workload/workload.pb.h"

namespace signet::fakes {

using agent::EntryPtr;
using agent::UpdatePtr;

class FakeSvidCache::Handle final : public Subscription {
 public:
  Handle(FakeSvidCache& cache, uint64_t id) : cache_(cache), id_(id) {}
  ~Handle() override {
    std::unique_lock lock(cache_.mutex_);
    auto it = cache_.subscribers_.find(id_);
    if (it != cache_.subscribers_.end() && cache_.call_late_) {
      std::string content;
      UpdatePtr update = cache_.Build(it->second.selectors, &content);
      std::shared_ptr<const OnUpdate> call = it->second.call;
      lock.unlock();
      if (update != nullptr) (*call)(std::move(update));
      lock.lock();
    }
    cache_.subscribers_.erase(id_);
    if (std::this_thread::get_id() == cache_.notifier_.get_id()) return;
    cache_.idle_.wait(lock, [this] { return cache_.running_ != id_; });
  }

 private:
  FakeSvidCache& cache_;
  const uint64_t id_;
};

FakeSvidCache::FakeSvidCache(const spiffe::TrustDomain& trust_domain)
    : trust_domain_(trust_domain), notifier_([this] { Run(); }) {
  SetBundle(spiffe::Bundle{trust_domain, {}, {}});
  SetMint([](EntryPtr entry, std::vector<std::string> audience, auto done) {
    done(JwtResult{entry->spiffe_id, absl::StrCat(entry->spiffe_id.string(), " for ", absl::StrJoin(audience, ",")),
                   entry->hint});
  });
}

FakeSvidCache::~FakeSvidCache() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  notifier_.join();
}

void FakeSvidCache::Changed() {
  changed_ = true;
  if (batching_ == 0) wake_.notify_all();
}

void FakeSvidCache::Batch(const std::function<void()>& changes) {
  std::lock_guard lock(mutex_);
  ++batching_;
  changes();
  --batching_;
  Changed();
}

void FakeSvidCache::SetReady(bool ready) {
  std::lock_guard lock(mutex_);
  ready_ = ready;
  Changed();
}
void FakeSvidCache::PutEntry(spiffe::Entry entry) {
  std::lock_guard lock(mutex_);
  spiffe::Normalize(entry.selectors);
  auto shared = std::make_shared<const spiffe::Entry>(std::move(entry));
  entries_[shared->id] = shared;
  Changed();
}
void FakeSvidCache::RemoveEntry(const std::string& id) {
  std::lock_guard lock(mutex_);
  entries_.erase(id);
  svids_.erase(id);
  Changed();
}
void FakeSvidCache::SetSvid(const std::string& entry_id, std::string x509_svid) {
  std::lock_guard lock(mutex_);
  svids_[entry_id] = std::move(x509_svid);
  Changed();
}
void FakeSvidCache::SetBundle(const spiffe::Bundle& bundle) {
  std::lock_guard lock(mutex_);
  bundles_[bundle.trust_domain.name()] = std::make_shared<const spiffe::Bundle>(bundle);
  Changed();
}
void FakeSvidCache::RemoveBundle(const std::string& trust_domain) {
  std::lock_guard lock(mutex_);
  bundles_.erase(trust_domain);
  Changed();
}
void FakeSvidCache::SetMint(Mint mint) {
  std::lock_guard lock(mutex_);
  mint_ = std::move(mint);
}
size_t FakeSvidCache::subscriptions() const {
  std::lock_guard lock(mutex_);
  return subscribers_.size();
}

std::vector<EntryPtr> FakeSvidCache::Match(const spiffe::Selectors& selectors) const {
  std::vector<EntryPtr> matching;
  for (const auto& [id, entry] : entries_) {
    if (spiffe::IsSubset(entry->selectors, selectors)) matching.push_back(entry);
  }
  std::stable_sort(matching.begin(), matching.end(),
                   [](const EntryPtr& a, const EntryPtr& b) { return a->created_at < b->created_at; });
  return matching;
}

std::vector<EntryPtr> FakeSvidCache::MatchingEntries(const spiffe::Selectors& selectors) const {
  std::lock_guard lock(mutex_);
  return Match(selectors);
}

std::unique_ptr<FakeSvidCache::Subscription> FakeSvidCache::Subscribe(spiffe::Selectors selectors, OnUpdate on_update) {
  std::lock_guard lock(mutex_);
  subscribers_[++last_id_] = {std::move(selectors), std::make_shared<const OnUpdate>(std::move(on_update)), {}};
  Changed();
  return std::make_unique<Handle>(*this, last_id_);
}

bool FakeSvidCache::ready() const {
  std::lock_guard lock(mutex_);
  return ready_;
}
agent::BundlePtr FakeSvidCache::OwnBundle() const { return FindBundle(trust_domain_.name()); }
agent::BundlePtr FakeSvidCache::FindBundle(const std::string& trust_domain) const {
  std::lock_guard lock(mutex_);
  auto it = bundles_.find(trust_domain);
  return it == bundles_.end() ? nullptr : it->second;
}

void FakeSvidCache::FetchJwt(EntryPtr entry, std::vector<std::string> audience,
                             std::function<void(absl::StatusOr<JwtResult>)> done) {
  Mint mint;
  {
    std::lock_guard lock(mutex_);
    mint = mint_;
  }
  mint(std::move(entry), std::move(audience), std::move(done));
}

agent::SvidCache::Counts FakeSvidCache::counts() const {
  std::lock_guard lock(mutex_);
  Counts counts;
  counts.entries = entries_.size();
  counts.x509_svids = svids_.size();
  counts.subscriptions = subscribers_.size();
  return counts;
}

// Null: not every matching entry has an SVID yet.
UpdatePtr FakeSvidCache::Build(const spiffe::Selectors& selectors, std::string* content) const {
  auto update = std::make_shared<agent::WorkloadUpdate>();
  X509SVIDResponse response;
  std::vector<std::string> hints;
  for (const EntryPtr& entry : Match(selectors)) {
    if (!entry->hint.empty() && std::find(hints.begin(), hints.end(), entry->hint) != hints.end()) continue;
    hints.push_back(entry->hint);
    auto svid = svids_.find(entry->id);
    if (svid == svids_.end()) return nullptr;
    update->identities.push_back({entry, nullptr});
    X509SVID& out = *response.add_svids();
    out.set_spiffe_id(entry->spiffe_id.string());
    out.set_x509_svid(svid->second);
    out.set_bundle(bundles_.at(trust_domain_.name())->X509Der());
    out.set_hint(entry->hint);
    for (const std::string& name : entry->federates_with) {
      auto bundle = bundles_.find(name);
      if (bundle == bundles_.end()) continue;
      update->federated_bundles[name] = bundle->second;
      (*response.mutable_federated_bundles())[bundle->second->trust_domain.IdString()] = bundle->second->X509Der();
    }
  }
  update->own_bundle = bundles_.at(trust_domain_.name());
  if (!update->identities.empty()) update->x509_response = response.SerializeAsString();
  *content = absl::StrCat(response.DebugString(), update->own_bundle->Revision());
  for (const auto& [name, bundle] : update->federated_bundles) absl::StrAppend(content, name, bundle->Revision());
  return update;
}

void FakeSvidCache::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || (changed_ && batching_ == 0); });
    if (stopping_) return;
    changed_ = false;
    if (!ready_) continue;
    std::vector<uint64_t> ids;
    for (const auto& [id, subscriber] : subscribers_) ids.push_back(id);
    for (uint64_t id : ids) {
      auto it = subscribers_.find(id);
      if (it == subscribers_.end()) continue;
      std::string content;
      UpdatePtr update = Build(it->second.selectors, &content);
      if (update == nullptr || it->second.told == content) continue;
      it->second.told = content;
      std::shared_ptr<const OnUpdate> call = it->second.call;
      running_ = id;
      lock.unlock();
      (*call)(std::move(update));
      lock.lock();
      running_ = 0;
      idle_.notify_all();
    }
  }
}

}  // namespace signet::fakes
