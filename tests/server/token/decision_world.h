// A small world for the decision: a user's grant for a planner that calls a worker that calls an orders server. Every
// request it hands out is granted; a test breaks one thing.
#pragma once

#include <string>
#include <vector>

#include "common/oauth/revocation.h"
#include "server/token/decision.h"

namespace signet::server {

struct World {
  static constexpr char kUserIssuer[] = "https://idp.example.org";
  static constexpr char kPlanner[] = "spiffe://td/agent/planner", kWorker[] = "spiffe://td/agent/worker",
                        kOrders[] = "spiffe://td/agent/orders";
  static constexpr char kWorkerUri[] = "https://worker.example", kOrdersUri[] = "https://orders.example/mcp",
                        kOtherUri[] = "https://other.example";
  static std::string Hash(char c) { return std::string(64, c); }
  static std::string Instance(const std::string& definition) { return definition + "/1"; }

  absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  IdentityRecord planner, worker, orders;
  ResourceRecord worker_resource, orders_resource, other_resource;
  GrantRecord grant;
  TaskRecord task;
  oauth::Atoms everything;
  DecisionInput::User user;

  World() {
    worker_resource = Resource(kWorkerUri, kWorker);
    worker_resource.scopes = {{"work:run", {"work:run"}}};
    worker_resource.default_scopes = {"work:run"};
    orders_resource = Resource(kOrdersUri, kOrders);
    orders_resource.scopes = {{"orders:read", {"orders:read"}}, {"orders:write", {"orders:write"}}};
    orders_resource.default_scopes = {"orders:read"};
    orders_resource.tools = {Tool("query", 'a', {"orders:read"}), Tool("list", 'b', {"orders:read"}),
                             Tool("cancel", 'c', {"orders:write"})};
    other_resource = Resource(kOtherUri, kOrders);
    other_resource.scopes = {{"x", {"x"}}};
    everything = Catalogue(worker_resource);
    for (const oauth::Atom& atom : Catalogue(orders_resource)) everything.push_back(atom);
    for (const oauth::Atom& atom : Catalogue(other_resource)) everything.push_back(atom);
    everything = *oauth::Normalize(everything);
    planner = Identity(kPlanner);
    worker = Identity(kWorker);
    orders = Identity(kOrders);
    grant.id = "g-1";
    grant.user_issuer = kUserIssuer;
    grant.user_subject = "u-1";
    grant.identity = kPlanner;
    grant.actors = {kWorker, kOrders};
    grant.audiences = {kWorkerUri, kOrdersUri};
    grant.atoms = everything;
    grant.expires_at = now + absl::Hours(100);
    task.id = "task-1";
    task.identity = kPlanner;
    task.grant = "g-1";
    task.hash = "sha-256:task";
    task.atoms = everything;
    task.deadline = now + absl::Hours(8);
    user.issuer = kUserIssuer;
    user.subject = "u-1";
    user.rights = everything;
    user.rights_at = now - absl::Minutes(1);
    user.auth_time = now - absl::Minutes(2);
    user.rights_max_age = absl::Hours(1);
    user.reauth_after = absl::Hours(1);
  }

  static ResourceRecord Resource(const std::string& uri, const std::string& server) {
    ResourceRecord r;
    r.uri = uri;
    r.servers = {server};
    return r;
  }
  static ToolRecord Tool(const std::string& name, char hash, std::vector<std::string> needs) {
    ToolRecord t;
    t.name = name;
    t.hash = Hash(hash);
    t.needs = std::move(needs);
    return t;
  }
  IdentityRecord Identity(const std::string& id) const {
    IdentityRecord i;
    i.spiffe_id = id;
    i.ceiling = everything;
    i.state = IdentityState::kActive;
    return i;
  }

  DecisionInput Base(RequestKind kind, const IdentityRecord& identity, const ResourceRecord& target) const {
    DecisionInput in;
    in.kind = kind;
    in.now = now;
    in.client_definition = identity.spiffe_id;
    in.client_id = Instance(identity.spiffe_id);
    in.instance = "instance-of-" + in.client_id;
    in.own_trust_domain = true;
    in.resource = target.uri;
    in.target = &target;
    in.identity = &identity;
    in.binding.jkt = "key";
    in.requested = everything;
    return in;
  }
  DecisionInput OwnAuthority() const { return Base(RequestKind::kClientCredentials, planner, orders_resource); }
  // The planner takes all it may, for the worker, orders included.
  DecisionInput FirstHop() const {
    DecisionInput in = Base(RequestKind::kFirstHop, planner, worker_resource);
    in.grant = &grant;
    in.user = user;
    in.carried = {&orders_resource};
    return in;
  }
  DecisionInput FirstHopInTask() const {
    DecisionInput in = FirstHop();
    in.task = task.id;
    in.task_record = &task;
    in.session = "s-1";
    return in;
  }
  // What would be signed for `in`.
  oauth::AccessToken Token(const DecisionInput& in, const Decision& d, const std::string& jti) const {
    oauth::AccessToken t;
    t.issuer = "https://id.example";
    t.subject = oauth::UserSubject(kUserIssuer, "u-1");
    t.subject_profile = "user";
    t.audience = in.resource;
    t.client_id = in.client_id;
    t.jwt_id = jti;
    t.txn = "txn";
    t.issued_at = in.now;
    t.expires_at = d.expires_at;
    t.scope = d.scope;
    t.atoms = d.granted;
    t.actors = d.actors;
    t.binding = in.binding;
    oauth::Context& c = t.context;
    if (in.task_record != nullptr) {
      c.task = in.task_record->id;
      c.task_hash = in.task_record->hash;
    }
    c.session = in.parent != nullptr ? in.parent->context.session : in.session;
    c.instance = in.instance;
    c.identity = in.client_definition;
    c.grant = in.grant != nullptr ? in.grant->id : "";
    c.user_issuer = kUserIssuer;
    c.user_subject = "u-1";
    c.depth = d.depth;
    c.max_depth = d.max_depth;
    c.root = in.parent != nullptr ? in.parent->context.root : jti;
    if (in.parent != nullptr) {
      c.parent = oauth::Hash(in.parent->jwt_id);
      c.ancestors = oauth::AncestorsFor(*in.parent);
    }
    c.reauth_at = d.reauth_at;
    c.rights_at = in.user.has_value() ? in.user->rights_at : absl::InfinitePast();
    c.calls = d.calls;
    return t;
  }
  // A further request under `parent`, with the rights captured in it.
  DecisionInput Under(RequestKind kind, const oauth::AccessToken& parent, const IdentityRecord& identity,
                      const ResourceRecord& parent_resource, const ResourceRecord& target) const {
    DecisionInput in = Base(kind, identity, target);
    in.parent = &parent;
    in.parent_resource = &parent_resource;
    in.grant = &grant;
    in.user = user;
    in.user->rights = parent.atoms;
    in.user->rights_at = parent.context.rights_at;
    in.task_record = parent.context.task.empty() ? nullptr : &task;
    return in;
  }
  DecisionInput WorkerHop(const oauth::AccessToken& parent) const {
    return Under(RequestKind::kNewHop, parent, worker, worker_resource, orders_resource);
  }
  DecisionInput PlannerNarrows(const oauth::AccessToken& parent) const {
    return Under(RequestKind::kNarrow, parent, planner, worker_resource, worker_resource);
  }
};

}  // namespace signet::server
