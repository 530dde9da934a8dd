#include "agent/token/callers.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

std::string KeyOf(const spiffe::Selectors& selectors) {
  std::string key;
  for (const spiffe::Selector& selector : selectors) {
    absl::StrAppend(&key, selector.type.size(), ":", selector.type, selector.value.size(), ":", selector.value);
  }
  return key;
}

// Of entries in the order of the Workload API: the oldest of those with the SPIFFE ID that is named, or with the only
// one there is.
absl::StatusOr<EntryPtr> Choose(const std::vector<EntryPtr>& entries, const std::string& client_id) {
  if (entries.empty()) return absl::PermissionDeniedError("no identity issued");
  if (client_id.empty()) {
    for (const EntryPtr& entry : entries) {
      if (!(entry->spiffe_id == entries.front()->spiffe_id)) {
        return absl::InvalidArgumentError("this process has several identities: say which by client_id");
      }
    }
    return entries.front();
  }
  for (const EntryPtr& entry : entries) {
    if (entry->spiffe_id.string() == client_id) return entry;
  }
  return absl::UnauthenticatedError("client_id is none of this process's identities");
}

}  // namespace

TokenCallers::TokenCallers(SvidCache& cache, Attestation& attestation, Clock& clock, Options options)
    : cache_(cache), attestation_(attestation), clock_(clock), options_(options) {
  expirer_ = std::make_unique<Worker>("token-callers", clock, [this] { return Expire(); });
}

TokenCallers::~TokenCallers() { Stop(); }

void TokenCallers::Stop() {
  expirer_->Stop();
  absl::flat_hash_map<std::string, std::shared_ptr<Kept>> kept;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    kept.swap(kept_);
  }
  std::vector<Waiter> left;
  for (auto& [_, k] : kept) {
    k->subscription.reset();  // waits for a call that runs; it finds nothing any more
    MutexLock lock(mutex_);
    std::move(k->waiting.begin(), k->waiting.end(), std::back_inserter(left));
  }
  for (Waiter& waiter : left) waiter.done(absl::UnavailableError("the agent is stopping"));
  AwaitLeft();
}

void TokenCallers::Leave() {
  MutexLock lock(mutex_);
  --within_;
  left_.notify_all();  // within the lock: whoever waits may destroy this
}

void TokenCallers::AwaitLeft() {
  std::unique_lock lock(mutex_.native());
  left_.wait(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return within_ == 0; });
}

void TokenCallers::Identify(WorkloadPtr workload, std::string client_id, Identified done) {
  if (!cache_.ready()) {
    return done(absl::UnavailableError("the agent has not heard from its server yet: try again later"));
  }
  WorkloadPtr same = workload;
  attestation_.Attest(std::move(workload), [this, workload = std::move(same), client_id = std::move(client_id),
                                            done = std::move(done)](absl::StatusOr<EvidencePtr> evidence) mutable {
    if (!evidence.ok()) return done(evidence.status());
    absl::StatusOr<EntryPtr> entry = Choose(cache_.MatchingEntries((*evidence)->selectors), client_id);
    if (!entry.ok()) return done(entry.status());
    done(TokenCaller{std::move(workload), *std::move(evidence), *std::move(entry)});
  });
}

SvidPtr TokenCallers::Find(const UpdatePtr& update, const spiffe::Entry& entry) {
  if (update == nullptr) return nullptr;
  for (const Identity& identity : update->identities) {
    if (identity.entry->id == entry.id && identity.svid != nullptr && identity.svid->id == entry.spiffe_id) {
      return identity.svid;
    }
  }
  return nullptr;
}

void TokenCallers::Svid(const TokenCaller& caller, GotSvid done) {
  const spiffe::Selectors& selectors = caller.evidence->selectors;
  const std::string key = KeyOf(selectors);
  SvidPtr found;
  absl::Status refused;
  bool entered = false, is_new = false;
  {
    MutexLock lock(mutex_);
    if (stopping_) {
      refused = absl::UnavailableError("the agent is stopping");
    } else {
      std::shared_ptr<Kept>& kept = kept_[key];
      ++within_;
      entered = true;
      is_new = kept == nullptr;
      if (is_new) kept = std::make_shared<Kept>();
      kept->used = clock_.Steady();
      found = Find(kept->latest, *caller.entry);
      if (found == nullptr && waiting_ >= options_.max_waiting) {
        refused = absl::UnavailableError("too many requests wait for an SVID: try again later");
      } else if (found == nullptr) {
        ++waiting_;
        kept->waiting.push_back({caller.entry, clock_.Steady() + options_.wait_svid, std::move(done)});
        done = nullptr;
      }
    }
  }
  if (entered) {
    if (is_new) Subscribe(key, selectors);
    if (done == nullptr) expirer_->Wake();
    Leave();
  }
  if (done == nullptr) return;
  if (!refused.ok()) return done(std::move(refused));
  done(std::move(found));
}

void TokenCallers::Subscribe(const std::string& key, const spiffe::Selectors& selectors) {
  auto subscription = cache_.Subscribe(selectors, [this, key](UpdatePtr update) { OnUpdate(key, std::move(update)); });
  {
    MutexLock lock(mutex_);
    const auto kept = kept_.find(key);
    if (kept != kept_.end() && kept->second->subscription == nullptr) {
      kept->second->subscription = std::move(subscription);
    }
  }
  Tidy();
}

void TokenCallers::OnUpdate(const std::string& key, UpdatePtr update) {
  std::vector<std::pair<GotSvid, SvidPtr>> ready;
  {
    MutexLock lock(mutex_);
    const auto it = kept_.find(key);
    if (it == kept_.end()) return;
    Kept& kept = *it->second;
    kept.latest = std::move(update);
    std::erase_if(kept.waiting, [&](Waiter& waiter) {
      SvidPtr svid = Find(kept.latest, *waiter.entry);
      if (svid == nullptr) return false;
      ready.emplace_back(std::move(waiter.done), std::move(svid));
      return true;
    });
    waiting_ -= ready.size();
  }
  for (auto& [done, svid] : ready) done(std::move(svid));
}

absl::Duration TokenCallers::Expire() {
  std::vector<GotSvid> overdue;
  absl::Duration next = absl::InfiniteDuration();
  const absl::Duration now = clock_.Steady();
  {
    MutexLock lock(mutex_);
    for (auto& [_, kept] : kept_) {
      std::erase_if(kept->waiting, [&](Waiter& waiter) {
        if (waiter.until > now) {
          next = std::min(next, waiter.until - now);
          return false;
        }
        overdue.push_back(std::move(waiter.done));
        return true;
      });
    }
    waiting_ -= overdue.size();
  }
  for (GotSvid& done : overdue) {
    done(absl::UnavailableError("no X.509-SVID could be had from the server in time: try again later"));
  }
  return next;
}

void TokenCallers::Tidy() {
  std::vector<std::shared_ptr<Kept>> dropped;  // without the lock: a subscription waits for a call that runs
  MutexLock lock(mutex_);
  const absl::Duration before = clock_.Steady() - options_.keep_fresh;
  const auto drop = [&](auto it) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    dropped.push_back(std::move(it->second));
    kept_.erase(it);
  };
  for (auto it = kept_.begin(); it != kept_.end();) {
    const auto at = it++;
    if (at->second->used < before && at->second->waiting.empty()) drop(at);
  }
  while (kept_.size() > options_.max_kept) {
    auto oldest = kept_.end();
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      if (!it->second->waiting.empty() || it->second->subscription == nullptr) continue;
      if (oldest == kept_.end() || it->second->used < oldest->second->used) oldest = it;
    }
    if (oldest == kept_.end()) break;
    drop(oldest);
  }
}

}  // namespace signet::agent
