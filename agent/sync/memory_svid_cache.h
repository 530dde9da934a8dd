// The SvidCache of a running agent, and the writer's side of it.
// Entries are indexed by one selector each, so that a look-up touches few of them. Streams with the same selectors
// share a Group; groups with the same entries share an IdentitySet, whose response is serialised once. Changes mark
// sets dirty; one notifier thread builds and hands out the updates, and merges what changes within `merge_window`
// (WL-5). Thread-safe. Two writers: the synchroniser's sync worker (entries, bundles) and its mint worker (SVIDs).
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "agent/metrics.h"
#include "agent/sync/jwt_cache.h"
#include "agent/sync/refresh_plan.h"
#include "agent/sync/svid_cache.h"
#include "common/time/clock.h"

namespace signet::agent {

// An SVID and what the plan needs to know of it.
struct HeldSvid {
  EntryPtr entry;  // as it was when the SVID was signed
  SvidPtr svid;
  SvidLife life;
};

// All that a restart can use, at one moment.
struct CacheSnapshot {
  std::vector<EntryPtr> entries;
  std::vector<HeldSvid> svids;
  std::vector<BundlePtr> bundles;
};

// Whether the authority that signed the top of `chain` is tainted in `bundle`, or has gone from it.
bool ChainsToTainted(const spiffe::Bundle& bundle, const std::vector<crypto::Certificate>& chain);

class MemorySvidCache final : public SvidCache {
 public:
  struct Options {
    absl::Duration merge_window = absl::Milliseconds(5);  // between two updates of one set
    absl::Duration keep_fresh = absl::Hours(1);           // after the last stream of an entry has ended
    size_t budget_bytes = 64 << 20;                       // SVIDs beyond it are kept only for live streams
    size_t jwt_limit = 4096;
  };

  MemorySvidCache(const spiffe::TrustDomain& trust_domain, Clock& clock, Metrics& metrics, Options options);
  ~MemorySvidCache() override;  // no subscription may be left

  // --- readers: svid_cache.h -----------------------------------------------------------------------------------------
  std::vector<EntryPtr> MatchingEntries(const spiffe::Selectors& selectors) const override;
  std::unique_ptr<Subscription> Subscribe(spiffe::Selectors selectors, OnUpdate on_update) override;
  bool ready() const override { return ready_; }
  BundlePtr OwnBundle() const override;
  BundlePtr FindBundle(const std::string& trust_domain) const override;
  void FetchJwt(EntryPtr entry, std::vector<std::string> audience,
                std::function<void(absl::StatusOr<JwtResult>)> done) override;
  Counts counts() const override;

  // --- set once, before the first reader -----------------------------------------------------------------------------
  void SetJwtMinter(JwtCache::Minter minter) { jwts_.SetMinter(std::move(minter)); }
  // Called, with no lock held, when a stream waits for an SVID that is not there. Must be quick.
  void SetOnWanted(std::function<void()> on_wanted) { on_wanted_ = std::move(on_wanted); }

  // --- writers -------------------------------------------------------------------------------------------------------
  struct Change {
    std::vector<spiffe::Entry> upserts;
    std::vector<std::string> removed_ids;
    std::vector<spiffe::Bundle> bundles;
    std::vector<std::string> removed_bundles;
  };
  // What is withdrawn is gone from MatchingEntries() when this returns, and when it calls `before_told`; streams are
  // told by the notifier, nothing before `before_told` has returned.
  void Apply(Change change, const std::function<void()>& before_told = {});
  // Answers flow from now on.
  void SetReady(absl::Time last_sync);
  // SVIDs whose entry has gone or has another SPIFFE ID meanwhile are dropped. Clears a refusal.
  void SetSvids(std::vector<HeldSvid> svids);
  void DropSvids(const std::vector<std::string>& entry_ids);
  // The server will not sign for these now: streams do not wait for them.
  void SetRefused(const std::vector<std::string>& entry_ids);
  // While offline, streams wait for no SVID as long as there is one to show.
  void SetOffline(bool offline);

  EntryPtr FindEntry(const std::string& id) const;
  std::vector<EntryPtr> AllEntries() const;
  std::vector<BundlePtr> AllBundles() const;
  std::vector<PlanItem> PlanItems() const;
  CacheSnapshot Snapshot() const;
  // Hex subject key id of an authority -> SVIDs held that chain to it.
  std::map<std::string, uint32_t> SvidsByAuthority() const;
  // Counts up with every change that Snapshot() would show.
  uint64_t version() const { return version_; }

 private:
  struct IdentitySet;
  struct Slot {
    EntryPtr entry;
    std::optional<HeldSvid> held;
    bool refused = false;
    absl::flat_hash_set<IdentitySet*> sets;            // that name this entry
    size_t live_sets = 0;                              // those of them that have a stream
    absl::Duration asked = -absl::InfiniteDuration();  // steady: when the last stream ended
    spiffe::Selector indexed_under;
  };
  struct Group {
    spiffe::Selectors selectors;
    IdentitySet* set = nullptr;
    absl::flat_hash_set<uint64_t> members;
  };
  struct IdentitySet {
    std::vector<std::string> entry_ids;  // ordered; hints already deduplicated
    absl::flat_hash_set<Group*> groups;
    UpdatePtr update;  // null: none built yet
    bool dirty = true;
    bool pending = false;                             // waits for an SVID
    bool dead = false;                                // names an entry that has gone: not to be used again
    absl::Duration told = -absl::InfiniteDuration();  // steady: when its streams were last told of a change
  };
  struct Member {
    std::shared_ptr<const OnUpdate> call;
    Group* group = nullptr;
    UpdatePtr last;
    bool fresh = true;  // not told anything yet
  };
  class Handle;
  struct Delivery {
    uint64_t member;
    UpdatePtr update;
  };

  // All of these with the mutex held.
  std::vector<Slot*> Match(const spiffe::Selectors& selectors) const;  // ordered, hints deduplicated
  void PutEntry(spiffe::Entry entry, absl::flat_hash_set<Group*>& regroup);
  void RemoveEntry(const std::string& id, absl::flat_hash_set<Group*>& regroup);
  void Unindex(Slot& slot);
  void Regroup(Group& group);
  void Detach(Group& group);
  void EraseSet(IdentitySet& set);
  void MarkDirty(IdentitySet& set);
  void MarkAllDirty();
  void Drop(Slot& slot);
  void EnforceBudget();
  bool IsTainted(const HeldSvid& held) const;
  std::shared_ptr<WorkloadUpdate> BuildUpdate(const IdentitySet& set, bool& pending) const;
  void Changed();  // the snapshot differs: count it, wake the notifier

  void RunNotifier();
  absl::Duration CollectDeliveries(std::vector<Delivery>& out);
  void Unsubscribe(uint64_t id);
  Instant Now() const { return {clock_.Now(), clock_.Steady()}; }

  const spiffe::TrustDomain trust_domain_;
  Clock& clock_;
  Metrics& metrics_;
  const Options options_;
  std::function<void()> on_wanted_;
  JwtCache jwts_;
  std::atomic<bool> ready_ = false;
  std::atomic<uint64_t> version_ = 0;

  mutable std::mutex mutex_;  // guards all that follows
  std::condition_variable wake_, idle_;
  absl::flat_hash_map<std::string, std::unique_ptr<Slot>> slots_;
  absl::flat_hash_map<spiffe::Selector, absl::flat_hash_set<Slot*>> index_;
  BundleMap bundles_;
  absl::flat_hash_map<std::string, std::unique_ptr<Group>> groups_;      // by serialised selectors
  absl::flat_hash_map<std::string, std::unique_ptr<IdentitySet>> sets_;  // by serialised entry ids
  absl::flat_hash_map<uint64_t, Member> members_;
  std::set<uint64_t> newcomers_;  // members not told anything yet
  uint64_t last_member_ = 0;
  uint64_t running_ = 0;  // member being called
  absl::Time last_sync_ = absl::InfinitePast();
  size_t held_bytes_ = 0, held_count_ = 0;
  bool offline_ = false;
  int silences_ = 0;   // changes that streams must not be told yet
  bool work_ = false;  // something is dirty or new
  bool stopping_ = false;
  std::thread notifier_;  // last: it uses all of the above
};

}  // namespace signet::agent
