// Writes generated requests and what Decide() answers, one JSON object a line, for decide.py to answer too:
// `make_decision_cases COUNT [SEED]`.
#include <stdlib.h>

#include <boost/json.hpp>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "tests/server/token/lattice.h"

namespace signet::server::lattice {
namespace {

namespace json = boost::json;

json::value AtomsValue(const Atoms& atoms) { return json::parse(oauth::CanonicalJson(atoms)); }
json::value TimeValue(absl::Time time) {
  if (time == absl::InfiniteFuture()) return "never";
  if (time == absl::InfinitePast()) return "always";
  return absl::ToUnixSeconds(time);
}
json::value Texts(const std::vector<std::string>& texts) { return json::value_from(texts); }
json::value Number(const std::optional<int64_t>& number) { return number.has_value() ? json::value(*number) : nullptr; }

json::value Value(const ResourceRecord* r) {
  if (r == nullptr) return nullptr;
  json::object scopes;
  for (const auto& [scope, actions] : r->scopes) scopes[scope] = Texts(actions);
  json::array tools;
  for (const ToolRecord& t : r->tools) {
    tools.push_back({{"name", t.name},
                     {"hash", t.hash},
                     {"risk", static_cast<int>(t.risk)},
                     {"needs", Texts(t.needs)},
                     {"tombstone", t.tombstone}});
  }
  return {{"uri", r->uri},
          {"servers", Texts(r->servers)},
          {"default_scopes", Texts(r->default_scopes)},
          {"minimum_binding", static_cast<int>(r->minimum_binding)},
          {"ttl", absl::ToInt64Seconds(r->token_ttl)},
          {"scopes", scopes},
          {"tools", tools},
          {"tombstone", r->tombstone}};
}
json::value Value(const IdentityRecord* i) {
  if (i == nullptr) return nullptr;
  return {{"spiffe_id", i->spiffe_id},
          {"risk", static_cast<int>(i->risk)},
          {"ceiling", AtomsValue(i->ceiling)},
          {"own_authority", AtomsValue(i->own_authority)},
          {"max_depth", i->max_depth},
          {"ttl", absl::ToInt64Seconds(i->token_ttl)},
          {"user_issuers", Texts(i->user_issuers)},
          {"active", i->state == IdentityState::kActive}};
}
json::value Value(const GrantRecord* g) {
  if (g == nullptr) return nullptr;
  return {{"id", g->id},
          {"user", {g->user_issuer, g->user_subject}},
          {"identity", g->identity},
          {"actors", Texts(g->actors)},
          {"audiences", Texts(g->audiences)},
          {"atoms", AtomsValue(g->atoms)},
          {"max_depth", g->max_depth},
          {"exp", TimeValue(g->expires_at)},
          {"active", g->state == GrantState::kActive}};
}
json::value Value(const TaskRecord* t) {
  if (t == nullptr) return nullptr;
  return {{"id", t->id},
          {"identity", t->identity},
          {"grant", t->grant},
          {"hash", t->hash},
          {"atoms", AtomsValue(t->atoms)},
          {"deadline", TimeValue(t->deadline)},
          {"budget", t->budget},
          {"reserved", t->reserved},
          {"instance", t->instance},
          {"root_subject", t->root_subject},
          {"reauth_at", TimeValue(t->reauth_at)},
          {"open", t->state == TaskState::kOpen}};
}
json::value Value(const AccessToken* t) {
  if (t == nullptr) return nullptr;
  json::array actors;
  for (const oauth::Actor& actor : t->actors) actors.emplace_back(actor.subject);
  const oauth::Context& c = t->context;
  return {{"sub_profile", t->subject_profile},
          {"aud", t->audience},
          {"client_id", t->client_id},
          {"exp", TimeValue(t->expires_at)},
          {"atoms", AtomsValue(t->atoms)},
          {"actors", actors},
          {"task", c.task},
          {"task_hash", c.task_hash},
          {"session", c.session},
          {"instance", c.instance},
          {"grant", c.grant},
          {"user", {c.user_issuer, c.user_subject}},
          {"depth", c.depth},
          {"max_depth", c.max_depth},
          {"ancestors", c.ancestors.size()},
          {"reauth_at", TimeValue(c.reauth_at)},
          {"calls", Number(c.calls)}};
}

json::object InputValue(const DecisionInput& in) {
  constexpr const char* kKinds[] = {"client_credentials", "first_hop", "new_hop", "narrow", "refresh"};
  json::object o;
  o["kind"] = kKinds[static_cast<int>(in.kind)];
  o["now"] = TimeValue(in.now);
  o["client_id"] = in.client_id;
  o["client_definition"] = in.client_definition;
  o["instance"] = in.instance;
  o["certificate_not_after"] = in.certificate_not_after.has_value() ? TimeValue(*in.certificate_not_after) : nullptr;
  o["own_trust_domain"] = in.own_trust_domain;
  o["resource"] = in.resource;
  o["nothing_asked"] = in.nothing_asked;
  o["requested"] = AtomsValue(in.requested);
  o["unknown_tools"] = Texts(in.unknown_tools);
  o["named_tools"] = AtomsValue(in.named_tools);
  o["task"] = in.task;
  o["session"] = in.session;
  o["max_calls"] = Number(in.max_calls);
  o["jkt"] = in.binding.jkt;
  o["x5t"] = in.binding.x5t_s256;
  o["parent"] = Value(in.parent);
  o["identity"] = Value(in.identity);
  o["target"] = Value(in.target);
  o["parent_resource"] = Value(in.parent_resource);
  json::array carried;
  for (const ResourceRecord* resource : in.carried) carried.push_back(Value(resource));
  o["carried"] = std::move(carried);
  o["grant"] = Value(in.grant);
  o["task_record"] = Value(in.task_record);
  if (in.user.has_value()) {
    o["user"] = {{"pair", {in.user->issuer, in.user->subject}},
                 {"rights", AtomsValue(in.user->rights)},
                 {"rights_at", TimeValue(in.user->rights_at)},
                 {"auth_time", TimeValue(in.user->auth_time)},
                 {"rights_max_age", absl::ToInt64Seconds(in.user->rights_max_age)},
                 {"reauth_after", absl::ToInt64Seconds(in.user->reauth_after)}};
  } else {
    o["user"] = nullptr;
  }
  o["refresh_not_after"] = TimeValue(in.refresh_not_after);
  return o;
}

json::object AnswerValue(const Decision& d) {
  if (d.refusal.has_value()) return {{"error", d.refusal->error}, {"reason", d.refusal->reason}};
  json::array actors;
  for (const oauth::Actor& actor : d.actors) actors.emplace_back(actor.subject);
  return {{"granted", AtomsValue(d.granted)},
          {"scope", d.scope},
          {"exp", TimeValue(d.expires_at)},
          {"bound_by", d.expiry_bound_by},
          {"depth", d.depth},
          {"max_depth", d.max_depth},
          {"near_limit", d.near_depth_limit},
          {"calls", Number(d.calls)},
          {"reauth_at", TimeValue(d.reauth_at)},
          {"actors", actors}};
}

// One thing about a request or its operands is as it should not be, or just at its edge.
struct Break {
  Lattice& world;
  DecisionInput& in;
  std::vector<std::unique_ptr<IdentityRecord>> identities;
  std::vector<std::unique_ptr<ResourceRecord>> resources;
  AccessToken parent;
  GrantRecord grant;
  TaskRecord task;

  explicit Break(Lattice& w, DecisionInput& input) : world(w), in(input) {
    if (in.parent != nullptr) parent = *in.parent, in.parent = &parent;
    if (in.grant != nullptr) grant = *in.grant, in.grant = &grant;
    if (in.task_record != nullptr) task = *in.task_record, in.task_record = &task;
  }
  IdentityRecord& Identity() {
    identities.push_back(std::make_unique<IdentityRecord>(*in.identity));
    in.identity = identities.back().get();
    return *identities.back();
  }
  ResourceRecord& Own(const ResourceRecord*& of) {
    resources.push_back(std::make_unique<ResourceRecord>(*of));
    of = resources.back().get();
    return *resources.back();
  }
  void Something() {
    const absl::Time soon = kNow + absl::Seconds(world.dice.Below(40) - 10);
    switch (world.dice.Below(46)) {
      case 0:
        in.identity = nullptr;
        break;
      case 1:
        in.parent = nullptr;
        break;
      case 2:
        in.grant = nullptr;
        break;
      case 3:
        in.target = nullptr;
        break;
      case 4:
        in.user.reset();
        break;
      case 5:
        in.task_record = nullptr;
        break;
      case 6:
        in.parent_resource = nullptr;
        break;
      case 7:
        if (in.identity) Identity().state = IdentityState::kSuspended;
        break;
      case 8:
        if (in.identity) Identity().user_issuers = {world.dice.Chance(50) ? kIdp : "https://other"};
        break;
      case 9:
        in.own_trust_domain = false;
        break;
      case 10:
        in.client_id = "spiffe://td/agent/a0-evil/0";
        break;
      case 11:
        in.client_id = in.client_definition;
        break;
      case 12:
        in.client_definition = Definition(world.dice.Below(kIdentities));
        break;
      case 13:
        in.instance = "another";
        break;
      case 14:
        in.instance = "";
        break;
      case 15:
        grant.state = GrantState::kVoid;
        break;
      case 16:
        grant.expires_at = soon;
        break;
      case 17:
        if (!grant.audiences.empty()) grant.audiences.erase(grant.audiences.begin() + world.dice.Below(kResources));
        break;
      case 18:
        grant.user_subject = "other";
        break;
      case 19:
        grant.id = "other";
        break;
      case 20:
        grant.identity = Definition(1);
        break;
      case 21:
        grant.max_depth = 1;
        break;
      case 22:
        parent.expires_at = soon;
        break;
      case 23:
        parent.context.max_depth = 1 + world.dice.Below(5);
        break;
      case 24:
        parent.context.calls = world.dice.Below(20);
        break;
      case 25:
        parent.context.reauth_at = soon;
        break;
      case 26:
        parent.context.ancestors.resize(static_cast<size_t>(10 + world.dice.Below(4)));
        break;
      case 27:
        parent.actors.clear();
        break;
      case 28:
        parent.context.user_subject = "other";
        break;
      case 29:
        parent.context.session = "s";
        in.session = world.dice.Chance(50) ? "s" : "t";
        break;
      case 30:
        in.session = "s";
        break;
      case 31:
        in.task = world.dice.Chance(50) ? "task" : "task-2";
        break;
      case 32:
        task.state = TaskState::kClosed;
        break;
      case 33:
        task.deadline = soon;
        break;
      case 34:
        task.budget = 10;
        task.reserved = 5 + world.dice.Below(6);
        break;
      case 35:
        task.instance = world.dice.Chance(50) ? in.instance : "other";
        break;
      case 36:
        task.root_subject = oauth::UserKey(kIdp, world.dice.Chance(50) ? "u" : "v");
        break;
      case 37:
        task.hash = "other";
        break;
      case 38:
        task.reauth_at = soon;
        break;
      case 39:
        in.unknown_tools = {"t"};
        break;
      case 40:
        in.max_calls = world.dice.Below(3) - 1;
        break;
      case 41:
        in.binding = {.jkt = "", .x5t_s256 = world.dice.Chance(50) ? "x" : ""};
        if (world.dice.Chance(50)) in.certificate_not_after = soon;
        break;
      case 42:
        if (in.target) Own(in.target).minimum_binding = static_cast<oauth::MinimumBinding>(1 + world.dice.Below(3));
        break;
      case 43:
        if (in.target) Own(in.target).tombstone = true;
        break;
      case 44:
        if (in.user)
          in.user->rights_at =
              world.dice.Chance(50) ? kNow - absl::Seconds(1000 + world.dice.Below(2)) : absl::InfinitePast();
        break;
      case 45:
        if (in.user) in.user->auth_time = world.dice.Chance(50) ? kNow + absl::Hours(2) : absl::InfinitePast();
        break;
    }
  }
};

void Print(const DecisionInput& in, const Decision& d) {
  json::object line;
  line["input"] = InputValue(in);
  line["answer"] = AnswerValue(d);
  std::cout << json::serialize(line) << "\n";
}

void Write(uint64_t seed) {
  Lattice world(seed);
  if (world.dice.Chance(10)) {
    DecisionInput own = world.Base(RequestKind::kClientCredentials, 0, 0, 0);
    own.grant = nullptr;
    own.user.reset();
    own.carried.clear();
    world.identities[0].own_authority = AnyAtoms(world.dice, 80, 20);
    Break broken(world, own);
    if (world.dice.Chance(40)) broken.Something();
    Print(own, Decide(own));
    return;
  }
  std::vector<std::unique_ptr<AccessToken>> tokens;
  for (int step = 0; step < 5; ++step) {
    DecisionInput in = tokens.empty() ? world.FirstHop() : world.Next(*tokens.back());
    if (!tokens.empty() && world.dice.Chance(15)) {
      in.kind = RequestKind::kRefresh;
      in.refresh_not_after =
          world.dice.Chance(50) ? absl::InfiniteFuture() : kNow + absl::Seconds(world.dice.Below(100));
    }
    if (world.dice.Chance(20)) {
      for (const oauth::Atom& atom : in.requested) {
        if (atom.tool) in.named_tools.push_back(atom);
      }
    }
    Break broken(world, in);
    if (world.dice.Chance(40)) broken.Something();
    const Decision d = Decide(in);
    Print(in, d);
    if (!d.refusal.has_value()) tokens.push_back(std::make_unique<AccessToken>(Lattice::Token(in, d, step)));
    if (tokens.empty()) break;
  }
}

}  // namespace
}  // namespace signet::server::lattice

int main(int argc, char** argv) {
  uint64_t count = 0, seed = 1;
  if (argc < 2 || !absl::SimpleAtoi(argv[1], &count) || (argc > 2 && !absl::SimpleAtoi(argv[2], &seed))) {
    std::cerr << "usage: make_decision_cases COUNT [SEED]\n";
    return 2;
  }
  for (uint64_t i = 0; i < count; ++i) signet::server::lattice::Write(seed + i);
  return 0;
}
