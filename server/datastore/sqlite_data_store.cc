#include "server/datastore/sqlite_data_store.h"

#include <future>
#include <utility>

#include "common/crypto/random.h"
#include "common/status/macros.h"
#include "server/datastore/agent_sql.h"
#include "server/datastore/bundle_sql.h"
#include "server/datastore/entry_sql.h"
#include "server/datastore/federation_sql.h"
#include "server/datastore/feed_sql.h"
#include "server/datastore/sqlite_readers.h"
#include "server/datastore/sqlite_schema.h"

namespace signet::server {

SqliteDataStore::SqliteDataStore(std::unique_ptr<SqliteReaders> readers, std::unique_ptr<SqliteWriter> writer)
    : readers_(std::move(readers)), writer_(std::move(writer)) {}
SqliteDataStore::~SqliteDataStore() = default;

absl::StatusOr<std::unique_ptr<SqliteDataStore>> SqliteDataStore::Open(Options options) {
  SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<SqliteConnection> connection, OpenSqliteDatabase(options.path));
  SIGNET_ASSIGN_OR_RETURN(const int64_t entries, connection->QueryInt("SELECT count(*) FROM entries"));
  auto writer = std::make_unique<SqliteWriter>(std::move(connection), entries, options.writer);
  auto readers = std::make_unique<SqliteReaders>(std::move(options.path), options.readers);
  return std::unique_ptr<SqliteDataStore>(new SqliteDataStore(std::move(readers), std::move(writer)));
}

absl::Status SqliteDataStore::Check() {
  if (!writer_->Check().ok()) {
    // It may work again (space on the disk), and nobody else need be writing: try.
    std::promise<absl::Status> written;
    writer_->Write(
        1,
        // A value that differs: what is written as it was is not written at all.
        [](WriteContext& context) {
          return context.db.Run("INSERT OR REPLACE INTO meta (name, value) VALUES ('probe', ?)", crypto::RandomUuid());
        },
        [&](const absl::Status& status) { written.set_value(status); });
    SIGNET_RETURN_IF_ERROR(written.get_future().get());
  }
  return LastSeq().status();
}

// --- entries
// -----------------------------------------------------------------------------------------------------------

void SqliteDataStore::CreateEntries(std::vector<spiffe::Entry> entries, absl::Time now,
                                    Completion<std::vector<EntryResult>> done) {
  const size_t rows = entries.size();
  writer_->Write<std::vector<EntryResult>>(
      rows,
      [entries = std::move(entries), now](WriteContext& context) mutable -> absl::StatusOr<std::vector<EntryResult>> {
        std::vector<EntryResult> results;
        results.reserve(entries.size());
        for (spiffe::Entry& entry : entries) {
          SIGNET_ASSIGN_OR_RETURN(EntryResult result, InsertEntry(context, std::move(entry), now));
          results.push_back(std::move(result));
        }
        return results;
      },
      std::move(done));
}

void SqliteDataStore::UpdateEntries(std::vector<spiffe::Entry> entries, EntryFields fields,
                                    Completion<std::vector<EntryResult>> done) {
  const size_t rows = entries.size();
  writer_->Write<std::vector<EntryResult>>(
      rows,
      [entries = std::move(entries), fields](WriteContext& context) -> absl::StatusOr<std::vector<EntryResult>> {
        std::vector<EntryResult> results;
        results.reserve(entries.size());
        for (const spiffe::Entry& entry : entries) {
          SIGNET_ASSIGN_OR_RETURN(EntryResult result, UpdateEntry(context, entry, fields));
          results.push_back(std::move(result));
        }
        return results;
      },
      std::move(done));
}

void SqliteDataStore::DeleteEntries(std::vector<std::string> ids, Completion<std::vector<absl::Status>> done) {
  const size_t rows = ids.size();
  writer_->Write<std::vector<absl::Status>>(
      rows,
      [ids = std::move(ids)](WriteContext& context) -> absl::StatusOr<std::vector<absl::Status>> {
        std::vector<absl::Status> results;
        results.reserve(ids.size());
        for (const std::string& id : ids) {
          SIGNET_ASSIGN_OR_RETURN(const bool deleted, DeleteEntry(context, id));
          results.push_back(deleted ? absl::OkStatus()
                                    : absl::NotFoundError(absl::StrCat("entry \"", id, "\" does not exist")));
        }
        return results;
      },
      std::move(done));
}

void SqliteDataStore::PruneExpiredEntries(absl::Time now, size_t limit, Completion<size_t> done) {
  writer_->Write<size_t>(
      limit, [=](WriteContext& context) { return DeleteExpiredEntries(context, now, limit); }, std::move(done));
}

absl::StatusOr<spiffe::Entry> SqliteDataStore::GetEntry(const std::string& id) {
  return readers_->With([&](SqliteConnection& db) { return SelectEntry(db, id); });
}

absl::StatusOr<std::vector<spiffe::Entry>> SqliteDataStore::GetEntries(const std::vector<std::string>& ids) {
  return readers_->With([&](SqliteConnection& db) -> absl::StatusOr<std::vector<spiffe::Entry>> {
    std::vector<spiffe::Entry> entries;
    for (const std::string& id : ids) {
      absl::StatusOr<spiffe::Entry> entry = SelectEntry(db, id);
      if (absl::IsNotFound(entry.status())) continue;
      if (!entry.ok()) return entry.status();
      entries.push_back(*std::move(entry));
    }
    return entries;
  });
}

absl::StatusOr<Page<spiffe::Entry>> SqliteDataStore::ListEntries(const EntryFilter& filter, const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectEntries(db, filter, page); });
}

absl::StatusOr<size_t> SqliteDataStore::CountEntries(const EntryFilter& filter) {
  if (!filter.spiffe_id && !filter.parent_id && !filter.selectors && !filter.federates_with && !filter.hint &&
      !filter.downstream) {
    return static_cast<size_t>(writer_->entry_count());
  }
  return readers_->With([&](SqliteConnection& db) { return CountEntryRows(db, filter); });
}

// --- agents and join tokens
// --------------------------------------------------------------------------------------------

void SqliteDataStore::Attest(Attestation attestation, absl::Time now, StatusCompletion done) {
  writer_->Write(
      1, [attestation = std::move(attestation), now](WriteContext& c) { return WriteAttestation(c, attestation, now); },
      std::move(done));
}

void SqliteDataStore::SetNewSerial(const spiffe::Id& id, std::string serial, absl::Time expires_at,
                                   StatusCompletion done) {
  writer_->Write(
      1, [=](WriteContext& context) { return UpdateNewSerial(context, id, serial, expires_at); }, std::move(done));
}

void SqliteDataStore::ConfirmSerial(const spiffe::Id& id, std::string serial, StatusCompletion done) {
  writer_->Write(
      1, [=](WriteContext& context) { return PromoteSerial(context, id, serial); }, std::move(done));
}

void SqliteDataStore::SetAgentVersion(const spiffe::Id& id, std::string version, StatusCompletion done) {
  writer_->Write(
      1, [=](WriteContext& context) { return UpdateAgentVersion(context, id, version); }, std::move(done));
}

void SqliteDataStore::BanAgent(const spiffe::Id& id, StatusCompletion done) {
  writer_->Write(
      1, [=](WriteContext& context) { return MarkBanned(context, id); }, std::move(done));
}

void SqliteDataStore::DeleteAgent(const spiffe::Id& id, StatusCompletion done) {
  writer_->Write(
      1, [=](WriteContext& context) { return DeleteAgentRow(context, id); }, std::move(done));
}

void SqliteDataStore::PruneAgents(absl::Time expired_before, bool include_tofu, size_t limit, Completion<size_t> done) {
  writer_->Write<size_t>(
      limit, [=](WriteContext& context) { return DeleteExpiredAgents(context, expired_before, include_tofu, limit); },
      std::move(done));
}

absl::StatusOr<AgentRecord> SqliteDataStore::GetAgent(const spiffe::Id& id) {
  return readers_->With([&](SqliteConnection& db) { return SelectAgent(db, id); });
}

absl::StatusOr<Page<AgentRecord>> SqliteDataStore::ListAgents(const AgentFilter& filter, const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectAgents(db, filter, page); });
}

absl::StatusOr<size_t> SqliteDataStore::CountAgents(const AgentFilter& filter) {
  return readers_->With([&](SqliteConnection& db) { return CountAgentRows(db, filter); });
}

void SqliteDataStore::CreateJoinToken(JoinTokenRecord token, StatusCompletion done) {
  writer_->Write(
      1, [token = std::move(token)](WriteContext& context) { return InsertJoinToken(context, token); },
      std::move(done));
}

absl::StatusOr<JoinTokenRecord> SqliteDataStore::FindJoinToken(const std::string& token_sha256, absl::Time now) {
  return readers_->With([&](SqliteConnection& db) { return SelectJoinToken(db, token_sha256, now); });
}

void SqliteDataStore::PruneJoinTokens(absl::Time now, Completion<size_t> done) {
  writer_->Write<size_t>(
      1, [=](WriteContext& context) { return DeleteExpiredJoinTokens(context, now); }, std::move(done));
}

// --- bundles, journal, issuance log
// ------------------------------------------------------------------------------------

absl::StatusOr<spiffe::Bundle> SqliteDataStore::GetBundle(const spiffe::TrustDomain& trust_domain) {
  return readers_->With([&](SqliteConnection& db) { return SelectBundle(db, trust_domain); });
}

absl::StatusOr<std::vector<spiffe::Bundle>> SqliteDataStore::ListBundles() {
  return readers_->With([](SqliteConnection& db) { return SelectBundles(db); });
}

void SqliteDataStore::ChangeBundle(const spiffe::TrustDomain& trust_domain, BundleChange change,
                                   Completion<spiffe::Bundle> done) {
  writer_->Write<spiffe::Bundle>(
      1,
      [trust_domain, change = std::move(change)](WriteContext& context) {
        return ApplyBundleChange(context, trust_domain, change);
      },
      std::move(done));
}

// --- federation
// ------------------------------------------------------------------------------------------------------------

void SqliteDataStore::CreateFederations(std::vector<FederationRelationship> relationships,
                                        Completion<std::vector<FederationResult>> done) {
  const size_t rows = relationships.size();
  writer_->Write<std::vector<FederationResult>>(
      rows,
      [wanted = std::move(relationships)](WriteContext& context) -> absl::StatusOr<std::vector<FederationResult>> {
        std::vector<FederationResult> results;
        results.reserve(wanted.size());
        for (const FederationRelationship& one : wanted) {
          SIGNET_ASSIGN_OR_RETURN(FederationResult result, InsertFederation(context, one));
          results.push_back(std::move(result));
        }
        return results;
      },
      std::move(done));
}

void SqliteDataStore::UpdateFederations(std::vector<FederationRelationship> relationships, FederationFields fields,
                                        Completion<std::vector<FederationResult>> done) {
  const size_t rows = relationships.size();
  writer_->Write<std::vector<FederationResult>>(
      rows,
      [wanted = std::move(relationships),
       fields](WriteContext& context) -> absl::StatusOr<std::vector<FederationResult>> {
        std::vector<FederationResult> results;
        results.reserve(wanted.size());
        for (const FederationRelationship& one : wanted) {
          SIGNET_ASSIGN_OR_RETURN(FederationResult result, UpdateFederation(context, one, fields));
          results.push_back(std::move(result));
        }
        return results;
      },
      std::move(done));
}

void SqliteDataStore::DeleteFederations(std::vector<spiffe::TrustDomain> trust_domains,
                                        Completion<std::vector<absl::Status>> done) {
  const size_t rows = trust_domains.size();
  writer_->Write<std::vector<absl::Status>>(
      rows,
      [names = std::move(trust_domains)](WriteContext& context) -> absl::StatusOr<std::vector<absl::Status>> {
        std::vector<absl::Status> results;
        results.reserve(names.size());
        for (const spiffe::TrustDomain& name : names) {
          SIGNET_ASSIGN_OR_RETURN(const bool deleted, DeleteFederation(context, name));
          results.push_back(deleted ? absl::OkStatus()
                                    : absl::NotFoundError(
                                          absl::StrCat("no federation relationship with trust domain ", name.name())));
        }
        return results;
      },
      std::move(done));
}

absl::StatusOr<FederationRelationship> SqliteDataStore::GetFederation(const spiffe::TrustDomain& trust_domain) {
  return readers_->With([&](SqliteConnection& db) { return SelectFederation(db, trust_domain); });
}

absl::StatusOr<Page<FederationRelationship>> SqliteDataStore::ListFederations(const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectFederations(db, page); });
}

void SqliteDataStore::SetFetchedBundle(spiffe::Bundle bundle, Completion<bool> done) {
  writer_->Write<bool>(
      1, [bundle = std::move(bundle)](WriteContext& context) { return StoreFetchedBundle(context, bundle); },
      std::move(done));
}

absl::StatusOr<std::string> SqliteDataStore::LoadJournal(const std::string& server_id) {
  return readers_->With([&](SqliteConnection& db) { return SelectJournal(db, server_id); });
}

void SqliteDataStore::SaveJournal(const std::string& server_id, std::string journal,
                                  const spiffe::TrustDomain& trust_domain, BundleChange publish,
                                  Completion<spiffe::Bundle> done) {
  writer_->Write<spiffe::Bundle>(
      1,
      [server_id, trust_domain, journal = std::move(journal),
       publish = std::move(publish)](WriteContext& context) -> absl::StatusOr<spiffe::Bundle> {
        SIGNET_RETURN_IF_ERROR(WriteJournal(context, server_id, journal));
        return ApplyBundleChange(context, trust_domain, publish);
      },
      std::move(done));
}

void SqliteDataStore::Record(IssuedSvid issued) { writer_->Record(std::move(issued)); }

// --- change feed
// -------------------------------------------------------------------------------------------------------

absl::StatusOr<std::vector<Change>> SqliteDataStore::ReadChanges(uint64_t after, size_t limit) {
  return readers_->With([&](SqliteConnection& db) { return SelectChanges(db, after, limit); });
}

absl::StatusOr<uint64_t> SqliteDataStore::LastSeq() {
  return readers_->With([](SqliteConnection& db) { return SelectLastSeq(db); });
}

void SqliteDataStore::SetWakeUp(std::function<void()> wake_up) { writer_->SetWakeUp(std::move(wake_up)); }

absl::StatusOr<std::string> SqliteDataStore::Epoch() {
  return readers_->With([](SqliteConnection& db) { return SelectEpoch(db); });
}

}  // namespace signet::server
