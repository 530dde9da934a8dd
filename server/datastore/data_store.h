// Seam for everything that must be remembered: narrow stores, one for each kind of record, and DataStore of all of
// them. Writes are asynchronous: the completion runs once the change is durable (or refused), on the store's writer
// thread; it must be quick and must not block. What was acknowledged survives kill -9 and power loss. Each write adds
// its change feed rows in the same transaction. Reads block: run them on an Executor, or before serving. Thread-safe.
// Errors: kNotFound, kAlreadyExists, kInvalidArgument as facts of the record; kUnavailable the store cannot be reached
// or written now, retry; kDataLoss a damaged store, named.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/datastore/completion.h"
#include "server/datastore/records.h"
#include "server/datastore/token_store.h"

namespace signet::server {

class EntryStore {
 public:
  virtual ~EntryStore() = default;
  // Sets id (when empty), created_at (`now`) and revision 0. Items are independent: one may fail, others stand.
  // kAlreadyExists: the id is taken, or an entry with the same (parent, spiffe id, selectors) exists.
  virtual void CreateEntries(std::vector<spiffe::Entry> entries, absl::Time now,
                             Completion<std::vector<EntryResult>> done) = 0;
  // By id; `fields` says what is replaced; the revision grows by one even if nothing differs.
  virtual void UpdateEntries(std::vector<spiffe::Entry> entries, EntryFields fields,
                             Completion<std::vector<EntryResult>> done) = 0;
  virtual void DeleteEntries(std::vector<std::string> ids, Completion<std::vector<absl::Status>> done) = 0;
  // Deletes entries whose expires_at is set and not after `now`, at most `limit`; the number deleted.
  virtual void PruneExpiredEntries(absl::Time now, size_t limit, Completion<size_t> done) = 0;

  virtual absl::StatusOr<spiffe::Entry> GetEntry(const std::string& id) = 0;
  virtual absl::StatusOr<std::vector<spiffe::Entry>> GetEntries(const std::vector<std::string>& ids) = 0;  // found ones
  virtual absl::StatusOr<Page<spiffe::Entry>> ListEntries(const EntryFilter& filter, const PageRequest& page) = 0;
  virtual absl::StatusOr<size_t> CountEntries(const EntryFilter& filter) = 0;
};

// What an attestation writes, in one transaction.
struct Attestation {
  AgentRecord agent;                                // created, or replaces the record of the same id
  std::optional<std::string> consume_token_sha256;  // kNotFound when absent, spent or expired at `now`
  std::string key_sha256;                           // of the agent's SPKI; empty: the token is gone once spent
  std::optional<spiffe::Entry> alias;               // created with it; ignored when it exists already
};
// How long the key that spent a token may show it again, as long as its agent exists: the server may have ended between
// commit and reply. It gets another SVID for the same key, so that of any number of racers one key still has the agent.
inline constexpr absl::Duration kSpentTokenLasts = absl::Minutes(5);

class AgentStore {
 public:
  virtual ~AgentStore() = default;
  // kPermissionDenied when the stored agent is banned. With a token: exactly one of any number of racers wins.
  virtual void Attest(Attestation attestation, absl::Time now, StatusCompletion done) = 0;
  // A renewal: stores new_serial and new_expires_at. kNotFound; kPermissionDenied when banned.
  virtual void SetNewSerial(const spiffe::Id& id, std::string serial, absl::Time expires_at, StatusCompletion done) = 0;
  // The agent used its new SVID: new_serial becomes serial. No-op when it is that already. kFailedPrecondition when it
  // is neither.
  virtual void ConfirmSerial(const spiffe::Id& id, std::string serial, StatusCompletion done) = 0;
  virtual void SetAgentVersion(const spiffe::Id& id, std::string version, StatusCompletion done) = 0;
  virtual void BanAgent(const spiffe::Id& id, StatusCompletion done) = 0;     // kNotFound
  virtual void DeleteAgent(const spiffe::Id& id, StatusCompletion done) = 0;  // kNotFound
  // Never banned agents, and those that cannot re-attest only with `include_tofu`; the number deleted, at most `limit`.
  virtual void PruneAgents(absl::Time expired_before, bool include_tofu, size_t limit, Completion<size_t> done) = 0;

  virtual absl::StatusOr<AgentRecord> GetAgent(const spiffe::Id& id) = 0;
  virtual absl::StatusOr<Page<AgentRecord>> ListAgents(const AgentFilter& filter, const PageRequest& page) = 0;
  virtual absl::StatusOr<size_t> CountAgents(const AgentFilter& filter) = 0;
};

class JoinTokenStore {
 public:
  virtual ~JoinTokenStore() = default;
  virtual void CreateJoinToken(JoinTokenRecord token, StatusCompletion done) = 0;  // kAlreadyExists
  // kNotFound when unknown or expired at `now`, as a spent one is after kSpentTokenLasts. Only a look: Attest()
  // consumes.
  virtual absl::StatusOr<JoinTokenRecord> FindJoinToken(const std::string& token_sha256, absl::Time now) = 0;
  virtual void PruneJoinTokens(absl::Time now, Completion<size_t> done) = 0;
};

class BundleStore {
 public:
  virtual ~BundleStore() = default;
  virtual absl::StatusOr<spiffe::Bundle> GetBundle(const spiffe::TrustDomain& trust_domain) = 0;
  virtual absl::StatusOr<std::vector<spiffe::Bundle>> ListBundles() = 0;
  // Creates the bundle when there is none. Completes with the bundle as stored.
  virtual void ChangeBundle(const spiffe::TrustDomain& trust_domain, BundleChange change,
                            Completion<spiffe::Bundle> done) = 0;
};

// Federation relationships, by foreign trust domain. No part of memory follows them: they have no place in the change
// feed, but the bundles written with them have.
class FederationStore {
 public:
  virtual ~FederationStore() = default;
  // A bundle given is stored in the same transaction. Items are independent. kAlreadyExists.
  virtual void CreateFederations(std::vector<FederationRelationship> relationships,
                                 Completion<std::vector<FederationResult>> done) = 0;
  virtual void UpdateFederations(std::vector<FederationRelationship> relationships, FederationFields fields,
                                 Completion<std::vector<FederationResult>> done) = 0;  // kNotFound
  // The bundles stay. kNotFound.
  virtual void DeleteFederations(std::vector<spiffe::TrustDomain> trust_domains,
                                 Completion<std::vector<absl::Status>> done) = 0;
  virtual absl::StatusOr<FederationRelationship> GetFederation(const spiffe::TrustDomain& trust_domain) = 0;
  virtual absl::StatusOr<Page<FederationRelationship>> ListFederations(const PageRequest& page) = 0;
  // A fetched bundle, whole, in the place of what was stored: its sequence number is its own trust domain's. Nothing is
  // written when it is stored like this already; completes with true when it was not. kNotFound: the relationship has
  // been deleted meanwhile.
  virtual void SetFetchedBundle(spiffe::Bundle bundle, Completion<bool> done) = 0;
};

// The CA's journal: opaque bytes for each server id, written together with what it publishes.
class JournalStore {
 public:
  virtual ~JournalStore() = default;
  virtual absl::StatusOr<std::string> LoadJournal(const std::string& server_id) = 0;  // kNotFound
  // Journal and bundle in one transaction: an authority is never used before it is published.
  virtual void SaveJournal(const std::string& server_id, std::string journal, const spiffe::TrustDomain& trust_domain,
                           BundleChange publish, Completion<spiffe::Bundle> done) = 0;
};

// What was issued. Written in batches off the signing path: the last batch may be lost at power loss or kill -9.
struct IssuedSvid {
  std::string serial;  // decimal; of a JWT-SVID: empty
  std::string spiffe_id, entry_id, agent_id, key_sha256_hex;
  absl::Time issued_at, expires_at;
};
class IssuanceLog {
 public:
  virtual ~IssuanceLog() = default;
  virtual void Record(IssuedSvid issued) = 0;  // never blocks; drops (and counts) when 65 536 wait
};

// The change feed: how memory learns of the database.
class ChangeFeed {
 public:
  virtual ~ChangeFeed() = default;
  // In order of seq. kOutOfRange: what followed `after` may have been pruned, or `after` is of another history: read
  // everything anew.
  virtual absl::StatusOr<std::vector<Change>> ReadChanges(uint64_t after, size_t limit) = 0;
  virtual absl::StatusOr<uint64_t> LastSeq() = 0;
  // Called after each commit that changed something, on the writer thread: a wake-up without content.
  virtual void SetWakeUp(std::function<void()> wake_up) = 0;
  virtual absl::StatusOr<std::string> Epoch() = 0;  // new with each database and each restore
};

class DataStore : public EntryStore,
                  public AgentStore,
                  public JoinTokenStore,
                  public BundleStore,
                  public FederationStore,
                  public JournalStore,
                  public IssuanceLog,
                  public ChangeFeed,
                  public TokenRegistryStore,
                  public RevocationStore,
                  public TokenUseStore {
 public:
  // OK while reads and writes work: what readiness asks. May block for a write.
  virtual absl::Status Check() = 0;
};

}  // namespace signet::server
