#include "server/token/token_registry.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/concurrency/reader_writer_lock.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr size_t kPage = 1000;  // records a read

template <typename T>
using Map = absl::flat_hash_map<std::string, std::shared_ptr<const T>>;

template <typename T>
std::shared_ptr<const T> Find(const Map<T>& map, const std::string& key) {
  auto it = map.find(key);
  return it == map.end() ? nullptr : it->second;
}

// "<kind>/<entity>", as the feed names a revocation.
std::string RevocationKey(oauth::EntityKind kind, absl::string_view entity) {
  return absl::StrCat(static_cast<int>(kind), "/", entity);
}

// All records at one feed position.
struct Records {
  Map<IdentityRecord> identities;
  Map<IssuerRecord> issuers;
  Map<ResourceRecord> resources;
  Map<GrantRecord> grants;
  Map<TaskRecord> tasks;
  Map<UserRightsRecord> rights;
  absl::flat_hash_map<std::string, oauth::Revocation> revocations;  // the applier's thread alone
  // Who consents to what: "issuer subject identity" -> grant ids. A subject may hold spaces, so the identity comes
  // first.
  absl::flat_hash_map<std::string, std::set<std::string>> grants_of;

  static std::string GrantsKey(absl::string_view issuer, absl::string_view subject, absl::string_view identity) {
    return absl::StrCat(identity, " ", oauth::UserKey(issuer, subject));
  }
  void SetGrant(const std::string& id, std::shared_ptr<const GrantRecord> grant) {
    auto it = grants.find(id);
    if (it != grants.end()) {
      const std::string key = GrantsKey(it->second->user_issuer, it->second->user_subject, it->second->identity);
      auto of = grants_of.find(key);
      if (of != grants_of.end() && of->second.erase(id) != 0 && of->second.empty()) grants_of.erase(of);
      grants.erase(it);
    }
    if (grant == nullptr) return;
    grants_of[GrantsKey(grant->user_issuer, grant->user_subject, grant->identity)].insert(id);
    grants.emplace(id, std::move(grant));
  }
};

// What a batch of the feed reads anew: null means gone.
struct Update {
  Map<IdentityRecord> identities;
  Map<IssuerRecord> issuers;
  Map<ResourceRecord> resources;
  Map<GrantRecord> grants;
  Map<TaskRecord> tasks;
  Map<UserRightsRecord> rights;
  absl::flat_hash_map<std::string, std::optional<oauth::Revocation>> revocations;
};

template <typename T>
absl::Status Keep(Map<T>& into, const std::string& key, absl::StatusOr<T> record) {
  if (record.ok()) {
    into[key] = std::make_shared<const T>(*std::move(record));
  } else if (absl::IsNotFound(record.status())) {
    into[key] = nullptr;
  } else {
    return record.status();
  }
  return absl::OkStatus();
}

template <typename T>
void Merge(Map<T>& into, Map<T>& from) {
  for (auto& [key, record] : from) {
    if (record == nullptr) {
      into.erase(key);
    } else {
      into[key] = std::move(record);
    }
  }
}

absl::Status ReadRevocation(DataStore& store, const std::string& key, Update& update) {
  const size_t slash = key.find('/');
  int kind = 0;
  if (slash == std::string::npos || !absl::SimpleAtoi(key.substr(0, slash), &kind)) {
    return absl::DataLossError(absl::StrCat("change feed: \"", key, "\" names no revocation"));
  }
  absl::StatusOr<oauth::Revocation> revocation =
      store.GetRevocation(static_cast<oauth::EntityKind>(kind), key.substr(slash + 1));
  if (revocation.ok()) {
    update.revocations[key] = *std::move(revocation);
  } else if (absl::IsNotFound(revocation.status())) {
    update.revocations[key] = std::nullopt;
  } else {
    return revocation.status();
  }
  return absl::OkStatus();
}

absl::Status ReadChange(DataStore& store, const Change& change, Update& update) {
  switch (change.kind) {
    case Change::Kind::kIdentity:
      return Keep(update.identities, change.key, store.GetIdentity(change.key));
    case Change::Kind::kIssuer:
      return Keep(update.issuers, change.key, store.GetIssuer(change.key));
    case Change::Kind::kResource:
      return Keep(update.resources, change.key, store.GetResource(change.key));
    case Change::Kind::kGrant:
      return Keep(update.grants, change.key, store.GetGrant(change.key));
    case Change::Kind::kTask:
      return Keep(update.tasks, change.key, store.GetTask(change.key));
    case Change::Kind::kUserRights: {
      const size_t space = change.key.find(' ');  // an issuer's URL holds none
      if (space == std::string::npos) return absl::DataLossError("change feed: a key names no user");
      return Keep(update.rights, change.key,
                  store.GetUserRights(change.key.substr(0, space), change.key.substr(space + 1)));
    }
    case Change::Kind::kRevocation:
      return ReadRevocation(store, change.key, update);
    case Change::Kind::kEntry:
    case Change::Kind::kAgent:
    case Change::Kind::kBundle:
      break;
  }
  return absl::OkStatus();
}

// Calls `each` for every record of a list.
template <typename List, typename Each>
absl::Status ReadPages(const List& list, const Each& each) {
  PageRequest request{.after = "", .limit = kPage};
  do {
    auto page = list(request);
    if (!page.ok()) return page.status();
    for (auto& record : page->items) each(std::move(record));
    request.after = page->next;
  } while (!request.after.empty());
  return absl::OkStatus();
}

// Puts records into `map` under their keys.
template <typename Map, typename KeyOf>
auto Into(Map& map, KeyOf key_of) {
  return [&map, key_of](auto record) {
    std::string key = key_of(record);
    map[std::move(key)] = std::make_shared<const decltype(record)>(std::move(record));
  };
}

absl::Status ReadAll(DataStore& store, Records& all) {
  SIGNET_RETURN_IF_ERROR(ReadPages([&](const PageRequest& page) { return store.ListIdentities(page); },
                                   Into(all.identities, [](const IdentityRecord& r) { return r.spiffe_id; })));
  SIGNET_RETURN_IF_ERROR(ReadPages([&](const PageRequest& page) { return store.ListIssuers(page); },
                                   Into(all.issuers, [](const IssuerRecord& r) { return r.url; })));
  SIGNET_RETURN_IF_ERROR(ReadPages([&](const PageRequest& page) { return store.ListResources(page); },
                                   Into(all.resources, [](const ResourceRecord& r) { return r.uri; })));
  SIGNET_RETURN_IF_ERROR(ReadPages([&](const PageRequest& page) { return store.ListTasks(page); },
                                   Into(all.tasks, [](const TaskRecord& r) { return r.id; })));
  SIGNET_RETURN_IF_ERROR(
      ReadPages([&](const PageRequest& page) { return store.ListUserRights(page); },
                Into(all.rights, [](const UserRightsRecord& r) { return oauth::UserKey(r.issuer, r.subject); })));
  SIGNET_RETURN_IF_ERROR(ReadPages([&](const PageRequest& page) { return store.ListGrants(page); },
                                   [&](GrantRecord record) {
                                     const std::string key = record.id;
                                     all.SetGrant(key, std::make_shared<const GrantRecord>(std::move(record)));
                                   }));
  return ReadPages([&](const PageRequest& page) { return store.ListRevocations(page); },
                   [&](oauth::Revocation record) {
                     const std::string key = RevocationKey(record.kind, record.entity);
                     all.revocations[key] = std::move(record);
                   });
}

std::shared_ptr<const oauth::RevocationSet> SetOf(const Records& records) {
  std::vector<oauth::Revocation> list;
  list.reserve(records.revocations.size());
  for (const auto& [key, revocation] : records.revocations) list.push_back(revocation);
  return std::make_shared<const oauth::RevocationSet>(list);
}

class MemoryTokenRegistry final : public TokenRegistry {
 public:
  explicit MemoryTokenRegistry(spiffe::TrustDomain own) : own_(std::move(own)) {}

  uint64_t seq() const override { return seq_; }
  std::shared_ptr<const IdentityRecord> FindIdentity(const std::string& spiffe_id) const override {
    return lock_.Read([&] { return Find(records_.identities, spiffe_id); });
  }
  std::shared_ptr<const IdentityRecord> IdentityOf(const std::string& instance) const override;
  std::shared_ptr<const IssuerRecord> FindIssuer(const std::string& url) const override {
    return lock_.Read([&] { return Find(records_.issuers, url); });
  }
  std::shared_ptr<const ResourceRecord> FindResource(const std::string& uri) const override {
    return lock_.Read([&] { return Find(records_.resources, uri); });
  }
  std::shared_ptr<const GrantRecord> FindGrant(const std::string& id) const override {
    return lock_.Read([&] { return Find(records_.grants, id); });
  }
  std::vector<std::shared_ptr<const GrantRecord>> GrantsOf(const std::string& issuer, const std::string& subject,
                                                           const std::string& identity) const override;
  std::shared_ptr<const TaskRecord> FindTask(const std::string& id) const override {
    return lock_.Read([&] { return Find(records_.tasks, id); });
  }
  std::shared_ptr<const UserRightsRecord> FindUserRights(const std::string& issuer,
                                                         const std::string& subject) const override {
    return lock_.Read([&] { return Find(records_.rights, oauth::UserKey(issuer, subject)); });
  }
  std::shared_ptr<const oauth::RevocationSet> revocations() const override {
    return lock_.Read([&] { return revocations_; });
  }
  std::vector<std::shared_ptr<const ResourceRecord>> Resources() const override;

  std::unique_ptr<Subscription> Subscribe(Listener on_change) override;
  absl::Status LoadAll(DataStore& store, uint64_t seq) override;
  absl::Status Apply(DataStore& store, const std::vector<Change>& changes, uint64_t seq) override;

 private:
  class Handle;
  void Unsubscribe(uint64_t number);
  void Tell(const ChangeNote& note);

  const spiffe::TrustDomain own_;
  ReaderWriterLock lock_;
  Records records_;  // guarded by lock_
  std::shared_ptr<const oauth::RevocationSet> revocations_ = std::make_shared<oauth::RevocationSet>();  // by lock_
  std::atomic<uint64_t> seq_ = 0;

  std::mutex listeners_mutex_;
  std::condition_variable idle_;
  std::map<uint64_t, std::shared_ptr<const Listener>> listeners_;
  uint64_t last_listener_ = 0, running_ = 0;
  std::thread::id running_thread_;
};

class MemoryTokenRegistry::Handle final : public Subscription {
 public:
  Handle(MemoryTokenRegistry& registry, uint64_t number) : registry_(registry), number_(number) {}
  ~Handle() override { registry_.Unsubscribe(number_); }

 private:
  MemoryTokenRegistry& registry_;
  const uint64_t number_;
};

std::shared_ptr<const IdentityRecord> MemoryTokenRegistry::IdentityOf(const std::string& instance) const {
  return lock_.Read([&]() -> std::shared_ptr<const IdentityRecord> {
    if (auto exact = Find(records_.identities, instance)) return exact;
    if (!absl::StartsWith(instance, own_.IdString() + "/")) return nullptr;
    return Find(records_.identities, instance.substr(0, instance.rfind('/')));
  });
}

std::vector<std::shared_ptr<const GrantRecord>> MemoryTokenRegistry::GrantsOf(const std::string& issuer,
                                                                              const std::string& subject,
                                                                              const std::string& identity) const {
  return lock_.Read([&] {
    std::vector<std::shared_ptr<const GrantRecord>> found;
    auto it = records_.grants_of.find(Records::GrantsKey(issuer, subject, identity));
    if (it == records_.grants_of.end()) return found;
    for (const std::string& id : it->second) {
      auto grant = Find(records_.grants, id);
      if (grant != nullptr && grant->state == GrantState::kActive) found.push_back(std::move(grant));
    }
    return found;
  });
}

std::vector<std::shared_ptr<const ResourceRecord>> MemoryTokenRegistry::Resources() const {
  return lock_.Read([&] {
    std::vector<std::shared_ptr<const ResourceRecord>> all;
    all.reserve(records_.resources.size());
    for (const auto& [uri, resource] : records_.resources) all.push_back(resource);
    return all;
  });
}

absl::Status MemoryTokenRegistry::LoadAll(DataStore& store, uint64_t seq) {
  Records all;
  SIGNET_RETURN_IF_ERROR(ReadAll(store, all));
  std::shared_ptr<const oauth::RevocationSet> revocations = SetOf(all);
  ChangeNote note{.seq = seq};
  for (const auto& [uri, resource] : all.resources) note.resources.push_back(uri);
  for (const auto& [key, revocation] : all.revocations) note.revocations.push_back(revocation);
  lock_.Write([&] {
    std::swap(records_, all);
    std::swap(revocations_, revocations);
    seq_ = seq;
  });
  for (const auto& [uri, resource] : all.resources) {  // those that are gone
    if (FindResource(uri) == nullptr) note.resources.push_back(uri);
  }
  Tell(note);
  return absl::OkStatus();
}

absl::Status MemoryTokenRegistry::Apply(DataStore& store, const std::vector<Change>& changes, uint64_t seq) {
  Update update;
  std::set<std::pair<Change::Kind, absl::string_view>> seen;
  for (const Change& change : changes) {
    if (!seen.insert({change.kind, change.key}).second) continue;
    SIGNET_RETURN_IF_ERROR(ReadChange(store, change, update));
  }
  ChangeNote note{.seq = seq};
  for (const auto& [uri, resource] : update.resources) note.resources.push_back(uri);
  for (const auto& [key, revocation] : update.revocations) {
    if (revocation) note.revocations.push_back(*revocation);
  }
  // Only this thread writes, so the revocations may be read, and the new set built, outside the lock.
  std::shared_ptr<const oauth::RevocationSet> revocations;
  if (!update.revocations.empty()) {
    for (auto& [key, revocation] : update.revocations) {
      if (revocation) {
        records_.revocations[key] = *std::move(revocation);
      } else {
        records_.revocations.erase(key);
      }
    }
    revocations = SetOf(records_);
  }
  lock_.Write([&] {
    Merge(records_.identities, update.identities);
    Merge(records_.issuers, update.issuers);
    Merge(records_.resources, update.resources);
    for (auto& [id, grant] : update.grants) records_.SetGrant(id, std::move(grant));
    Merge(records_.tasks, update.tasks);
    Merge(records_.rights, update.rights);
    if (revocations != nullptr) std::swap(revocations_, revocations);
    seq_ = seq;
  });
  Tell(note);
  return absl::OkStatus();
}

std::unique_ptr<TokenRegistry::Subscription> MemoryTokenRegistry::Subscribe(Listener on_change) {
  std::lock_guard lock(listeners_mutex_);
  listeners_[++last_listener_] = std::make_shared<const Listener>(std::move(on_change));
  return std::make_unique<Handle>(*this, last_listener_);
}

void MemoryTokenRegistry::Unsubscribe(uint64_t number) {
  std::unique_lock lock(listeners_mutex_);
  listeners_.erase(number);
  if (running_thread_ == std::this_thread::get_id()) return;
  idle_.wait(lock, [&] { return running_ != number; });
}

void MemoryTokenRegistry::Tell(const ChangeNote& note) {
  uint64_t number = 0;
  for (;;) {
    std::shared_ptr<const Listener> call;
    {
      std::lock_guard lock(listeners_mutex_);
      auto it = listeners_.upper_bound(number);
      if (it == listeners_.end()) return;
      number = it->first;
      call = it->second;
      running_ = number;
      running_thread_ = std::this_thread::get_id();
    }
    (*call)(note);
    {
      std::lock_guard lock(listeners_mutex_);
      running_ = 0;
      running_thread_ = {};
    }
    idle_.notify_all();
  }
}

}  // namespace

std::unique_ptr<TokenRegistry> TokenRegistry::Create(spiffe::TrustDomain own) {
  return std::make_unique<MemoryTokenRegistry>(std::move(own));
}

}  // namespace signet::server
