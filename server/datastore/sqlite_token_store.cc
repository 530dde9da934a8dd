// The token service's half of SqliteDataStore.
#include <utility>

#include "common/status/macros.h"
#include "server/datastore/grant_sql.h"
#include "server/datastore/identity_sql.h"
#include "server/datastore/issuer_sql.h"
#include "server/datastore/resource_sql.h"
#include "server/datastore/revocation_sql.h"
#include "server/datastore/sqlite_data_store.h"
#include "server/datastore/sqlite_readers.h"
#include "server/datastore/task_sql.h"
#include "server/datastore/token_use_sql.h"

namespace signet::server {
namespace {

constexpr size_t kPruneRevocations = 4096;  // at most, a call

}  // namespace

// --- records of the registry
// ------------------------------------------------------------------------------------------

void SqliteDataStore::CreateIdentity(IdentityRecord record, absl::Time now, Completion<IdentityRecord> done) {
  writer_->Write<IdentityRecord>(
      1,
      [record = std::move(record), now](WriteContext& context) mutable {
        return InsertIdentity(context, std::move(record), now);
      },
      std::move(done));
}
void SqliteDataStore::UpdateIdentity(IdentityRecord record, absl::Time now, Completion<IdentityRecord> done) {
  writer_->Write<IdentityRecord>(
      1,
      [record = std::move(record), now](WriteContext& context) mutable {
        return ReplaceIdentity(context, std::move(record), now);
      },
      std::move(done));
}
void SqliteDataStore::PutIssuer(IssuerRecord record, Completion<IssuerRecord> done) {
  writer_->Write<IssuerRecord>(
      1,
      [record = std::move(record)](WriteContext& context) mutable { return WriteIssuer(context, std::move(record)); },
      std::move(done));
}
void SqliteDataStore::PutResource(ResourceRecord record, Completion<ResourceRecord> done) {
  writer_->Write<ResourceRecord>(
      1,
      [record = std::move(record)](WriteContext& context) mutable { return WriteResource(context, std::move(record)); },
      std::move(done));
}
void SqliteDataStore::CreateGrant(GrantRecord record, absl::Time now, Completion<GrantRecord> done) {
  writer_->Write<GrantRecord>(
      1,
      [record = std::move(record), now](WriteContext& context) mutable {
        return InsertGrant(context, std::move(record), now);
      },
      std::move(done));
}
void SqliteDataStore::CreateTask(TaskRecord record, absl::Time now, Completion<TaskRecord> done) {
  writer_->Write<TaskRecord>(
      1,
      [record = std::move(record), now](WriteContext& context) mutable {
        return InsertTask(context, std::move(record), now);
      },
      std::move(done));
}
void SqliteDataStore::PutUserRights(UserRightsRecord record, Completion<UserRightsRecord> done) {
  writer_->Write<UserRightsRecord>(
      1,
      [record = std::move(record)](WriteContext& context) mutable {
        return WriteUserRights(context, std::move(record));
      },
      std::move(done));
}
void SqliteDataStore::DeleteIssuer(const std::string& url, StatusCompletion done) {
  writer_->Write(
      1, [url](WriteContext& context) { return DeleteIssuerRow(context, url); }, std::move(done));
}
void SqliteDataStore::DeleteResource(const std::string& uri, StatusCompletion done) {
  writer_->Write(
      1, [uri](WriteContext& context) { return BuryResource(context, uri); }, std::move(done));
}

absl::StatusOr<IdentityRecord> SqliteDataStore::GetIdentity(const std::string& spiffe_id) {
  return readers_->With([&](SqliteConnection& db) { return SelectIdentity(db, spiffe_id); });
}
absl::StatusOr<IssuerRecord> SqliteDataStore::GetIssuer(const std::string& url) {
  return readers_->With([&](SqliteConnection& db) { return SelectIssuer(db, url); });
}
absl::StatusOr<ResourceRecord> SqliteDataStore::GetResource(const std::string& uri) {
  return readers_->With([&](SqliteConnection& db) { return SelectResource(db, uri); });
}
absl::StatusOr<GrantRecord> SqliteDataStore::GetGrant(const std::string& id) {
  return readers_->With([&](SqliteConnection& db) { return SelectGrant(db, id); });
}
absl::StatusOr<TaskRecord> SqliteDataStore::GetTask(const std::string& id) {
  return readers_->With([&](SqliteConnection& db) { return SelectTask(db, id); });
}
absl::StatusOr<UserRightsRecord> SqliteDataStore::GetUserRights(const std::string& issuer, const std::string& subject) {
  return readers_->With([&](SqliteConnection& db) { return SelectUserRights(db, issuer, subject); });
}

absl::StatusOr<Page<IdentityRecord>> SqliteDataStore::ListIdentities(const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectIdentities(db, page); });
}
absl::StatusOr<Page<IssuerRecord>> SqliteDataStore::ListIssuers(const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectIssuers(db, page); });
}
absl::StatusOr<Page<ResourceRecord>> SqliteDataStore::ListResources(const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectResources(db, page); });
}
absl::StatusOr<Page<GrantRecord>> SqliteDataStore::ListGrants(const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectGrants(db, page); });
}
absl::StatusOr<Page<TaskRecord>> SqliteDataStore::ListTasks(const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectTasks(db, page); });
}
absl::StatusOr<Page<UserRightsRecord>> SqliteDataStore::ListUserRights(const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectAllUserRights(db, page); });
}

// --- revocation
// -------------------------------------------------------------------------------------------------------

void SqliteDataStore::Revoke(RevokeChange change, absl::Time now, Completion<uint64_t> done) {
  writer_->Write<uint64_t>(
      1, [change = std::move(change), now](WriteContext& context) { return WriteRevocation(context, change, now); },
      std::move(done));
}

void SqliteDataStore::Reinstate(oauth::EntityKind kind, const std::string& entity, absl::Time now,
                                Completion<uint64_t> done) {
  writer_->Write<uint64_t>(
      1, [=](WriteContext& context) { return UndoRevocation(context, kind, entity, now); }, std::move(done));
}

void SqliteDataStore::ActivateIdentity(const std::string& spiffe_id, absl::Time now, Completion<IdentityRecord> done) {
  writer_->Write<IdentityRecord>(
      1,
      [spiffe_id, now](WriteContext& context) -> absl::StatusOr<IdentityRecord> {
        SIGNET_ASSIGN_OR_RETURN(const IdentityRecord stored, SelectIdentity(context.db, spiffe_id));
        if (stored.state == IdentityState::kSuspended) {
          return absl::FailedPreconditionError(
              absl::StrCat("identity ", spiffe_id, " is suspended: reinstate it, which is audited as such"));
        }
        return SetIdentityState(context, spiffe_id, IdentityState::kActive, now);
      },
      std::move(done));
}

absl::StatusOr<oauth::Revocation> SqliteDataStore::GetRevocation(oauth::EntityKind kind, const std::string& entity) {
  return readers_->With([&](SqliteConnection& db) { return SelectRevocation(db, kind, entity); });
}

absl::StatusOr<Page<oauth::Revocation>> SqliteDataStore::ListRevocations(const PageRequest& page) {
  return readers_->With([&](SqliteConnection& db) { return SelectRevocations(db, page); });
}

void SqliteDataStore::PruneRevocations(absl::Time older_than, absl::Time tokens_older_than, Completion<size_t> done) {
  writer_->Write<size_t>(
      kPruneRevocations,
      [=](WriteContext& context) { return DeleteOldRevocations(context, older_than, tokens_older_than, kPruneRevocations); },
      std::move(done));
}

// --- what minting takes
// -----------------------------------------------------------------------------------------------

void SqliteDataStore::Commit(Consume consume, absl::Time now, StatusCompletion done) {
  writer_->Write(
      consume.once.size() + 4,
      [consume = std::move(consume), now](WriteContext& context) { return WriteConsume(context, consume, now); },
      std::move(done));
}

absl::StatusOr<RefreshRecord> SqliteDataStore::GetRefresh(const std::string& hash) {
  return readers_->With([&](SqliteConnection& db) { return SelectRefresh(db, hash); });
}

void SqliteDataStore::PruneUses(absl::Time now, Completion<size_t> done) {
  writer_->Write<size_t>(
      1, [=](WriteContext& context) { return DeleteExpiredUses(context, now); }, std::move(done));
}

absl::StatusOr<std::vector<AuditRecord>> SqliteDataStore::ReadAudit(const std::string& server_id, uint64_t epoch,
                                                                    uint64_t after_seq, size_t limit) {
  return readers_->With([&](SqliteConnection& db) { return SelectAudit(db, server_id, epoch, after_seq, limit); });
}

absl::StatusOr<std::vector<AuditRecord>> SqliteDataStore::ReadAuditOfChain(const std::string& txn, size_t limit) {
  return readers_->With([&](SqliteConnection& db) { return SelectAuditOfChain(db, txn, limit); });
}

absl::StatusOr<AuditRecord> SqliteDataStore::LastAudit(const std::string& server_id) {
  return readers_->With([&](SqliteConnection& db) { return SelectLastAudit(db, server_id); });
}

absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> SqliteDataStore::AuditChains() {
  return readers_->With([](SqliteConnection& db) { return SelectAuditChains(db); });
}

}  // namespace signet::server
