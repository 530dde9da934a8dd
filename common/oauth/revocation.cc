#include "common/oauth/revocation.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace signet::oauth {
namespace {

struct Kind {
  absl::string_view name;
  EntityKind kind;
  bool absolute;
};
constexpr Kind kKinds[] = {
    {"token", EntityKind::kToken, true},
    {"chain", EntityKind::kChain, true},
    {"task", EntityKind::kTask, true},
    {"grant", EntityKind::kGrant, true},
    {"family", EntityKind::kFamily, true},
    {"instance", EntityKind::kInstance, false},
    {"node", EntityKind::kNode, false},
    {"identity", EntityKind::kIdentity, false},
    {"user", EntityKind::kUser, false},
    {"issuer", EntityKind::kIssuer, false},
    {"signing-key", EntityKind::kSigningKey, true},  // who holds it chooses `rev`: no comparison helps
    {"tool", EntityKind::kTool, false},
};

std::string KeyOf(EntityKind kind, absl::string_view entity) {
  std::string key(1, static_cast<char>(kind));
  absl::StrAppend(&key, entity);
  return key;
}

}  // namespace

absl::string_view EntityKindName(EntityKind kind) {
  for (const Kind& k : kKinds) {
    if (k.kind == kind) return k.name;
  }
  return "";
}

bool ParseEntityKind(absl::string_view name, EntityKind& kind) {
  for (const Kind& k : kKinds) {
    if (k.name == name) return kind = k.kind, true;
  }
  return false;
}

bool IsAbsolute(EntityKind kind) {
  for (const Kind& k : kKinds) {
    if (k.kind == kind) return k.absolute;
  }
  return true;
}

// Neither an issuer nor a resource URI holds a space, so the pair is told apart.
std::string UserKey(absl::string_view issuer, absl::string_view subject) { return absl::StrCat(issuer, " ", subject); }
std::string ToolKey(absl::string_view resource, absl::string_view tool) { return absl::StrCat(resource, " ", tool); }

RevocationSet::RevocationSet(const std::vector<Revocation>& revocations) {
  by_entity_.reserve(revocations.size());
  for (const Revocation& revocation : revocations) {
    Revocation& held = by_entity_[KeyOf(revocation.kind, revocation.entity)];
    if (held.entity.empty() || held.seq <= revocation.seq) held = revocation;
  }
}

const Revocation* RevocationSet::Find(EntityKind kind, absl::string_view entity) const {
  if (entity.empty()) return nullptr;
  const auto found = by_entity_.find(KeyOf(kind, entity));
  return found == by_entity_.end() ? nullptr : &found->second;
}

const Revocation* RevocationSet::Kills(const AccessToken& token) const {
  if (by_entity_.empty()) return nullptr;
  const Context& context = token.context;
  const auto kills = [&](EntityKind kind, absl::string_view entity) -> const Revocation* {
    const Revocation* found = Find(kind, entity);
    return found != nullptr && (IsAbsolute(kind) || context.rev < found->seq) ? found : nullptr;
  };
  const std::pair<EntityKind, absl::string_view> entities[] = {
      {EntityKind::kToken, token.jwt_id},        {EntityKind::kChain, context.root},
      {EntityKind::kTask, context.task},         {EntityKind::kGrant, context.grant},
      {EntityKind::kInstance, context.instance}, {EntityKind::kNode, context.node},
      {EntityKind::kIdentity, context.identity}, {EntityKind::kIssuer, context.user_issuer},
      {EntityKind::kSigningKey, token.key_id},
  };
  for (const auto& [kind, entity] : entities) {
    if (const Revocation* found = kills(kind, entity)) return found;
  }
  if (!context.user_issuer.empty()) {
    const std::string user = UserKey(context.user_issuer, context.user_subject);
    if (const Revocation* found = kills(EntityKind::kUser, user)) return found;
  }
  for (const Ancestor& ancestor : context.ancestors) {
    for (const auto& [kind, entity] : {std::pair<EntityKind, absl::string_view>{EntityKind::kToken, ancestor.jwt_id},
                                       {EntityKind::kInstance, ancestor.instance},
                                       {EntityKind::kNode, ancestor.node},
                                       {EntityKind::kSigningKey, ancestor.key_id}}) {
      if (const Revocation* found = kills(kind, entity)) return found;
    }
  }
  for (const Actor& actor : token.actors) {  // a definition, or a federated one registered by its full ID
    if (const Revocation* found = kills(EntityKind::kIdentity, DefinitionOf(actor.subject))) return found;
    if (const Revocation* found = kills(EntityKind::kIdentity, actor.subject)) return found;
  }
  for (const Atom& atom : token.atoms) {
    if (!atom.tool) continue;
    if (const Revocation* found = kills(EntityKind::kTool, ToolKey(atom.resource, atom.action))) return found;
  }
  return nullptr;
}

std::vector<Revocation> RevocationSet::All() const {
  std::vector<Revocation> all;
  all.reserve(by_entity_.size());
  for (const auto& [_, revocation] : by_entity_) all.push_back(revocation);
  return all;
}

const Revocation* RevocationSet::Blocks(EntityKind kind, absl::string_view entity) const {
  const Revocation* found = Find(kind, entity);
  return found != nullptr && (IsAbsolute(kind) || !found->reinstated) ? found : nullptr;
}

const Revocation* RevocationSet::KillsExternal(EntityKind kind, absl::string_view entity, absl::Time issued_at) const {
  const Revocation* found = Find(kind, entity);
  return found != nullptr && (IsAbsolute(kind) || issued_at <= found->not_before + kRevocationSkew) ? found : nullptr;
}

}  // namespace signet::oauth
