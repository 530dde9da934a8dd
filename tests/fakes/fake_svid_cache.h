// An SvidCache in memory, with the real one's semantics: whole updates, delivered by a thread of its own, the first
// once every matching entry has an SVID. What it holds are names: an "SVID" is the DER the test gives.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent/sync/svid_cache.h"

namespace signet::fakes {

class FakeSvidCache final : public agent::SvidCache {
 public:
  explicit FakeSvidCache(const spiffe::TrustDomain& trust_domain);
  ~FakeSvidCache() override;

  // --- what the test sets; subscribers are told of each change ---
  void SetReady(bool ready);
  void PutEntry(spiffe::Entry entry);
  void RemoveEntry(const std::string& id);
  void SetSvid(const std::string& entry_id, std::string x509_svid);  // an entry without one is not minted yet
  void SetBundle(const spiffe::Bundle& bundle);
  void RemoveBundle(const std::string& trust_domain);
  // How tokens are made; the default is "<id> for <audiences>". May keep `done` for later.
  using Mint =
      std::function<void(agent::EntryPtr, std::vector<std::string>, std::function<void(absl::StatusOr<JwtResult>)>)>;
  void SetMint(Mint mint);

  // From now on each subscription that ends is called once more meanwhile, as by a notifier that was just about to.
  void SetCallLate(bool late) { call_late_ = late; }

  // Several changes as one.
  void Batch(const std::function<void()>& changes);
  size_t subscriptions() const;

  // --- SvidCache ---
  std::vector<agent::EntryPtr> MatchingEntries(const spiffe::Selectors& selectors) const override;
  std::unique_ptr<Subscription> Subscribe(spiffe::Selectors selectors, OnUpdate on_update) override;
  bool ready() const override;
  agent::BundlePtr OwnBundle() const override;
  agent::BundlePtr FindBundle(const std::string& trust_domain) const override;
  void FetchJwt(agent::EntryPtr entry, std::vector<std::string> audience,
                std::function<void(absl::StatusOr<JwtResult>)> done) override;
  Counts counts() const override;

 private:
  class Handle;
  struct Subscriber {
    spiffe::Selectors selectors;
    std::shared_ptr<const OnUpdate> call;
    std::optional<std::string> told;  // the content of the last update
  };
  std::vector<agent::EntryPtr> Match(const spiffe::Selectors& selectors) const;
  agent::UpdatePtr Build(const spiffe::Selectors& selectors, std::string* content) const;
  void Changed();
  void Run();

  const spiffe::TrustDomain trust_domain_;
  mutable std::recursive_mutex mutex_;
  std::condition_variable_any wake_, idle_;
  std::map<std::string, agent::EntryPtr> entries_;  // by id
  std::map<std::string, std::string> svids_;        // by entry id
  agent::BundleMap bundles_;
  std::map<uint64_t, Subscriber> subscribers_;
  Mint mint_;
  uint64_t last_id_ = 0, running_ = 0;
  bool ready_ = true, changed_ = false, stopping_ = false;
  int batching_ = 0;
  std::atomic<bool> call_late_ = false;
  std::thread notifier_;
};

}  // namespace signet::fakes
