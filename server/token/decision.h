// The decision: what a request for a token is granted, and why not more. One pure function over plain structs: no
// clock, no key, no store, no I/O; deterministic, with a trace that names the operand which removed each atom.
//   granted = requested ∩ parent ∩ grant ∩ ceiling ∩ user's live rights ∩ resource catalogue ∩ task
//   exp     = min(now + ttl, parent, grant, task deadline, reauth_at, bound certificate)
//   depth   = parent + 1 (a new hop) <= min of all maxima and 5
// An absent operand is the empty set (T1); an operand that does not apply to this kind of request says so.
// A token has one audience, yet may carry atoms of other resources of the grant: what the next hop will call. They are
// asked for by `carried`, and each hop can hand on only what it has.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/oauth/access_token.h"
#include "common/oauth/atom.h"
#include "server/datastore/token_records.h"

namespace signet::server {

enum class RequestKind {
  kClientCredentials,  // own authority, no user
  kFirstHop,           // subject token of a user's issuer
  kNewHop,             // subject token is ours, the client serves its audience
  kNarrow,             // subject token is ours, the client is its outermost actor: same depth, no new act
  kRefresh,            // of a task-bound token, to its instance
};

// What is asked, after authentication and parsing.
struct DecisionInput {
  RequestKind kind = RequestKind::kClientCredentials;
  absl::Time now;

  // The client: who receives the token.
  std::string client_id, client_definition, instance;
  std::optional<absl::Time> certificate_not_after;  // when the token is bound to that certificate: latest exp
  bool own_trust_domain = false;                    // a federated client acts only for issuers its identity names (T7)

  // The request. `requested` empty with `nothing_asked`: the resource's declared minimum.
  std::string resource;  // canonical
  bool nothing_asked = false;
  oauth::Atoms requested;                  // Requested() of both expansions below
  std::vector<std::string> unknown_tools;  // named in authorization_details, not declared: refused
  oauth::Atoms named_tools;                // named there and declared: refused when they changed since consent
  std::string task, session;               // repeats only (T1), but for the first hop, which sets them
  std::optional<int64_t> max_calls;
  oauth::Binding binding;

  // Operands; null: there is none.
  const oauth::AccessToken* parent = nullptr;  // kNewHop, kNarrow, kRefresh
  const IdentityRecord* identity = nullptr;    // of client_definition
  const ResourceRecord* target = nullptr;
  const ResourceRecord* parent_resource = nullptr;  // of the parent's aud: its servers (T2)
  std::vector<const ResourceRecord*> carried;       // further resources of `requested`
  const GrantRecord* grant = nullptr;
  const TaskRecord* task_record = nullptr;
  struct User {
    std::string issuer, subject;
    oauth::Atoms rights;  // later hops: the stored record's, else the parent's atoms
    absl::Time
        rights_at;  // first hop: `iat` of the user's token; later that of the record, else the parent's rights_at
    absl::Time auth_time = absl::InfinitePast();  // not said: rights_at stands in
    absl::Duration rights_max_age, reauth_after;
  };
  std::optional<User> user;  // kFirstHop from the token, later from the captured or stored rights
  // kRefresh: exp of the token of the hop before, which the renewed one may not outlive; first hop: InfiniteFuture.
  absl::Time refresh_not_after = absl::InfinitePast();
};

// RFC 6749 5.2, RFC 8693 2.2.2 codes, and the closed list of reasons: actor_not_permitted, binding_required,
// budget_exhausted, consent_boundary, cycle, depth_exceeded, expired, identity_inactive, instance_mismatch,
// own_authority, reauthorization_required, rights_stale, session_mismatch, task_closed, task_mismatch, tool_changed,
// tool_undeclared, user_mismatch; `revoked` is the gate's.
struct Refusal {
  std::string error;   // "invalid_scope", "invalid_target", "access_denied", ...
  std::string reason;  // or empty
  std::string detail;  // for audit
};

struct TraceStep {
  std::string operand;  // "requested", "parent", "grant", ...
  bool applies = true;
  oauth::Atoms removed;   // nothing of them is left
  oauth::Atoms narrowed;  // as they stand after
};

struct Decision {
  std::optional<Refusal> refusal;
  oauth::Atoms granted;
  std::string scope;  // those scopes whose atoms were granted whole
  absl::Time expires_at;
  std::string expiry_bound_by;  // operand that set exp
  int depth = 1, max_depth = 1;
  std::optional<int64_t> calls;
  absl::Time reauth_at = absl::InfiniteFuture();
  bool near_depth_limit = false;     // at 75 % of the limit: an alert
  std::vector<oauth::Actor> actors;  // of the new token, outermost first; kClientCredentials: none
  std::vector<TraceStep> trace;
};

Decision Decide(const DecisionInput& input);

// Ceilings of a token's lifetime by the highest risk of its identity and tools, beside their own settings.
inline constexpr absl::Duration kMaxTtlLow = absl::Minutes(15), kMaxTtlMedium = absl::Minutes(10),
                                kMaxTtlHigh = absl::Minutes(5);
// Quota of a token when none is asked: this part, rounded up, of the quota of the token it is exchanged for, else of
// its task's budget.
inline constexpr int64_t kDefaultQuotaDivisor = 8;

// Atoms of scope strings and of authorization_details by the resource's catalogue. Unknown scopes and undeclared tools
// are left out (they expand to nothing) and named in `unknown`.
oauth::Atoms ExpandScopes(const ResourceRecord& resource, const std::vector<std::string>& scopes,
                          std::vector<std::string>* unknown);
oauth::Atoms ExpandDetails(const ResourceRecord& resource, const std::vector<oauth::ToolCallDetails>& details,
                           std::vector<std::string>* unknown);
oauth::Atoms Catalogue(const ResourceRecord& resource);  // everything it declares
// Both together; a tool named in details stands as the details have it. kInvalidArgument: one tool in two ways.
absl::StatusOr<oauth::Atoms> Requested(const oauth::Atoms& by_scope, const oauth::Atoms& by_details);

}  // namespace signet::server
