// Worlds for the decision, generated from a seed: identities, resources, a grant, a task, a user, and requests in them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/token/decision.h"

namespace signet::server::lattice {

using oauth::AccessToken;
using oauth::Atom;
using oauth::Atoms;
using oauth::Constraint;

inline const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
inline constexpr char kIdp[] = "https://idp.example";
inline constexpr int kResources = 3, kIdentities = 4, kNames = 3;

class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  int Below(int n) { return static_cast<int>(engine_() % static_cast<uint64_t>(n)); }
  bool Chance(int percent) { return Below(100) < percent; }

 private:
  std::mt19937_64 engine_;
};

inline std::string Uri(int i) { return absl::StrCat("https://r", i, ".example"); }
inline std::string Definition(int i) { return absl::StrCat("spiffe://td/agent/a", i); }

inline Constraint AnyConstraint(Dice& dice) {
  Constraint c;
  if (dice.Chance(40)) {
    c.in.emplace();
    for (int v = 0; v < 4; ++v) {
      if (dice.Chance(60)) c.in->insert(absl::StrCat(v));
    }
  }
  if (dice.Chance(30)) c.min = dice.Below(3);
  if (dice.Chance(30)) c.max = 1 + dice.Below(3);
  if (dice.Chance(20)) c.from = absl::FromUnixSeconds(dice.Below(3));
  if (dice.Chance(20)) c.until = absl::FromUnixSeconds(1 + dice.Below(3));
  if (dice.Chance(15)) c.other["like"] = dice.Chance(80) ? "\"x\"" : "\"y\"";
  return c;
}

// `density`: how much of all there could be is in the set, in percent.
inline Atoms AnyAtoms(Dice& dice, int density, int constrained) {
  Atoms atoms;
  for (int r = 0; r < kResources; ++r) {
    for (int n = 0; n < kNames; ++n) {
      if (!dice.Chance(density)) continue;
      Atom atom{.resource = Uri(r), .action = absl::StrCat("n", n), .tool = n != 0, .tool_hash = {}, .constraints = {}};
      if (atom.tool) atom.tool_hash = std::string(64, dice.Chance(95) ? 'a' : 'b');
      for (const char* field : {"f", "g"}) {
        if (dice.Chance(constrained)) atom.constraints[field] = AnyConstraint(dice);
      }
      atoms.push_back(std::move(atom));
    }
  }
  return *oauth::Normalize(std::move(atoms));
}

struct Lattice {
  explicit Lattice(uint64_t seed) : dice(seed) {
    for (int i = 0; i < kIdentities; ++i) {
      IdentityRecord identity;
      identity.spiffe_id = Definition(i);
      identity.state = IdentityState::kActive;
      identity.ceiling = AnyAtoms(dice, 90, 20);
      identity.max_depth = 1 + dice.Below(6);
      identity.token_ttl = absl::Seconds(30 + dice.Below(400));
      identities.push_back(identity);
    }
    for (int i = 0; i < kResources; ++i) {
      ResourceRecord resource;
      resource.uri = Uri(i);
      for (int a = 0; a < kIdentities; ++a) {
        if (dice.Chance(60)) resource.servers.push_back(Definition(a));
      }
      resource.scopes = {{"s", {"n0"}}};
      resource.default_scopes = {"s"};
      for (int n = 1; n < kNames; ++n) {
        if (dice.Chance(10)) continue;
        ToolRecord tool;
        tool.name = absl::StrCat("n", n);
        tool.hash = std::string(64, 'a');
        tool.needs = {"s"};
        tool.risk = static_cast<oauth::Risk>(1 + dice.Below(3));
        resource.tools.push_back(tool);
      }
      resources.push_back(resource);
      grant.audiences.push_back(Uri(i));
    }
    grant.id = "g";
    grant.user_issuer = kIdp;
    grant.user_subject = "u";
    grant.identity = Definition(0);
    for (int a = 0; a < kIdentities; ++a) {
      if (dice.Chance(80)) grant.actors.push_back(Definition(a));
    }
    grant.atoms = AnyAtoms(dice, 90, 20);
    grant.max_depth = 1 + dice.Below(6);
    grant.expires_at = kNow + absl::Seconds(1 + dice.Below(1000));
    task.id = "task";
    task.identity = grant.identity;
    task.grant = "g";
    task.hash = "h";
    task.atoms = AnyAtoms(dice, 90, 20);
    task.deadline = kNow + absl::Seconds(1 + dice.Below(1000));
    task.budget = dice.Chance(50) ? 0 : 1 + dice.Below(100);
    user.issuer = kIdp;
    user.subject = "u";
    user.rights = AnyAtoms(dice, 90, 20);
    user.rights_at = kNow;
    user.auth_time = kNow - absl::Seconds(dice.Below(1000));
    user.rights_max_age = user.reauth_after = absl::Seconds(1000);
  }

  DecisionInput Base(RequestKind kind, int identity, int instance, int target) {
    DecisionInput in;
    in.kind = kind;
    in.now = kNow;
    in.client_definition = Definition(identity);
    in.client_id = absl::StrCat(Definition(identity), "/", instance);
    in.instance = in.client_id;
    in.own_trust_domain = true;
    in.identity = &identities[static_cast<size_t>(identity)];
    in.resource = Uri(target);
    in.binding.jkt = "k";
    in.grant = &grant;
    in.user = user;
    for (int i = 0; i < kResources; ++i) {
      (i == target ? in.target : in.carried.emplace_back()) = &resources[static_cast<size_t>(i)];
    }
    in.nothing_asked = dice.Chance(10);
    if (!in.nothing_asked) in.requested = AnyAtoms(dice, 95, 10);
    if (dice.Chance(30)) in.max_calls = 1 + dice.Below(100);
    return in;
  }
  DecisionInput FirstHop() {
    DecisionInput in = Base(RequestKind::kFirstHop, 0, 0, dice.Below(kResources));
    if (dice.Chance(60)) {
      in.task = task.id;
      in.task_record = &task;
    }
    return in;
  }
  // Any actor, any target: most of what is tried is refused, and rightly.
  DecisionInput Next(const AccessToken& parent) {
    const bool narrow = dice.Chance(30);
    DecisionInput in = Base(narrow ? RequestKind::kNarrow : RequestKind::kNewHop, dice.Below(kIdentities),
                            dice.Below(2), dice.Below(kResources));
    if (narrow && dice.Chance(90)) {
      in.client_id = in.instance = parent.client_id;
      in.client_definition = oauth::DefinitionOf(parent.client_id);
      in.identity = &identities[static_cast<size_t>(in.client_definition.back() - '0')];
    }
    in.parent = &parent;
    in.parent_resource = &resources[static_cast<size_t>(parent.audience[9] - '0')];
    if (dice.Chance(70)) {  // else a stored record replaces what was captured
      in.user->rights = parent.atoms;
      in.user->rights_at = parent.context.rights_at;
    }
    in.task_record = parent.context.task.empty() ? nullptr : &task;
    return in;
  }
  static AccessToken Token(const DecisionInput& in, const Decision& d, int serial) {
    AccessToken t;
    t.subject_profile = "user";
    t.audience = in.resource;
    t.client_id = in.client_id;
    t.jwt_id = absl::StrCat(serial);
    t.expires_at = d.expires_at;
    t.atoms = d.granted;
    t.actors = d.actors;
    if (in.task_record != nullptr) {
      t.context.task = in.task_record->id;
      t.context.task_hash = in.task_record->hash;
    }
    t.context.instance = in.instance;
    t.context.grant = "g";
    t.context.user_issuer = kIdp;
    t.context.user_subject = "u";
    t.context.depth = d.depth;
    t.context.max_depth = d.max_depth;
    if (in.parent != nullptr) t.context.ancestors = oauth::AncestorsFor(*in.parent);
    t.context.reauth_at = d.reauth_at;
    t.context.rights_at = kNow;
    t.context.calls = d.calls;
    return t;
  }

  Dice dice;
  std::vector<IdentityRecord> identities;
  std::vector<ResourceRecord> resources;
  GrantRecord grant;
  TaskRecord task;
  DecisionInput::User user;
};

}  // namespace signet::server::lattice
