// What is revoked, and the one comparison that says whether a token lives (token-service rule T3): a token lives iff
// for every entity of its ancestry nothing revoked it. Cascade is this comparison, never a walk over descendants.
//   absolute kinds (token, chain, task, grant, refresh family, signing key): revoked is dead.
//   reusable kinds (instance, node, identity, user, issuer, tool): kills a token whose `rev` is below the
//   revocation's feed position, and blocks issuance until reinstated; external tokens and assertions are dead when
//   iat <= not_before + skew.
// Immutable snapshots; a set is built once and shared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/oauth/access_token.h"

namespace signet::oauth {

enum class EntityKind : uint8_t {
  kToken = 1,   // jti
  kChain,       // root jti
  kTask,        // task id
  kGrant,       // grant id
  kFamily,      // refresh family id
  kInstance,    // Context::instance
  kNode,        // Context::node
  kIdentity,    // SPIFFE ID of the definition
  kUser,        // UserKey(issuer, subject)
  kIssuer,      // issuer URL
  kSigningKey,  // kid
  kTool,        // ToolKey(resource, tool)
};
absl::string_view EntityKindName(EntityKind kind);  // "token", "chain", ...: as in the API
bool ParseEntityKind(absl::string_view name, EntityKind& kind);
bool IsAbsolute(EntityKind kind);
std::string UserKey(absl::string_view issuer, absl::string_view subject);
std::string ToolKey(absl::string_view resource, absl::string_view tool);

inline constexpr absl::Duration kRevocationSkew = absl::Seconds(60);

struct Revocation {
  EntityKind kind = EntityKind::kToken;
  std::string entity;
  uint64_t seq = 0;       // feed position of the revocation
  absl::Time not_before;  // whole seconds: external tokens issued up to it (plus skew) are dead
  std::string reason;
  bool reinstated = false;  // reusable kinds: issuance is allowed again; what was killed stays dead
  friend bool operator==(const Revocation&, const Revocation&) = default;
};

class RevocationSet {
 public:
  RevocationSet() = default;
  explicit RevocationSet(const std::vector<Revocation>& revocations);
  // Null: not revoked. The first thing that kills the token, for audit; never for the caller.
  const Revocation* Kills(const AccessToken& token) const;
  // Whether something new may be made for this entity.
  const Revocation* Blocks(EntityKind kind, absl::string_view entity) const;
  // For what others issued at `issued_at`.
  const Revocation* KillsExternal(EntityKind kind, absl::string_view entity, absl::Time issued_at) const;
  const Revocation* Find(EntityKind kind, absl::string_view entity) const;
  size_t size() const { return by_entity_.size(); }
  // All of it, in no order: what an agent is pushed.
  std::vector<Revocation> All() const;

 private:
  absl::flat_hash_map<std::string, Revocation> by_entity_;  // one byte of kind, then the entity; the newest seq wins
};

}  // namespace signet::oauth
