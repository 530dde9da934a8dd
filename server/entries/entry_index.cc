#include "server/entries/entry_index.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/concurrency/reader_writer_lock.h"
#include "common/spiffe/issued_to.h"
#include "server/entries/entry_graph.h"

namespace signet::server {
namespace {

class MemoryEntryIndex final : public EntryIndex {
 public:
  explicit MemoryEntryIndex(const spiffe::TrustDomain& trust_domain) : graph_(trust_domain) {}

  uint64_t seq() const override { return seq_; }
  EntryPtr FindEntry(const std::string& id) const override {
    return lock_.Read([&] { return graph_.FindEntry(id); });
  }
  AgentPtr FindAgent(const spiffe::Id& id) const override {
    return lock_.Read([&] { return graph_.FindAgent(id.string()); });
  }
  BundlePtr FindBundle(const spiffe::TrustDomain& trust_domain) const override {
    return lock_.Read([&] {
      auto it = bundles_.find(trust_domain);
      return it == bundles_.end() ? nullptr : it->second;
    });
  }
  std::vector<EntryPtr> AuthorizedEntries(const spiffe::Id& agent_id) const override {
    return lock_.Read([&] { return graph_.AuthorizedEntries(agent_id.string()); });
  }
  EntryPtr FindAuthorized(const spiffe::Id& agent_id, const std::string& entry_id) const override {
    return lock_.Read([&] { return graph_.FindAuthorized(agent_id.string(), entry_id); });
  }
  AgentPtr FindAgentByHash(const std::string& hash) const override {
    return lock_.Read([&]() -> AgentPtr {
      auto it = agents_by_hash_.find(hash);
      return it == agents_by_hash_.end() ? nullptr : it->second;
    });
  }
  std::vector<EntryPtr> EntriesWithSpiffeId(const spiffe::Id& id) const override {
    return lock_.Read([&] { return graph_.EntriesWithSpiffeId(id.string()); });
  }
  size_t entry_count() const override {
    return lock_.Read([&] { return graph_.entry_count(); });
  }
  size_t agent_count() const override {
    return lock_.Read([&] { return graph_.agent_count(); });
  }

  std::unique_ptr<Subscription> Subscribe(const spiffe::Id& agent_id, Listener on_change) override;
  void Apply(Update update) override;

 private:
  class Handle;
  // Agent ID, then a number of the subscription's own.
  using Key = std::pair<std::string, uint64_t>;

  void NameMissing(Update& update) const;  // with lock_ held
  void Unsubscribe(const Key& key);
  void Tell(EntryGraph::Notes notes, const std::vector<spiffe::TrustDomain>& bundles, uint64_t seq);
  void TellAgent(const std::string& agent_id, const AgentChange& change);

  mutable ReaderWriterLock lock_;
  EntryGraph graph_;                                             // guarded by lock_
  absl::flat_hash_map<spiffe::TrustDomain, BundlePtr> bundles_;  // guarded by lock_
  absl::flat_hash_map<std::string, AgentPtr> agents_by_hash_;    // guarded by lock_
  std::atomic<uint64_t> seq_ = 0;

  std::mutex listeners_mutex_;  // never held together with lock_ by whoever waits for the other
  std::condition_variable idle_;
  std::map<Key, std::shared_ptr<const Listener>> listeners_;
  uint64_t last_listener_ = 0;
  const Key* running_ = nullptr;
  std::thread::id running_thread_;
};

class MemoryEntryIndex::Handle final : public Subscription {
 public:
  Handle(MemoryEntryIndex& index, Key key) : index_(index), key_(std::move(key)) {}
  ~Handle() override { index_.Unsubscribe(key_); }

 private:
  MemoryEntryIndex& index_;
  const Key key_;
};

std::unique_ptr<EntryIndex::Subscription> MemoryEntryIndex::Subscribe(const spiffe::Id& agent_id, Listener on_change) {
  std::lock_guard lock(listeners_mutex_);
  Key key(agent_id.string(), ++last_listener_);
  listeners_[key] = std::make_shared<const Listener>(std::move(on_change));
  lock_.Write([&] { graph_.SetListened(agent_id.string(), true); });
  return std::make_unique<Handle>(*this, std::move(key));
}

void MemoryEntryIndex::Unsubscribe(const Key& key) {
  std::unique_lock lock(listeners_mutex_);
  listeners_.erase(key);
  auto next = listeners_.lower_bound({key.first, 0});
  if (next == listeners_.end() || next->first.first != key.first) {
    lock_.Write([&] { graph_.SetListened(key.first, false); });
  }
  if (running_thread_ == std::this_thread::get_id()) return;
  idle_.wait(lock, [&] { return running_ == nullptr || *running_ != key; });
}

void MemoryEntryIndex::Apply(Update update) {
  EntryGraph::Notes notes;
  std::vector<spiffe::TrustDomain> bundles;
  // What is replaced is freed after the lock is given back.
  std::vector<EntryPtr> replaced;
  replaced.reserve(update.entries.size());
  lock_.Write([&] {
    if (update.whole) NameMissing(update);
    for (auto& [id, agent] : update.agents) {
      const std::string hash = spiffe::HashOfAgent(id);
      if (agent == nullptr) {
        agents_by_hash_.erase(hash);
      } else {
        agents_by_hash_[hash] = agent;
      }
      graph_.SetAgent(id, std::move(agent));
    }
    for (auto& [id, entry] : update.entries) {
      if (EntryPtr old = graph_.FindEntry(id)) replaced.push_back(std::move(old));
      graph_.SetEntry(id, std::move(entry));
    }
    for (auto& [trust_domain, bundle] : update.bundles) {
      if (bundle == nullptr) {
        bundles_.erase(trust_domain);
      } else {
        bundles_[trust_domain] = std::move(bundle);
      }
      graph_.NoteBundle(trust_domain);
      bundles.push_back(trust_domain);
    }
    notes = graph_.TakeNotes();
    seq_ = update.seq;
  });
  Tell(std::move(notes), bundles, update.seq);
}

void MemoryEntryIndex::NameMissing(Update& update) const {
  absl::flat_hash_set<std::string> named;
  for (const auto& [id, _] : update.entries) named.insert(id);
  for (std::string& id : graph_.EntryIds()) {
    if (!named.contains(id)) update.entries.emplace_back(std::move(id), nullptr);
  }
  named.clear();
  for (const auto& [id, _] : update.agents) named.insert(id.string());
  for (spiffe::Id& id : graph_.AgentIds()) {
    if (!named.contains(id.string())) update.agents.emplace_back(std::move(id), nullptr);
  }
  named.clear();
  for (const auto& [name, _] : update.bundles) named.insert(name.name());
  for (const auto& [name, _] : bundles_) {
    if (!named.contains(name.name())) update.bundles.emplace_back(name, nullptr);
  }
}

void MemoryEntryIndex::Tell(EntryGraph::Notes notes, const std::vector<spiffe::TrustDomain>& bundles, uint64_t seq) {
  absl::flat_hash_map<std::string, AgentChange> changes(std::make_move_iterator(notes.begin()),
                                                        std::make_move_iterator(notes.end()));
  // The bundle of a trust domain concerns all its members.
  for (const spiffe::TrustDomain& trust_domain : bundles) {
    std::lock_guard lock(listeners_mutex_);
    const std::string first = trust_domain.IdString() + "/";
    for (auto it = listeners_.lower_bound({first, 0}); it != listeners_.end(); ++it) {
      if (it->first.first.compare(0, first.size(), first) != 0) break;
      std::vector<spiffe::TrustDomain>& told = changes[it->first.first].bundles;
      if (std::find(told.begin(), told.end(), trust_domain) == told.end()) told.push_back(trust_domain);
    }
  }
  for (auto& [agent_id, change] : changes) {
    change.seq = seq;
    TellAgent(agent_id, change);
  }
}

void MemoryEntryIndex::TellAgent(const std::string& agent_id, const AgentChange& change) {
  Key key(agent_id, 0);
  for (;;) {
    std::shared_ptr<const Listener> call;
    {
      std::lock_guard lock(listeners_mutex_);
      auto it = listeners_.upper_bound(key);
      if (it == listeners_.end() || it->first.first != agent_id) return;
      key = it->first;
      call = it->second;
      running_ = &key;
      running_thread_ = std::this_thread::get_id();
    }
    (*call)(change);
    {
      std::lock_guard lock(listeners_mutex_);
      running_ = nullptr;
      running_thread_ = {};
    }
    idle_.notify_all();
  }
}

}  // namespace

std::unique_ptr<EntryIndex> EntryIndex::Create(const spiffe::TrustDomain& trust_domain) {
  return std::make_unique<MemoryEntryIndex>(trust_domain);
}

}  // namespace signet::server
