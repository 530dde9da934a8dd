// Narrow stores of the token service; part of the DataStore seam, same threads and errors as data_store.h says. Every
// write of a record that others hold in memory adds its change feed row in the same transaction.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/datastore/completion.h"
#include "server/datastore/records.h"
#include "server/datastore/token_records.h"

namespace signet::server {

// Definitions, issuers, resources, grants, tasks, rights: what an administrator writes. Completions carry the record as
// stored (rev, version, times, ids filled in).
class TokenRegistryStore {
 public:
  virtual ~TokenRegistryStore() = default;

  // kAlreadyExists: the SPIFFE ID is or was taken (tombstones count). Starts in the state of the record, draft or
  // active.
  virtual void CreateIdentity(IdentityRecord record, absl::Time now, Completion<IdentityRecord> done) = 0;
  // Everything but state, created_at. kNotFound; kFailedPrecondition retired; kAborted when `version` is not 0 and not
  // the stored one.
  virtual void UpdateIdentity(IdentityRecord record, absl::Time now, Completion<IdentityRecord> done) = 0;
  virtual absl::StatusOr<Page<IdentityRecord>> ListIdentities(const PageRequest& page) = 0;
  virtual absl::StatusOr<IdentityRecord> GetIdentity(const std::string& spiffe_id) = 0;

  virtual void PutIssuer(IssuerRecord record, Completion<IssuerRecord> done) = 0;  // creates or replaces
  virtual void DeleteIssuer(const std::string& url, StatusCompletion done) = 0;    // kNotFound
  virtual absl::StatusOr<IssuerRecord> GetIssuer(const std::string& url) = 0;
  virtual absl::StatusOr<Page<IssuerRecord>> ListIssuers(const PageRequest& page) = 0;

  // Creates or replaces; tools that are missing in the new record become tombstones, and a tombstoned name or URI is
  // kAlreadyExists (T9). Lowering minimum_binding or a tool's risk sets the active grants that touch it to kVoid, in
  // the same transaction (T9). kAborted when `version` is not 0 and not the stored one.
  virtual void PutResource(ResourceRecord record, Completion<ResourceRecord> done) = 0;
  virtual void DeleteResource(const std::string& uri, StatusCompletion done) = 0;  // to a tombstone; kNotFound
  virtual absl::StatusOr<ResourceRecord> GetResource(const std::string& uri) = 0;  // tombstones too, as in lists
  virtual absl::StatusOr<Page<ResourceRecord>> ListResources(const PageRequest& page) = 0;

  virtual void CreateGrant(GrantRecord record, absl::Time now, Completion<GrantRecord> done) = 0;
  virtual absl::StatusOr<GrantRecord> GetGrant(const std::string& id) = 0;
  virtual absl::StatusOr<Page<GrantRecord>> ListGrants(const PageRequest& page) = 0;

  virtual void CreateTask(TaskRecord record, absl::Time now, Completion<TaskRecord> done) = 0;
  virtual absl::StatusOr<TaskRecord> GetTask(const std::string& id) = 0;
  virtual absl::StatusOr<Page<TaskRecord>> ListTasks(const PageRequest& page) = 0;

  virtual void PutUserRights(UserRightsRecord record, Completion<UserRightsRecord> done) = 0;
  virtual absl::StatusOr<UserRightsRecord> GetUserRights(const std::string& issuer, const std::string& subject) = 0;
  virtual absl::StatusOr<Page<UserRightsRecord>> ListUserRights(const PageRequest& page) = 0;
};

// What one revocation changes, all in one transaction: the revocation (seq = its feed position); for a grant, its
// state; for a task, closed; for an identity, suspended or retired; and the registration entries below a suspended
// identity are withdrawn from agents (entries of the identity and its instances: same path or below it, on segments).
struct RevokeChange {
  oauth::Revocation revocation;
  std::optional<IdentityState> identity_state;  // with kIdentity: kSuspended or kRetired
};

class RevocationStore {
 public:
  virtual ~RevocationStore() = default;
  // Completes with the last feed position of the change, which memory must have applied before it holds; the
  // revocation's own `seq` comes first. Idempotent: a second one raises the position. With identity_state: kNotFound;
  // kFailedPrecondition when it is retired, or suspends a draft.
  virtual void Revoke(RevokeChange change, absl::Time now, Completion<uint64_t> done) = 0;
  // Reusable kinds only: issuance is allowed again; with kIdentity the identity becomes active and its entries come
  // back. kNotFound nothing to undo; kFailedPrecondition retired, or an absolute kind.
  virtual void Reinstate(oauth::EntityKind kind, const std::string& entity, absl::Time now,
                         Completion<uint64_t> done) = 0;
  // draft -> active only.
  virtual void ActivateIdentity(const std::string& spiffe_id, absl::Time now, Completion<IdentityRecord> done) = 0;
  virtual absl::StatusOr<oauth::Revocation> GetRevocation(oauth::EntityKind kind, const std::string& entity) = 0;
  virtual absl::StatusOr<Page<oauth::Revocation>> ListRevocations(const PageRequest& page) = 0;
  // Absolute revocations older than this can kill nothing that still lives; those of single tokens when they are older
  // than `tokens_older_than`; never those of signing keys. The number dropped.
  virtual void PruneRevocations(absl::Time older_than, absl::Time tokens_older_than, Completion<size_t> done) = 0;
};

// The next record of this server's audit chain. Its place is known only inside the transaction, where it is written
// last: whatever else of it is refused leaves no gap, and records that wait together are chained in their order.
struct AuditAppend {
  std::string server_id;
  uint64_t epoch = 0;
  std::string txn;  // may be empty
  // The body for this place: `seq` is 1 when the chain is empty, `previous` the raw hash of the record before (empty at
  // 1). Pure and quick; runs on the writer's thread. The store hashes what it returns.
  std::function<std::string(uint64_t seq, absl::string_view previous)> body;
};

// Payload of kAlreadyExists from Commit: which of the once-values it was.
inline constexpr char kUsedBeforeUrl[] = "signet/used-before";
// Payload of kResourceExhausted from Commit when it is calls that are exhausted, not the store: whose.
inline constexpr char kNoCallsLeftUrl[] = "signet/no-calls-left";
inline constexpr char kOfTask[] = "task", kOfParent[] = "parent";

// What minting one token takes, in one transaction with its audit record: all or nothing (T3, T8, T10).
struct Consume {
  std::vector<std::pair<std::string, absl::Time>> once;  // used up until then; kAlreadyExists, with kUsedBeforeUrl, when used before
  struct Budget {
    std::string task;
    int64_t calls = 0;                              // reserved; kNoCallsLeftUrl when fewer are left
    std::string instance, root_subject;             // bind at first use; kPermissionDenied when bound to another
    absl::Time reauth_at = absl::InfiniteFuture();  // kept at first use, never raised
  };
  std::optional<Budget> budget;  // kNotFound no such task; kFailedPrecondition it is closed
  struct ParentCalls {
    std::string token;      // hash of the parent's jti
    int64_t quota = 0;      // the parent's
    int64_t calls = 0;      // given to the child for good; kNoCallsLeftUrl when fewer are left
    absl::Time expires_at;  // the parent's: until then what it gave is remembered
  };
  std::optional<ParentCalls> parent_calls;
  std::optional<RefreshRecord> new_refresh;
  std::optional<std::string> spend_refresh;  // hash; kNotFound unknown or expired; kAborted used before (reuse)
  std::string successor, successor_for;      // kept with the spent one
  std::optional<AuditAppend> audit;          // kFailedPrecondition the chain has a newer epoch
};

class TokenUseStore {
 public:
  virtual ~TokenUseStore() = default;
  // Group commit: durable when `done` runs.
  virtual void Commit(Consume consume, absl::Time now, StatusCompletion done) = 0;
  virtual absl::StatusOr<RefreshRecord> GetRefresh(const std::string& hash) = 0;
  virtual void PruneUses(absl::Time now, Completion<size_t> done) = 0;  // what has expired of all that

  virtual absl::StatusOr<std::vector<AuditRecord>> ReadAudit(const std::string& server_id, uint64_t epoch,
                                                             uint64_t after_seq, size_t limit) = 0;
  virtual absl::StatusOr<std::vector<AuditRecord>> ReadAuditOfChain(const std::string& txn, size_t limit) = 0;
  // The last record of this server; kNotFound when there is none.
  virtual absl::StatusOr<AuditRecord> LastAudit(const std::string& server_id) = 0;
  virtual absl::StatusOr<std::vector<std::pair<std::string, uint64_t>>> AuditChains() = 0;  // (server id, epoch)
};

}  // namespace signet::server
