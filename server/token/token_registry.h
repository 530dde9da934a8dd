// Memory serves: the token service's records as its hot path reads them, kept current by the change feed (FeedApplier
// is the only writer). Records are immutable snapshots. Thread-safe; a look-up takes a short shared lock.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/oauth/introspection.h"
#include "common/oauth/revocation.h"
#include "common/spiffe/id.h"
#include "server/datastore/data_store.h"
#include "server/datastore/token_records.h"

namespace signet::server {

class TokenRegistry {
 public:
  virtual ~TokenRegistry() = default;
  static std::unique_ptr<TokenRegistry> Create(spiffe::TrustDomain own);

  virtual uint64_t seq() const = 0;  // feed position applied
  virtual std::shared_ptr<const IdentityRecord> FindIdentity(const std::string& spiffe_id) const = 0;
  // The definition an instance belongs to: the identity with this very SPIFFE ID, else, in the own trust domain alone,
  // the one at the path above it (T7: a federated client is registered with its full SPIFFE ID).
  virtual std::shared_ptr<const IdentityRecord> IdentityOf(const std::string& instance_spiffe_id) const = 0;
  virtual std::shared_ptr<const IssuerRecord> FindIssuer(const std::string& url) const = 0;
  virtual std::shared_ptr<const ResourceRecord> FindResource(const std::string& uri) const = 0;
  virtual std::shared_ptr<const GrantRecord> FindGrant(const std::string& id) const = 0;
  // Active grants of this user for this identity.
  virtual std::vector<std::shared_ptr<const GrantRecord>> GrantsOf(const std::string& issuer,
                                                                   const std::string& subject,
                                                                   const std::string& identity) const = 0;
  virtual std::shared_ptr<const TaskRecord> FindTask(const std::string& id) const = 0;
  virtual std::shared_ptr<const UserRightsRecord> FindUserRights(const std::string& issuer,
                                                                 const std::string& subject) const = 0;
  virtual std::shared_ptr<const oauth::RevocationSet> revocations() const = 0;

  // What agents are pushed: resources and revocations (not keys: the signer's). `on_change` runs on the applier's
  // thread, after the registry shows the change; must be quick. It runs for every position applied, also when nothing
  // of the lists moved: an agent answers locally only up to the position it was told (T4).
  virtual std::vector<std::shared_ptr<const ResourceRecord>> Resources() const = 0;
  struct ChangeNote {
    uint64_t seq = 0;
    std::vector<std::string> resources;          // changed or gone URIs
    std::vector<oauth::Revocation> revocations;  // new or changed
  };
  using Listener = std::function<void(const ChangeNote&)>;
  class Subscription {
   public:
    virtual ~Subscription() = default;  // waits for a running call unless dropped from within it
  };
  [[nodiscard]] virtual std::unique_ptr<Subscription> Subscribe(Listener on_change) = 0;

  // --- the feed applier: reads the named records anew and shows them; an error leaves all as it was -----------------
  virtual absl::Status LoadAll(DataStore& store, uint64_t seq) = 0;
  virtual absl::Status Apply(DataStore& store, const std::vector<Change>& changes, uint64_t seq) = 0;
};

}  // namespace signet::server
