// What the datastore holds for the token service, as plain structs. Times are whole seconds. Authority is always stored
// as expanded atoms, never as scope strings (T9). `rev` is the change feed position at which the record entered (T3):
// of grants and tasks when they were made; of what is replaced as a whole when it was last written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/oauth/atom.h"
#include "common/oauth/introspection.h"
#include "common/oauth/revocation.h"

namespace signet::server {

enum class IdentityState : uint8_t { kDraft = 1, kActive, kSuspended, kRetired };

// An AI agent as a definition. Retired ones stay as tombstones: the SPIFFE ID is never given again.
struct IdentityRecord {
  std::string spiffe_id;  // key: spiffe://td/agent/<name>, or the full SPIFFE ID of a federated client (T7)
  int64_t version = 1;    // grows with each update
  std::string owner, sponsor, description;
  oauth::Risk risk = oauth::Risk::kHigh;
  oauth::Atoms ceiling;        // what it may ever do on behalf of users
  oauth::Atoms own_authority;  // client_credentials (T1); default empty
  int max_depth = oauth::kMaxDepth;
  absl::Duration token_ttl = absl::Minutes(5);
  std::vector<std::string> user_issuers;  // federated: the issuers it may act for; own trust domain: empty = all
  IdentityState state = IdentityState::kDraft;
  absl::Time created_at = absl::UnixEpoch(), updated_at = absl::UnixEpoch();
  uint64_t rev = 0;
  friend bool operator==(const IdentityRecord&, const IdentityRecord&) = default;
};

// An identity provider trusted for users, never for workloads.
struct IssuerRecord {
  std::string url;       // key, exact `iss`
  std::string jwks_uri;  // https; empty: jwks_json holds the keys
  std::string jwks_json;
  std::string ca_file;  // PEM roots for fetching; empty: the system's
  bool allow_private_address = false;
  std::vector<std::string> audiences;  // reserved for exchange: one must be in the token's `aud` (T2)
  std::string user_claim = "sub";      // stable; email and preferred_username are refused (T7)
  std::string rights_claim = "scope";  // claim whose strings are the user's rights: space separated text, or array
  std::vector<std::pair<std::string, oauth::Atoms>> rights;  // what each such string means, expanded (T9)
  absl::Duration rights_max_age = absl::Hours(1);            // captured rights older than this are the empty set (T7)
  absl::Duration reauth_after = absl::Hours(1);              // reauth_at = auth_time + this (T8)
  uint64_t rev = 0;
  friend bool operator==(const IssuerRecord&, const IssuerRecord&) = default;
};

struct ToolRecord {
  std::string name, hash;  // hash: name, description, schemas, annotations in canonical JSON (T9)
  std::string description;
  oauth::Risk risk = oauth::Risk::kHigh;
  bool read_only = false;
  std::vector<std::string> needs;  // scopes that contain it
  bool tombstone = false;          // deleted: the name is never given again
  friend bool operator==(const ToolRecord&, const ToolRecord&) = default;
};

// A protected API or MCP server.
struct ResourceRecord {
  std::string uri;  // key, canonical
  std::string name;
  int64_t version = 0;                      // grows with each update; on writing 0, or the stored one
  std::vector<std::string> servers;         // definitions that serve it (T2)
  std::vector<std::string> default_scopes;  // the declared minimum: what "nothing asked" means
  oauth::MinimumBinding minimum_binding = oauth::MinimumBinding::kDpop;
  absl::Duration token_ttl = absl::Minutes(5);
  std::vector<std::pair<std::string, std::vector<std::string>>>
      scopes;  // scope -> actions beside the tools that need it
  std::vector<ToolRecord> tools;
  bool tombstone = false;
  uint64_t rev = 0;
  friend bool operator==(const ResourceRecord&, const ResourceRecord&) = default;
};

enum class GrantState : uint8_t { kActive = 1, kRevoked, kVoid };  // kVoid: needs consent anew (T9)

// Durable consent of a user.
struct GrantRecord {
  std::string id;  // key, "g-" and 26 characters, made by the server when empty
  std::string user_issuer, user_subject;
  std::string identity;                 // definition that starts the chain
  std::vector<std::string> actors;      // definitions allowed on hops after the first (T2)
  std::vector<std::string> principals;  // beside administrators: who may create tasks under it (SPIFFE IDs) (T8)
  std::vector<std::string> audiences;   // canonical resource URIs: the consent boundary
  oauth::Atoms atoms;
  int max_depth = oauth::kMaxDepth;
  absl::Time expires_at;
  std::string text_hash, evidence;  // of the text that was shown; where the consent is on record
  GrantState state = GrantState::kActive;
  absl::Time created_at = absl::UnixEpoch();
  uint64_t rev = 0;
  friend bool operator==(const GrantRecord&, const GrantRecord&) = default;
};

enum class TaskState : uint8_t { kOpen = 1, kClosed };

struct TaskRecord {
  std::string id;  // key, "task-" and 26 characters
  std::string identity, grant;
  std::string description, hash;  // hash: "sha-256:" over the stored description, tools, deadline, budget
  oauth::Atoms atoms;             // the task's envelope, expanded from its tools and scopes
  absl::Time deadline;
  int64_t budget = 0;                             // calls; 0: not bounded
  int64_t reserved = 0;                           // calls handed out to tokens (T8)
  std::string instance;                           // bound at first use (T8)
  std::string root_subject;                       // bound at first use: UserKey
  absl::Time reauth_at = absl::InfiniteFuture();  // fixed at first use from the IdP's auth_time (T8)
  TaskState state = TaskState::kOpen;
  absl::Time created_at = absl::UnixEpoch();
  uint64_t rev = 0;
  friend bool operator==(const TaskRecord&, const TaskRecord&) = default;
};

// What a user may do now, when it is not read from the user's token. Replaces what was captured at hop 1 (T7).
struct UserRightsRecord {
  std::string issuer, subject;  // key
  oauth::Atoms atoms;
  absl::Time at;
  uint64_t rev = 0;
  friend bool operator==(const UserRightsRecord&, const UserRightsRecord&) = default;
};

// A refresh token is kept as a hash; only the newest of its family is good.
struct RefreshRecord {
  std::string hash;      // key: SHA-256 of the token, raw
  std::string family;    // id; revoked as EntityKind::kFamily
  std::string instance;  // bound to it (survives SVID rotation)
  std::string task;
  std::string state;  // opaque to the store: what the next token is made from (canonical JSON)
  absl::Time expires_at;
  bool used = false;
  absl::Time used_at = absl::UnixEpoch();
  std::string successor;      // sealed response given for it, for 10 s to the same certificate (T11); opaque
  std::string successor_for;  // x5t of that certificate
  friend bool operator==(const RefreshRecord&, const RefreshRecord&) = default;
};

// One record of the audit chain of one server. `body` is canonical JSON and holds `prev` (T10).
struct AuditRecord {
  std::string server_id;
  uint64_t epoch = 0, seq = 0;  // seq from 1, without gaps, in each (server, epoch)
  std::string body, hash;       // hash: SHA-256 of body, raw
  std::string txn;              // for chains; may be empty
  friend bool operator==(const AuditRecord&, const AuditRecord&) = default;
};

}  // namespace signet::server
