// Memory serves: entries, agents and bundles as the hot path reads them, kept current by the change feed.
// An agent that is known and not banned is authorised for
//   - the entries whose parent is its own ID,
//   - its node aliases: entries whose parent is /spire/server and whose selectors are a subset of the agent's,
//   - the entries whose parent is the SPIFFE ID of an entry it is authorised for; a cycle ends at the first repeat.
// This is kept up incrementally (entry_graph.h): a change touches only the agents it concerns and tells their
// listeners. Thread-safe: readers share a lock for a look-up of O(result); the feed applier is the only writer.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/id.h"
#include "server/datastore/records.h"

namespace signet::server {

using EntryPtr = std::shared_ptr<const spiffe::Entry>;
using AgentPtr = std::shared_ptr<const AgentRecord>;
using BundlePtr = std::shared_ptr<const spiffe::Bundle>;

// What changed for one agent, merged until its listener takes it. A removal is never replaced by an older upsert.
struct AgentChange {
  uint64_t seq = 0;                          // feed position reached
  std::vector<std::string> entry_ids;        // to be looked up again with FindAuthorized: gone means removed
  std::vector<spiffe::TrustDomain> bundles;  // changed or removed
  bool agent_changed = false;                // banned, deleted, serial replaced: look it up again
};

class EntryIndex {
 public:
  virtual ~EntryIndex() = default;
  static std::unique_ptr<EntryIndex> Create(const spiffe::TrustDomain& trust_domain);

  // --- readers -------------------------------------------------------------------------------------------------------
  virtual uint64_t seq() const = 0;                             // feed position applied
  virtual EntryPtr FindEntry(const std::string& id) const = 0;  // null: unknown in memory
  virtual AgentPtr FindAgent(const spiffe::Id& id) const = 0;   // null: unknown in memory
  virtual BundlePtr FindBundle(const spiffe::TrustDomain& trust_domain) const = 0;
  virtual std::vector<EntryPtr> AuthorizedEntries(const spiffe::Id& agent_id) const = 0;  // sorted by id
  // The entry when `agent_id` is authorised for it now; null otherwise. What signing asks at call time.
  virtual EntryPtr FindAuthorized(const spiffe::Id& agent_id, const std::string& entry_id) const = 0;
  // The agent whose ID has this hash (spiffe::HashOfAgent), banned or not; null: unknown in memory.
  virtual AgentPtr FindAgentByHash(const std::string& hash) const = 0;
  // Entries with exactly this SPIFFE ID: admin and downstream flags of a caller.
  virtual std::vector<EntryPtr> EntriesWithSpiffeId(const spiffe::Id& id) const = 0;
  virtual size_t entry_count() const = 0;
  virtual size_t agent_count() const = 0;

  // Calls `on_change` (on the applier's thread, must be quick) whenever something concerns this agent: entries it is or
  // was authorised for, its own record, the bundle of its trust domain and of those its entries federate with. Several
  // listeners an agent are allowed, and the agent need not be known. Dropping the handle ends the calls and waits for a
  // running one, unless it is dropped from within the call.
  using Listener = std::function<void(const AgentChange&)>;
  class Subscription {
   public:
    virtual ~Subscription() = default;
  };
  [[nodiscard]] virtual std::unique_ptr<Subscription> Subscribe(const spiffe::Id& agent_id, Listener on_change) = 0;

  // --- the feed applier ----------------------------------------------------------------------------------------------
  struct Update {
    uint64_t seq = 0;
    bool whole = false;                                     // names all there is: what it does not name is gone
    std::vector<std::pair<std::string, EntryPtr>> entries;  // id -> now, null: deleted
    std::vector<std::pair<spiffe::Id, AgentPtr>> agents;    // id -> now, null: deleted
    std::vector<std::pair<spiffe::TrustDomain, BundlePtr>> bundles;  // name -> now, null: deleted
  };
  virtual void Apply(Update update) = 0;
};

}  // namespace signet::server
