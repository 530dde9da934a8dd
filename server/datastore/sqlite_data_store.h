// DataStore in one SQLite file: one writer with group commit (sqlite_writer.h), a few read-only connections for
// look-ups and lists. Only server/datastore/registry and tests name this type. Thread-safe. The destructor writes what
// is queued.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/datastore/data_store.h"
#include "server/datastore/sqlite_readers.h"
#include "server/datastore/sqlite_writer.h"

namespace signet::server {

class SqliteDataStore final : public DataStore {
 public:
  struct Options {
    std::string path;  // created 0600 when absent; its folder must exist
    size_t readers = 4;
    SqliteWriter::Options writer = {};
  };
  static absl::StatusOr<std::unique_ptr<SqliteDataStore>> Open(Options options);
  ~SqliteDataStore() override;

  void CreateEntries(std::vector<spiffe::Entry> entries, absl::Time now,
                     Completion<std::vector<EntryResult>> done) override;
  void UpdateEntries(std::vector<spiffe::Entry> entries, EntryFields fields,
                     Completion<std::vector<EntryResult>> done) override;
  void DeleteEntries(std::vector<std::string> ids, Completion<std::vector<absl::Status>> done) override;
  void PruneExpiredEntries(absl::Time now, size_t limit, Completion<size_t> done) override;
  absl::StatusOr<spiffe::Entry> GetEntry(const std::string& id) override;
  absl::StatusOr<std::vector<spiffe::Entry>> GetEntries(const std::vector<std::string>& ids) override;
  absl::StatusOr<Page<spiffe::Entry>> ListEntries(const EntryFilter& filter, const PageRequest& page) override;
  absl::StatusOr<size_t> CountEntries(const EntryFilter& filter) override;

  void Attest(Attestation attestation, absl::Time now, StatusCompletion done) override;
  void SetNewSerial(const spiffe::Id& id, std::string serial, absl::Time expires_at, StatusCompletion done) override;
  void ConfirmSerial(const spiffe::Id& id, std::string serial, StatusCompletion done) override;
  void SetAgentVersion(const spiffe::Id& id, std::string version, StatusCompletion done) override;
  void BanAgent(const spiffe::Id& id, StatusCompletion done) override;
  void DeleteAgent(const spiffe::Id& id, StatusCompletion done) override;
  void PruneAgents(absl::Time expired_before, bool include_tofu, size_t limit, Completion<size_t> done) override;
  absl::StatusOr<AgentRecord> GetAgent(const spiffe::Id& id) override;
  absl::StatusOr<Page<AgentRecord>> ListAgents(const AgentFilter& filter, const PageRequest& page) override;
  absl::StatusOr<size_t> CountAgents(const AgentFilter& filter) override;

  void CreateJoinToken(JoinTokenRecord token, StatusCompletion done) override;
  absl::StatusOr<JoinTokenRecord> FindJoinToken(const std::string& token_sha256, absl::Time now) override;
  void PruneJoinTokens(absl::Time now, Completion<size_t> done) override;

  absl::StatusOr<spiffe::Bundle> GetBundle(const spiffe::TrustDomain& trust_domain) override;
  absl::StatusOr<std::vector<spiffe::Bundle>> ListBundles() override;
  void ChangeBundle(const spiffe::TrustDomain& trust_domain, BundleChange change,
                    Completion<spiffe::Bundle> done) override;

  void CreateFederations(std::vector<FederationRelationship> relationships,
                         Completion<std::vector<FederationResult>> done) override;
  void UpdateFederations(std::vector<FederationRelationship> relationships, FederationFields fields,
                         Completion<std::vector<FederationResult>> done) override;
  void DeleteFederations(std::vector<spiffe::TrustDomain> trust_domains,
                         Completion<std::vector<absl::Status>> done) override;
  absl::StatusOr<FederationRelationship> GetFederation(const spiffe::TrustDomain& trust_domain) override;
  absl::StatusOr<Page<FederationRelationship>> ListFederations(const PageRequest& page) override;
  void SetFetchedBundle(spiffe::Bundle bundle, Completion<bool> done) override;

  absl::StatusOr<std::string> LoadJournal(const std::string& server_id) override;
  void SaveJournal(const std::string& server_id, std::string journal, const spiffe::TrustDomain& trust_domain,
                   BundleChange publish, Completion<spiffe::Bundle> done) override;

  void Record(IssuedSvid issued) override;

  absl::StatusOr<std::vector<Change>> ReadChanges(uint64_t after, size_t limit) override;
  absl::StatusOr<uint64_t> LastSeq() override;
  void SetWakeUp(std::function<void()> wake_up) override;
  absl::StatusOr<std::string> Epoch() override;

  void CreateIdentity(IdentityRecord record, absl::Time now, Completion<IdentityRecord> done) override;
  void UpdateIdentity(IdentityRecord record, absl::Time now, Completion<IdentityRecord> done) override;
  absl::StatusOr<Page<IdentityRecord>> ListIdentities(const PageRequest& page) override;
  absl::StatusOr<IdentityRecord> GetIdentity(const std::string& spiffe_id) override;
  void PutIssuer(IssuerRecord record, Completion<IssuerRecord> done) override;
  void DeleteIssuer(const std::string& url, StatusCompletion done) override;
  absl::StatusOr<IssuerRecord> GetIssuer(const std::string& url) override;
  absl::StatusOr<Page<IssuerRecord>> ListIssuers(const PageRequest& page) override;
  void PutResource(ResourceRecord record, Completion<ResourceRecord> done) override;
  void DeleteResource(const std::string& uri, StatusCompletion done) override;
  absl::StatusOr<ResourceRecord> GetResource(const std::string& uri) override;
  absl::StatusOr<Page<ResourceRecord>> ListResources(const PageRequest& page) override;
  void CreateGrant(GrantRecord record, absl::Time now, Completion<GrantRecord> done) override;
  absl::StatusOr<GrantRecord> GetGrant(const std::string& id) override;
  absl::StatusOr<Page<GrantRecord>> ListGrants(const PageRequest& page) override;
  void CreateTask(TaskRecord record, absl::Time now, Completion<TaskRecord> done) override;
  absl::StatusOr<TaskRecord> GetTask(const std::string& id) override;
  absl::StatusOr<Page<TaskRecord>> ListTasks(const PageRequest& page) override;
  void PutUserRights(UserRightsRecord record, Completion<UserRightsRecord> done) override;
  absl::StatusOr<UserRightsRecord> GetUserRights(const std::string& issuer, const std::string& subject) override;
  absl::StatusOr<Page<UserRightsRecord>> ListUserRights(const PageRequest& page) override;

  void Revoke(RevokeChange change, absl::Time now, Completion<uint64_t> done) override;
  void Reinstate(oauth::EntityKind kind, const std::string& entity, absl::Time now, Completion<uint64_t> done) override;
  void ActivateIdentity(const std::string& spiffe_id, absl::Time now, Completion<IdentityRecord> done) override;
  absl::StatusOr<oauth::Revocation> GetRevocation(oauth::EntityKind kind, const std::string& entity) override;
  absl::StatusOr<Page<oauth::Revocation>> ListRevocations(const PageRequest& page) override;
  void PruneRevocations(absl::Time older_than, absl::Time tokens_older_than, Completion<size_t> done) override;

  void Commit(Consume consume, absl::Time now, StatusCompletion done) override;
  absl::StatusOr<RefreshRecord> GetRefresh(const std::string& hash) override;
  void PruneUses(absl::Time now, Completion<size_t> done) override;
  absl::StatusOr<std::vector<AuditRecord>> ReadAudit(const std::string& server_id, uint64_t epoch, uint64_t after_seq,
                                                     size_t limit) override;
  absl::StatusOr<std::vector<AuditRecord>> ReadAuditOfChain(const std::string& txn, size_t limit) override;
  absl::StatusOr<AuditRecord> LastAudit(const std::string& server_id) override;
  absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> AuditChains() override;

  absl::Status Check() override;

 private:
  SqliteDataStore(std::unique_ptr<SqliteReaders> readers, std::unique_ptr<SqliteWriter> writer);

  const std::unique_ptr<SqliteReaders> readers_;
  const std::unique_ptr<SqliteWriter> writer_;
};

}  // namespace signet::server
