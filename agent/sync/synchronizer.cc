#include "agent/sync/synchronizer.h"

#include <utility>

#include "common/log/log.h"

namespace signet::agent {

Synchronizer::Synchronizer(Deps deps)
    : deps_(std::move(deps)),
      standing_({deps_.cache, deps_.identity, deps_.sealed, deps_.metrics, deps_.health, [this] { Wake(mint_); },
                 deps_.on_fatal}),
      entry_sync_({deps_.trust_domain, deps_.cache, deps_.client, deps_.identity, deps_.sealed, position_, standing_,
                   deps_.clock, deps_.metrics, deps_.health, [this] { Wake(sync_); }, [this] { Wake(seal_); },
                   [this] {
                     Wake(mint_);
                     Wake(seal_);
                   },
                   deps_.tokens, deps_.on_audit_head}),
      minter_({deps_.trust_domain, deps_.cache, deps_.client, deps_.identity, deps_.attestor, deps_.sealed, standing_,
               deps_.clock, deps_.metrics, deps_.first_trust,
               [this] {
                 entry_sync_.Reopen();
                 Wake(sync_);
               },
               [this] { Wake(seal_); }}) {
  if (deps_.sealed != nullptr) {
    sealer_ = std::make_unique<CacheSealer>(*deps_.sealed, deps_.cache, position_, deps_.health, deps_.clock);
  }
  deps_.cache.SetOnWanted([this] { Wake(mint_); });
  if (deps_.tokens != nullptr) deps_.tokens->SetOnWanted([this] { Wake(sync_); });
  deps_.cache.SetJwtMinter([this](const EntryPtr& entry, const std::vector<std::string>& audience,
                                  std::function<void(absl::StatusOr<MintedJwt>)> done) {
    deps_.client.NewJwt(entry->id, audience, [this, done = std::move(done)](absl::StatusOr<MintedJwt> minted) {
      if (const Refusal refusal = RefusalOf(minted.status()); refusal != Refusal::kNone) {
        told_refusal_ = refusal;
        Wake(mint_);
      }
      done(std::move(minted));
    });
  });
}

Synchronizer::~Synchronizer() { Stop(); }

void Synchronizer::Restore() {
  if (deps_.sealed == nullptr) return;
  absl::StatusOr<SealedState> state = deps_.sealed->Load();
  if (!state.ok()) {
    if (!absl::IsNotFound(state.status())) {
      SIGNET_LOG(error, "the sealed cache cannot be used", {{"error", state.status().message()}});
    }
    return;
  }
  const size_t entries = state->snapshot.entries.size(), svids = state->snapshot.svids.size();
  MemorySvidCache::Change change;
  for (const EntryPtr& entry : state->snapshot.entries) change.upserts.push_back(*entry);
  for (const BundlePtr& bundle : state->snapshot.bundles) change.bundles.push_back(*bundle);
  deps_.cache.Apply(std::move(change));
  deps_.cache.SetSvids(std::move(state->snapshot.svids));
  position_.Set(std::move(state->epoch), std::move(state->bundle_revisions));
  if (deps_.cache.OwnBundle() == nullptr) return;
  sealer_->MarkSealed();
  standing_.Restored();
  deps_.cache.SetReady(absl::InfinitePast());
  SIGNET_LOG(info, "serving from the sealed cache", {{"entries", entries}, {"x509_svids", svids}});
}

Worker::Job Synchronizer::Guarded(std::function<absl::Duration()> job) {
  return [this, job = std::move(job)] { return started_ && !standing_.dead() ? job() : absl::InfiniteDuration(); };
}

void Synchronizer::Start() {
  seal_ = std::make_unique<Worker>(
      "seal", deps_.clock, Guarded([this] { return sealer_ == nullptr ? absl::InfiniteDuration() : sealer_->Run(); }));
  mint_ = std::make_unique<Worker>("mint", deps_.clock, Guarded([this] {
                                     if (const Refusal refusal = told_refusal_.exchange(Refusal::kNone);
                                         refusal != Refusal::kNone) {
                                       standing_.Refused(RefusalStatus(refusal, "told when a token was asked for"));
                                     }
                                     return minter_.Run();
                                   }));
  sync_ = std::make_unique<Worker>("sync", deps_.clock, Guarded([this] { return entry_sync_.Run(); }));
  started_ = true;
  for (const std::unique_ptr<Worker>* worker : {&seal_, &mint_, &sync_}) (*worker)->Wake();
}

void Synchronizer::Stop() {
  deps_.client.Shutdown();
  for (const std::unique_ptr<Worker>* worker : {&sync_, &mint_, &seal_}) {
    if (*worker != nullptr) (*worker)->Stop();
  }
  entry_sync_.Close();
  if (started_ && sealer_ != nullptr && !standing_.dead()) sealer_->Flush();
}

}  // namespace signet::agent
