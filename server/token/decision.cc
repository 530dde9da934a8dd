#include "server/token/decision.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/oauth/revocation.h"
#include "common/spiffe/id.h"

namespace signet::server {
namespace {

using oauth::AccessToken;
using oauth::Atom;
using oauth::Atoms;
using Verdict = std::optional<Refusal>;

Verdict Refuse(absl::string_view error, absl::string_view reason, absl::string_view detail) {
  return Refusal{.error = std::string(error), .reason = std::string(reason), .detail = std::string(detail)};
}

bool HasParent(RequestKind kind) {
  return kind == RequestKind::kNewHop || kind == RequestKind::kNarrow || kind == RequestKind::kRefresh;
}
bool Delegates(RequestKind kind) { return kind != RequestKind::kClientCredentials; }

bool Has(const std::vector<std::string>& texts, const std::string& text) {
  return std::find(texts.begin(), texts.end(), text) != texts.end();
}

// By segments (D.2 item 6): the definition itself, or an instance directly below it.
bool IsOf(const std::string& spiffe_id, const std::string& definition) {
  return spiffe_id == definition || oauth::DefinitionOf(spiffe_id) == definition;
}

// --- who asks
// -----------------------------------------------------------------------------------------------------------

Verdict CheckIdentity(const DecisionInput& in) {
  if (in.identity == nullptr) {
    return Refuse("unauthorized_client", "", "no identity is registered for the client");
  }
  if (in.identity->spiffe_id != in.client_definition || !IsOf(in.client_id, in.client_definition)) {
    return Refuse("unauthorized_client", "", "the client is not an instance of the identity");
  }
  if (in.identity->state != IdentityState::kActive) {
    return Refuse("unauthorized_client", "identity_inactive", "the identity is not active");
  }
  return std::nullopt;
}

// Own authority has no user and no task, and nothing that came from a user reaches it (T1).
Verdict CheckOwnAuthority(const DecisionInput& in) {
  if (Delegates(in.kind)) return std::nullopt;
  if (in.parent != nullptr || in.grant != nullptr || in.user.has_value() || !in.task.empty() ||
      in.task_record != nullptr || !in.carried.empty()) {
    return Refuse("invalid_request", "own_authority", "client_credentials is for the client's own authority alone");
  }
  return std::nullopt;
}

Verdict CheckParent(const DecisionInput& in) {
  if (!HasParent(in.kind)) {
    return in.parent == nullptr ? std::nullopt : Refuse("invalid_request", "", "a parent where none belongs");
  }
  if (in.parent == nullptr) return Refuse("invalid_request", "", "no subject token");
  if (oauth::IsOwnAuthority(*in.parent)) {
    return Refuse("invalid_request", "own_authority", "a token of own authority is no subject token");
  }
  if (in.kind != RequestKind::kRefresh && in.parent->expires_at <= in.now) {
    return Refuse("invalid_request", "expired", "the subject token has expired");
  }
  if (in.kind != RequestKind::kRefresh && oauth::AncestorsFor(*in.parent).size() > oauth::kMaxAncestors) {
    return Refuse("access_denied", "depth_exceeded", "the token descends from too many others");
  }
  return std::nullopt;
}

// T2: holding a token does not make an actor.
Verdict CheckActor(const DecisionInput& in) {
  if (in.kind == RequestKind::kNewHop) {
    const ResourceRecord* served = in.parent_resource;
    if (served == nullptr || served->tombstone || served->uri != in.parent->audience ||
        !Has(served->servers, in.client_definition)) {
      return Refuse("unauthorized_client", "actor_not_permitted", "the client does not serve the token's audience");
    }
  }
  if (in.kind == RequestKind::kNarrow || in.kind == RequestKind::kRefresh) {
    if (in.client_id != in.parent->client_id || in.instance != in.parent->context.instance) {
      return Refuse("unauthorized_client", "instance_mismatch", "the token is another instance's");
    }
  }
  return std::nullopt;
}

// --- for whom
// -----------------------------------------------------------------------------------------------------------

Verdict CheckGrant(const DecisionInput& in) {
  if (!Delegates(in.kind)) return std::nullopt;
  if (in.grant == nullptr) {
    return Refuse("invalid_target", "consent_boundary", "the user has granted this identity nothing");
  }
  if (in.grant->state != GrantState::kActive) {
    return Refuse("invalid_grant", "revoked", "the grant is revoked, or needs consent anew");
  }
  if (in.grant->expires_at <= in.now) return Refuse("invalid_grant", "expired", "the grant has expired");
  const bool first = !HasParent(in.kind);
  if (!first && in.parent->context.grant != in.grant->id) {
    return Refuse("access_denied", "consent_boundary", "the chain stands on another grant");
  }
  const std::string& root = first ? in.client_id : in.parent->actors.back().subject;
  if (!IsOf(root, in.grant->identity)) {
    return Refuse("unauthorized_client", "actor_not_permitted", "the grant is for another identity");
  }
  const bool at_root = first || (in.kind != RequestKind::kNewHop && in.parent->context.depth == 1);
  if (!at_root && !Has(in.grant->actors, in.client_definition)) {
    return Refuse("unauthorized_client", "actor_not_permitted", "the grant does not name the client as an actor");
  }
  return std::nullopt;
}

// T7: a user is a pair, and a federated client acts only for users of the issuers it is registered for.
Verdict CheckUser(const DecisionInput& in) {
  if (!Delegates(in.kind) || !in.user.has_value()) return std::nullopt;  // no user: no rights, the operand is empty
  const DecisionInput::User& user = *in.user;
  if (user.issuer.empty() || user.subject.empty() || user.issuer != in.grant->user_issuer ||
      user.subject != in.grant->user_subject) {
    return Refuse("access_denied", "user_mismatch", "the grant is another user's");
  }
  if (HasParent(in.kind) &&
      (user.issuer != in.parent->context.user_issuer || user.subject != in.parent->context.user_subject)) {
    return Refuse("access_denied", "user_mismatch", "the chain is another user's");
  }
  const std::vector<std::string>& issuers = in.identity->user_issuers;
  if (issuers.empty() ? !in.own_trust_domain : !Has(issuers, user.issuer)) {
    return Refuse("access_denied", "actor_not_permitted", "the identity does not act for users of this issuer");
  }
  return std::nullopt;
}

// --- in which context (T1: a request may repeat, never drop or replace)
// ---------------------------------------------------

Verdict CheckSession(const DecisionInput& in) {
  if (HasParent(in.kind) && !in.session.empty() && in.session != in.parent->context.session) {
    return Refuse("access_denied", "session_mismatch", "the token is of another session");
  }
  return std::nullopt;
}

Verdict CheckTask(const DecisionInput& in) {
  if (!Delegates(in.kind)) return std::nullopt;
  const std::string& task = HasParent(in.kind) ? in.parent->context.task : in.task;
  if (!in.task.empty() && in.task != task) {
    return Refuse("access_denied", "task_mismatch", "the token is of another task");
  }
  if (task.empty()) {
    if (in.kind == RequestKind::kRefresh) return Refuse("invalid_grant", "task_mismatch", "refresh needs a task");
    return in.task_record == nullptr ? std::nullopt : Refuse("access_denied", "task_mismatch", "no task was named");
  }
  const TaskRecord* record = in.task_record;
  if (record == nullptr || record->id != task || record->state != TaskState::kOpen || record->deadline <= in.now) {
    return Refuse("invalid_grant", "task_closed", "the task is closed, over, or does not exist");
  }
  if (record->grant != in.grant->id || record->identity != in.grant->identity ||
      (HasParent(in.kind) && in.parent->context.task_hash != record->hash)) {
    return Refuse("access_denied", "task_mismatch", "the task is of another grant or identity, or was changed");
  }
  // T8: one instance at its root, one root subject.
  const bool at_root = !HasParent(in.kind) || (in.kind != RequestKind::kNewHop && in.parent->context.depth == 1);
  if (at_root && (in.instance.empty() || (!record->instance.empty() && record->instance != in.instance))) {
    return Refuse("access_denied", "instance_mismatch", "the task is bound to another instance");
  }
  if (in.user.has_value() && !record->root_subject.empty() &&
      record->root_subject != oauth::UserKey(in.user->issuer, in.user->subject)) {
    return Refuse("access_denied", "user_mismatch", "the task is bound to another user");
  }
  return std::nullopt;
}

// --- for what
// -----------------------------------------------------------------------------------------------------------

Verdict CheckTarget(const DecisionInput& in) {
  if (in.target == nullptr || in.target->tombstone || in.target->uri != in.resource) {
    return Refuse("invalid_target", "", "the resource is not registered");
  }
  for (const ResourceRecord* resource : in.carried) {
    if (resource == nullptr || resource->tombstone) return Refuse("invalid_target", "", "a resource is not registered");
  }
  if (!Delegates(in.kind)) return std::nullopt;
  const auto consented = [&](const ResourceRecord& r) { return Has(in.grant->audiences, r.uri); };
  if (!consented(*in.target) ||
      !std::all_of(in.carried.begin(), in.carried.end(), [&](const auto* r) { return consented(*r); })) {
    return Refuse("invalid_target", "consent_boundary", "a resource is outside the grant's audiences");
  }
  return std::nullopt;
}

// Whether a tool that is asked for is declared otherwise than it was consented to.
bool ToolChanged(const DecisionInput& in, const Atoms& asked) {
  if (!Delegates(in.kind)) return false;
  for (const Atom& atom : asked) {
    for (const Atom& consented : in.grant->atoms) {
      if (atom.tool && consented.tool && atom.resource == consented.resource && atom.action == consented.action &&
          atom.tool_hash != consented.tool_hash) {
        return true;
      }
    }
  }
  return false;
}

Verdict CheckRequest(const DecisionInput& in) {
  if (!in.unknown_tools.empty()) {
    return Refuse("invalid_authorization_details", "tool_undeclared",
                  absl::StrCat("not declared as named: ", absl::StrJoin(in.unknown_tools, ", ")));
  }
  if (ToolChanged(in, in.named_tools)) {
    return Refuse("invalid_authorization_details", "tool_changed", "a tool is not the one that was consented to");
  }
  if (in.max_calls.has_value() && *in.max_calls < 1) return Refuse("invalid_request", "", "max_calls below 1");
  return std::nullopt;
}

Verdict CheckBinding(const DecisionInput& in) {
  const bool certificate = !in.binding.x5t_s256.empty();
  if (certificate && !in.certificate_not_after.has_value()) {
    return Refuse("invalid_request", "binding_required", "the end of the bound certificate is not known");
  }
  const oauth::MinimumBinding minimum = in.target->minimum_binding;
  if ((minimum == oauth::MinimumBinding::kMtls && !certificate) ||
      (minimum == oauth::MinimumBinding::kDpop && in.binding.bearer())) {
    return Refuse("invalid_request", "binding_required", "the resource demands a token bound to a key");
  }
  return std::nullopt;
}

// --- the arithmetic
// -----------------------------------------------------------------------------------------------------

class Arithmetic {
 public:
  Arithmetic(const DecisionInput& in, Decision& out) : in_(in), out_(out) {}

  // Actors and depth. The limit is the least of all maxima, so it never rises.
  Verdict Depth() {
    if (!Delegates(in_.kind)) return std::nullopt;
    int limit = std::min({in_.grant->max_depth, in_.identity->max_depth, oauth::kMaxDepth});
    if (HasParent(in_.kind)) {
      limit = std::min(limit, in_.parent->context.max_depth);
      out_.actors = in_.parent->actors;
      out_.depth = in_.parent->context.depth;
    }
    if (in_.kind == RequestKind::kNewHop) {
      if (Cycle()) return Refuse("access_denied", "cycle", "the identity acted earlier in this chain");
      ++out_.depth;
    }
    if (!HasParent(in_.kind) || in_.kind == RequestKind::kNewHop) {
      const auto id = spiffe::Id::Parse(in_.client_id);
      if (!id.ok()) return Refuse("unauthorized_client", "", "the client has no SPIFFE ID");
      out_.actors.insert(out_.actors.begin(),
                         {.subject = in_.client_id, .issuer = absl::StrCat("spiffe://", id->trust_domain_name())});
    }
    if (out_.depth > limit) return Refuse("access_denied", "depth_exceeded", absl::StrCat("depth limit is ", limit));
    out_.max_depth = limit;
    out_.near_depth_limit = in_.kind == RequestKind::kNewHop && 4 * out_.depth >= 3 * limit;  // 75 %
    return std::nullopt;
  }

  Verdict Permissions() {
    absl::StatusOr<Atoms> asked = oauth::Normalize(in_.requested);
    if (!asked.ok()) return Refuse("invalid_authorization_details", "", asked.status().message());
    out_.granted = in_.nothing_asked ? ExpandScopes(*in_.target, in_.target->default_scopes, nullptr) : *std::move(asked);
    out_.trace.push_back({.operand = "requested", .removed = {}, .narrowed = {}});
    const bool delegates = Delegates(in_.kind);
    Step("parent", HasParent(in_.kind), HasParent(in_.kind) ? in_.parent->atoms : Atoms());
    Step("grant", delegates, delegates ? in_.grant->atoms : Atoms());
    Step("ceiling", delegates, in_.identity->ceiling);
    Step("own_authority", !delegates, in_.identity->own_authority);
    const bool stale = delegates && in_.user.has_value() && in_.now - in_.user->rights_at > in_.user->rights_max_age;
    Step("user", delegates, in_.user.has_value() && !stale ? in_.user->rights : Atoms());
    Step("catalogue", true, AllCatalogues());
    Step("task", in_.task_record != nullptr, in_.task_record != nullptr ? in_.task_record->atoms : Atoms());
    if (std::none_of(out_.granted.begin(), out_.granted.end(),
                     [&](const Atom& a) { return a.resource == in_.resource; })) {
      out_.granted.clear();
      if (stale) return Refuse("invalid_scope", "rights_stale", "the user's rights are older than the issuer allows");
      if (ToolChanged(in_, in_.requested)) {
        return Refuse("invalid_authorization_details", "tool_changed", "the tool is not the one that was consented to");
      }
      return Refuse("invalid_scope", "", "nothing of what is asked is allowed");
    }
    for (const auto& [scope, actions] : in_.target->scopes) AddScope(scope);
    for (const ToolRecord& tool : in_.target->tools) {
      for (const std::string& scope : tool.needs) AddScope(scope);
    }
    out_.scope = absl::StrJoin(scopes_, " ");
    return std::nullopt;
  }

  // T8: what the task and the parent have bounds all; without a word the quota is a part of it, so that others get
  // some. Whether the parent has given it away already is known where it is taken (Consume::parent_calls).
  Verdict Calls() {
    std::optional<int64_t> calls = in_.max_calls;
    const auto bound = [&](int64_t most) { calls = std::min(calls.value_or(most), most); };
    if (HasParent(in_.kind) && in_.parent->context.calls.has_value()) {
      const int64_t quota = *in_.parent->context.calls;
      // An exchange takes from the parent, so that it leaves something too; a refresh asks for as many again.
      if (!calls.has_value() && in_.kind != RequestKind::kRefresh) bound(DefaultPart(quota));
      bound(quota);
    }
    if (in_.task_record != nullptr && in_.task_record->budget > 0) {
      const TaskRecord& task = *in_.task_record;
      if (!calls.has_value()) bound(DefaultPart(task.budget));
      bound(task.budget - task.reserved);
    }
    if (calls.has_value() && *calls < 1) return Refuse("access_denied", "budget_exhausted", "no calls are left");
    out_.calls = calls;
    return std::nullopt;
  }

  // Before the permissions: after it the rights captured at hop 1 are stale too, and this says what helps.
  Verdict Checkpoint() {
    SetReauthAt();
    if (out_.reauth_at > in_.now) return std::nullopt;
    return Refuse("invalid_grant", "reauthorization_required", "the user must authorize again");
  }

  Verdict Times() {
    out_.expires_at = absl::InfiniteFuture();
    Bound("ttl", in_.now + std::min({in_.target->token_ttl, in_.identity->token_ttl, RiskTtl()}));
    if (in_.kind == RequestKind::kRefresh) {
      Bound("parent", in_.refresh_not_after);
    } else if (HasParent(in_.kind)) {
      Bound("parent", in_.parent->expires_at);
    }
    if (Delegates(in_.kind)) Bound("grant", in_.grant->expires_at);
    if (in_.task_record != nullptr) Bound("task", in_.task_record->deadline);
    Bound("reauth_at", out_.reauth_at);
    if (in_.certificate_not_after.has_value()) Bound("certificate", *in_.certificate_not_after);
    if (out_.expires_at <= in_.now) {
      return Refuse("access_denied", "expired", absl::StrCat("no time is left: bound by ", out_.expiry_bound_by));
    }
    return std::nullopt;
  }

 private:
  static int64_t DefaultPart(int64_t calls) { return (calls + kDefaultQuotaDivisor - 1) / kDefaultQuotaDivisor; }

  // T2, T7: by definition. A run of one definition directly below is no cycle; one further down is.
  bool Cycle() const {
    const auto same = [&](const oauth::Actor& actor) {
      return IsOf(actor.subject, in_.client_definition) || IsOf(actor.subject, oauth::DefinitionOf(in_.client_id));
    };
    const std::vector<oauth::Actor>& actors = in_.parent->actors;
    return std::any_of(std::find_if_not(actors.begin(), actors.end(), same), actors.end(), same);
  }

  void Step(const char* operand, bool applies, const Atoms& allowed) {
    TraceStep step{.operand = operand, .applies = applies, .removed = {}, .narrowed = {}};
    if (applies) {
      Atoms after = oauth::Meet(out_.granted, allowed);
      step.removed = oauth::Removed(out_.granted, after);
      step.narrowed = oauth::Narrowed(out_.granted, after);
      out_.granted = std::move(after);
    }
    out_.trace.push_back(std::move(step));
  }

  Atoms AllCatalogues() const {
    Atoms all = Catalogue(*in_.target);
    for (const ResourceRecord* resource : in_.carried) {
      const Atoms more = Catalogue(*resource);
      all.insert(all.end(), more.begin(), more.end());
    }
    absl::StatusOr<Atoms> normal = oauth::Normalize(std::move(all));
    return normal.ok() ? *std::move(normal) : Atoms();
  }

  void AddScope(const std::string& scope) {
    if (Has(scopes_, scope)) return;
    const Atoms atoms = ExpandScopes(*in_.target, {scope}, nullptr);
    if (!atoms.empty() && oauth::Within(atoms, out_.granted)) scopes_.push_back(scope);
  }

  absl::Duration RiskTtl() const {
    oauth::Risk risk = in_.identity->risk;
    const auto raise = [&](const ResourceRecord& resource) {
      for (const ToolRecord& tool : resource.tools) {
        const bool granted = std::any_of(out_.granted.begin(), out_.granted.end(), [&](const Atom& atom) {
          return atom.tool && atom.resource == resource.uri && atom.action == tool.name;
        });
        if (granted) risk = std::max(risk, tool.risk);
      }
    };
    raise(*in_.target);
    for (const ResourceRecord* resource : in_.carried) raise(*resource);
    return risk == oauth::Risk::kLow ? kMaxTtlLow : risk == oauth::Risk::kMedium ? kMaxTtlMedium : kMaxTtlHigh;
  }

  // T8: fixed by the first use of the task, inherited ever after, never later than either says.
  void SetReauthAt() {
    if (HasParent(in_.kind)) {
      out_.reauth_at = in_.parent->context.reauth_at;
    } else if (in_.user.has_value()) {
      const DecisionInput::User& user = *in_.user;
      const absl::Time since = user.auth_time == absl::InfinitePast() ? user.rights_at : user.auth_time;
      out_.reauth_at = WholeSeconds(std::min(since, in_.now) + user.reauth_after);
    }
    if (in_.task_record != nullptr) out_.reauth_at = std::min(out_.reauth_at, in_.task_record->reauth_at);
  }

  static absl::Time WholeSeconds(absl::Time time) {
    return time == absl::InfiniteFuture() || time == absl::InfinitePast()
               ? time
               : absl::FromUnixSeconds(absl::ToUnixSeconds(time));
  }

  void Bound(const char* operand, absl::Time latest) {
    latest = WholeSeconds(latest);
    if (latest >= out_.expires_at) return;
    out_.expires_at = latest;
    out_.expiry_bound_by = operand;
  }

  const DecisionInput& in_;
  Decision& out_;
  std::vector<std::string> scopes_;
};

Verdict Run(const DecisionInput& in, Decision& out) {
  for (Verdict (*check)(const DecisionInput&) :
       {CheckIdentity, CheckOwnAuthority, CheckParent, CheckActor, CheckGrant, CheckUser, CheckSession, CheckTask,
        CheckTarget, CheckRequest, CheckBinding}) {
    if (Verdict refusal = check(in)) return refusal;
  }
  Arithmetic arithmetic(in, out);
  if (Verdict refusal = arithmetic.Depth()) return refusal;
  if (Verdict refusal = arithmetic.Checkpoint()) return refusal;
  if (Verdict refusal = arithmetic.Permissions()) return refusal;
  if (Verdict refusal = arithmetic.Calls()) return refusal;
  return arithmetic.Times();
}

}  // namespace

Decision Decide(const DecisionInput& input) {
  Decision decision;
  decision.refusal = Run(input, decision);
  if (decision.refusal.has_value()) {
    decision.granted.clear();  // nothing that was worked out on the way to a refusal is of use
    decision.scope.clear();
  }
  return decision;
}

}  // namespace signet::server
