#include "server/entries/feed_applier.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "common/concurrency/worker.h"
#include "common/log/log.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr absl::Duration kPoll = absl::Seconds(1);
constexpr size_t kPage = 1000;  // records a read; the index is locked for one page at a time

EntryPtr Share(spiffe::Entry entry) {
  entry.selectors.shrink_to_fit();  // a hundred thousand of them stay
  entry.federates_with.shrink_to_fit();
  entry.dns_names.shrink_to_fit();
  return std::make_shared<const spiffe::Entry>(std::move(entry));
}

template <typename T, typename Key>
void Append(std::vector<std::pair<Key, std::shared_ptr<const T>>>& out, const Key& key, absl::StatusOr<T> record,
            absl::Status& status) {
  if (record.ok()) {
    out.emplace_back(key, std::make_shared<const T>(*std::move(record)));
  } else if (absl::IsNotFound(record.status())) {
    out.emplace_back(key, nullptr);
  } else {
    status.Update(record.status());
  }
}

class StoreFeedApplier final : public FeedApplier {
 public:
  StoreFeedApplier(DataStore& store, EntryIndex& index, Clock& clock, TokenRegistry* registry)
      : store_(store), index_(index), registry_(registry), clock_(clock) {}
  ~StoreFeedApplier() override {
    store_.SetWakeUp(nullptr);
    worker_.reset();
  }

  absl::Status Start() {
    SIGNET_RETURN_IF_ERROR(Load(/*whole=*/false));
    worker_ = std::make_unique<Worker>("feed-applier", clock_, [this] { return Follow(); });
    store_.SetWakeUp([this] { worker_->Wake(); });
    return absl::OkStatus();
  }

  bool WaitFor(uint64_t seq, absl::Duration timeout) override {
    std::unique_lock lock(mutex_);
    return clock_.Wait(lock, reached_, timeout, [&] { return index_.seq() >= seq; });
  }

  absl::Status Check() const override {
    std::lock_guard lock(mutex_);
    return check_;
  }

 private:
  absl::Status Load(bool whole);
  absl::Duration Follow();
  absl::Status FollowOnce(bool& more);
  absl::Status ApplyChanges(const std::vector<Change>& changes);
  void Apply(EntryIndex::Update update);

  DataStore& store_;
  EntryIndex& index_;
  TokenRegistry* const registry_;
  Clock& clock_;
  mutable std::mutex mutex_;
  std::condition_variable reached_;  // the index's position has moved
  absl::Status check_;               // guarded by mutex_
  std::unique_ptr<Worker> worker_;
};

void StoreFeedApplier::Apply(EntryIndex::Update update) {
  index_.Apply(std::move(update));
  std::lock_guard lock(mutex_);
  reached_.notify_all();
}

// The position is taken before anything is read: what changes meanwhile is applied once more, which does no harm.
// In pages into an empty index; `whole`: in one piece, and what is not there any more goes.
absl::Status StoreFeedApplier::Load(bool whole) {
  SIGNET_ASSIGN_OR_RETURN(const uint64_t seq, store_.LastSeq());
  if (registry_ != nullptr) SIGNET_RETURN_IF_ERROR(registry_->LoadAll(store_, seq));
  EntryIndex::Update update{.whole = whole};
  const auto page_done = [&] {
    if (!whole) Apply(std::exchange(update, EntryIndex::Update{}));
  };
  SIGNET_ASSIGN_OR_RETURN(std::vector<spiffe::Bundle> bundles, store_.ListBundles());
  for (spiffe::Bundle& bundle : bundles) {
    const spiffe::TrustDomain name = bundle.trust_domain;
    update.bundles.emplace_back(name, std::make_shared<const spiffe::Bundle>(std::move(bundle)));
  }
  PageRequest request{.after = "", .limit = kPage};
  do {
    SIGNET_ASSIGN_OR_RETURN(Page<AgentRecord> page, store_.ListAgents({}, request));
    for (AgentRecord& agent : page.items) {
      const spiffe::Id id = agent.id;
      update.agents.emplace_back(id, std::make_shared<const AgentRecord>(std::move(agent)));
    }
    request.after = page.next;
    page_done();
  } while (!request.after.empty());
  do {
    SIGNET_ASSIGN_OR_RETURN(Page<spiffe::Entry> page, store_.ListEntries({}, request));
    for (spiffe::Entry& entry : page.items) {
      if (entry.withdrawn) continue;  // to memory it is not there
      const std::string id = entry.id;
      update.entries.emplace_back(id, Share(std::move(entry)));
    }
    request.after = page.next;
    page_done();
  } while (!request.after.empty());
  update.seq = seq;
  Apply(std::move(update));
  return absl::OkStatus();
}

absl::Duration StoreFeedApplier::Follow() {
  bool more = true;
  absl::Status status;
  while (more && status.ok()) status = FollowOnce(more);
  std::lock_guard lock(mutex_);
  if (!status.ok() && check_.ok()) {
    SIGNET_LOG(error, "change feed cannot be read, serving what is in memory", {{"error", status.message()}});
  } else if (status.ok() && !check_.ok()) {
    SIGNET_LOG(info, "change feed is read again");
  }
  check_ = status;
  return kPoll;
}

absl::Status StoreFeedApplier::FollowOnce(bool& more) {
  const absl::StatusOr<std::vector<Change>> changes = store_.ReadChanges(index_.seq(), kPage);
  if (absl::IsOutOfRange(changes.status())) {
    SIGNET_LOG(warn, "change feed does not reach back, reading everything anew", {{"seq", index_.seq()}});
    return Load(/*whole=*/true);
  }
  SIGNET_RETURN_IF_ERROR(changes.status());
  more = !changes->empty();
  return more ? ApplyChanges(*changes) : absl::OkStatus();
}

absl::Status StoreFeedApplier::ApplyChanges(const std::vector<Change>& changes) {
  EntryIndex::Update update{.seq = changes.back().seq};
  if (registry_ != nullptr) SIGNET_RETURN_IF_ERROR(registry_->Apply(store_, changes, update.seq));
  std::vector<std::string> entry_ids;
  absl::flat_hash_set<std::pair<Change::Kind, std::string>> seen;
  absl::Status status;
  for (const Change& change : changes) {
    if (!seen.insert({change.kind, change.key}).second) continue;
    switch (change.kind) {
      case Change::Kind::kEntry:
        entry_ids.push_back(change.key);
        break;
      case Change::Kind::kAgent: {
        SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, spiffe::Id::Parse(change.key));
        Append(update.agents, id, store_.GetAgent(id), status);
        break;
      }
      case Change::Kind::kBundle: {
        SIGNET_ASSIGN_OR_RETURN(const spiffe::TrustDomain name, spiffe::TrustDomain::Parse(change.key));
        Append(update.bundles, name, store_.GetBundle(name), status);
        break;
      }
      case Change::Kind::kIdentity:
      case Change::Kind::kIssuer:
      case Change::Kind::kResource:
      case Change::Kind::kGrant:
      case Change::Kind::kTask:
      case Change::Kind::kUserRights:
      case Change::Kind::kRevocation:
        break;  // the registry's
    }
  }
  SIGNET_RETURN_IF_ERROR(status);
  SIGNET_ASSIGN_OR_RETURN(std::vector<spiffe::Entry> entries, store_.GetEntries(entry_ids));
  absl::flat_hash_set<std::string> found;
  for (spiffe::Entry& entry : entries) {
    if (entry.withdrawn) continue;
    const std::string id = entry.id;
    found.insert(id);
    update.entries.emplace_back(id, Share(std::move(entry)));
  }
  for (std::string& id : entry_ids) {
    if (!found.contains(id)) update.entries.emplace_back(std::move(id), nullptr);
  }
  Apply(std::move(update));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<FeedApplier>> FeedApplier::Create(DataStore& store, EntryIndex& index, Clock& clock,
                                                                 TokenRegistry* registry) {
  auto applier = std::make_unique<StoreFeedApplier>(store, index, clock, registry);
  SIGNET_RETURN_IF_ERROR(applier->Start());
  return applier;
}

}  // namespace signet::server
