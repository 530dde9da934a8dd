// What the Workload API reads: entries, SVIDs and bundles as the server last told, and ready-made responses.
// The Synchronizer is the only writer. Thread-safe; readers copy shared_ptrs under a short lock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/jwt_svid.h"
#include "common/spiffe/x509_svid.h"

namespace signet::agent {

using EntryPtr = std::shared_ptr<const spiffe::Entry>;
using SvidPtr = std::shared_ptr<const spiffe::X509Svid>;
using BundlePtr = std::shared_ptr<const spiffe::Bundle>;
using BundleMap = std::map<std::string, BundlePtr>;  // by trust domain name; the own one always present once synced

struct Identity {
  EntryPtr entry;
  SvidPtr svid;  // null: not minted yet
};

// All that one set of selectors is entitled to, whole (WL-3). Immutable and shared by every stream with the same set.
struct WorkloadUpdate {
  std::vector<Identity> identities;  // oldest entry first, duplicates of a hint dropped (WL-13, WL-24); never null svid
  BundlePtr own_bundle;
  BundleMap federated_bundles;  // only what the identities federate with
  // FetchX509SVID's response message, serialised once; empty when there is no identity.
  std::string x509_response;
};
using UpdatePtr = std::shared_ptr<const WorkloadUpdate>;

class SvidCache {
 public:
  virtual ~SvidCache() = default;

  // Entries whose selectors are a subset of `selectors`, in the order of WorkloadUpdate.
  virtual std::vector<EntryPtr> MatchingEntries(const spiffe::Selectors& selectors) const = 0;

  // Marks the matching entries as wanted, so that they are minted and kept fresh, and calls `on_update` (never inline,
  // on the cache's notifier thread) with the first whole update, and again with each later one that differs. An update
  // without identities means "not entitled to anything". The first call comes once every matching entry has an SVID;
  // `ready` false until the first sync: then Unavailable.
  class Subscription {
   public:
    virtual ~Subscription() = default;  // ends the calls; waits for a running one unless called from within it
  };
  using OnUpdate = std::function<void(UpdatePtr)>;
  [[nodiscard]] virtual std::unique_ptr<Subscription> Subscribe(spiffe::Selectors selectors, OnUpdate on_update) = 0;

  virtual bool ready() const = 0;  // synced with a server, or restored from the sealed cache
  virtual BundlePtr OwnBundle() const = 0;
  virtual BundlePtr FindBundle(const std::string& trust_domain) const = 0;

  struct JwtResult {
    spiffe::Id id;
    std::string token;
    std::string hint;
  };
  // From the JWT cache, or minted by the server. `done` may run inline on a hit. kUnavailable: no server and none
  // cached.
  virtual void FetchJwt(EntryPtr entry, std::vector<std::string> audience,
                        std::function<void(absl::StatusOr<JwtResult>)> done) = 0;

  struct Counts {
    size_t entries = 0, x509_svids = 0, jwt_svids = 0, subscriptions = 0;
    absl::Time last_sync = absl::InfinitePast();
  };
  virtual Counts counts() const = 0;
};

}  // namespace signet::agent
