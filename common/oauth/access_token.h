// The access token (RFC 9068 `at+jwt`): its claims as a plain struct, and how it is signed and read.
// Pure but for the signature. Errors of Verify: kInvalidArgument malformed, kPermissionDenied signature, key, issuer or
// type; the messages never hold a part of the token. Revocation and binding are not checked here (introspection.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/crypto/certificate_builder.h"
#include "common/crypto/key.h"
#include "common/oauth/atom.h"

namespace signet::oauth {

inline constexpr size_t kMaxTokenBytes = 6 * 1024;  // with five hops; receipts go by reference above that
inline constexpr size_t kMaxJwtBytes = 16 * 1024;   // of any JWT we read
inline constexpr int kMaxDepth = 5;                 // OAuth Actor Profile: deeper must be neither issued nor taken

// One link of `act`: who acted, outermost (now) first.
struct Actor {
  std::string subject;  // SPIFFE ID of the instance
  std::string issuer;   // spiffe://<trust domain>: who owns the name
  friend bool operator==(const Actor&, const Actor&) = default;
};

struct Binding {
  std::string jkt;       // `cnf.jkt`: RFC 7638 thumbprint of the DPoP key
  std::string x5t_s256;  // `cnf.x5t#S256`
  friend bool operator==(const Binding&, const Binding&) = default;
  bool bearer() const { return jkt.empty() && x5t_s256.empty(); }
};

// A token this one was derived from (revocation.h: what kills it kills this one).
struct Ancestor {
  std::string jwt_id;
  std::string instance, node;  // as in Context
  std::string key_id;          // that signed it
  friend bool operator==(const Ancestor&, const Ancestor&) = default;
};
inline constexpr size_t kMaxAncestors = 12;  // hops and narrowings; further narrowing is refused

// `agent_ctx`, and what stands beside it.
struct Context {
  std::string task, task_hash;  // empty: no task
  std::string session;
  std::string instance;     // of the outermost actor: (SPIFFE ID, agent) as hash; T6
  std::string grant;        // empty: client_credentials
  std::string identity;     // definition of the outermost actor
  std::string user_issuer;  // T7: with `subject` the pair that names the user; empty: no user
  std::string user_subject;
  std::string node;  // hash of the attested agent id of the outermost actor
  int depth = 1, max_depth = kMaxDepth;
  std::string parent;               // "sha-256:" of the parent's jti; empty: first hop
  std::string root;                 // jti of the first token of the chain; of the first: its own
  std::vector<Ancestor> ancestors;  // nearest first: AncestorsFor()
  absl::Time reauth_at = absl::InfiniteFuture();
  absl::Time rights_at = absl::InfinitePast();  // T7: when the user's rights were captured; past: no user
  std::optional<int64_t> calls;                 // quota of this token (T8)
  uint64_t rev = 0;                             // T3: feed position of the root authority
  std::string receipt_hash;                     // T10: SHA-256 (hex) of the last receipt; 0 receipts: empty
  int receipts = 0;                             // T10: how many
  friend bool operator==(const Context&, const Context&) = default;
};

struct AccessToken {
  std::string key_id;                            // of the header, set by Verify; not a claim
  std::string issuer, subject, subject_profile;  // "user" or "ai_agent"; of a user: UserSubject()
  std::string audience;                          // exactly one resource URI
  std::string client_id;                         // SPIFFE ID of the outermost actor
  std::string jwt_id, txn;
  absl::Time issued_at, expires_at;  // whole seconds
  std::string scope;                 // scopes whose atoms were granted whole, space separated
  Atoms atoms;                       // tools stand in authorization_details, actions in `permissions`
  std::vector<Actor> actors;         // outermost first; client_credentials: empty (it is its own subject)
  Binding binding;
  Context context;
  std::vector<std::string> receipts;  // compact JWS, first hop first; empty when by reference
  std::string receipts_uri;           // where they are when they are not inside
  std::optional<absl::Time> auth_time;
  std::string acr;
  std::vector<std::string> amr;
  friend bool operator==(const AccessToken&, const AccessToken&) = default;
};

// T1: of client_credentials, its own authority; never a subject token.
bool IsOwnAuthority(const AccessToken& token);

// The payload, canonical. What is granted is readable twice: `scope` and `authorization_details` for resources of the
// field, `permissions` for ours.
std::string ClaimsJson(const AccessToken& token);
absl::StatusOr<AccessToken> ParseClaims(absl::string_view payload_json);

// `kid` of the signing key. alg follows from `type`: ES256 or RS256.
absl::StatusOr<std::string> Sign(const AccessToken& token, absl::string_view kid, crypto::KeyType type,
                                 const crypto::MessageSigner& sign);

// Public keys by kid. T5: only ever the keys of one kind of JWT.
using Keys = std::map<std::string, crypto::PublicKey>;
// Exact typ `at+jwt`, known kid, fitting alg, signature, issuer equal; exp with no leeway, iat not in the future by
// more than 60 s. Nested `act` deeper than kMaxDepth is refused.
absl::StatusOr<AccessToken> Verify(absl::string_view token, const Keys& keys, absl::string_view issuer, absl::Time now);
// As Verify, but for the times: an audit looks back.
absl::StatusOr<AccessToken> VerifyAnyTime(absl::string_view token, const Keys& keys, absl::string_view issuer);
// The keys of a JWK set; those of types we do not know are left out, and so are keys without `kid`. A `kid` that comes
// twice is refused. kInvalidArgument.
absl::StatusOr<Keys> ParseKeys(absl::string_view jwks_json);
std::string KeysJson(const Keys& keys);  // {"keys":[...]}, each with alg, kid and use

// `sub` of a user: "user:" and a hash of both halves of the pair (T7).
std::string UserSubject(absl::string_view issuer, absl::string_view subject);
// What a token derived from `parent` carries.
std::vector<Ancestor> AncestorsFor(const AccessToken& parent);

// "sha-256:" + hex of the text: how tokens and jtis stand in records, audit and receipts.
std::string Hash(absl::string_view text);
// The definition an instance belongs to: the SPIFFE ID without its last segment, when that lies below `/agent/<name>`
// (segments, never prefixes). `spiffe://td/agent/orders/7c1f` -> `spiffe://td/agent/orders`; the definition itself and
// anything else -> itself.
std::string DefinitionOf(absl::string_view spiffe_id);
// A resource URI in canonical form: absolute, https or http scheme lower case, host lower case, default port dropped,
// no fragment, no user info, path kept but for a lone "/", no dot segments (RFC 8707 2; RFC 3986 6.2).
// kInvalidArgument.
absl::StatusOr<std::string> CanonicalResource(absl::string_view uri);

}  // namespace signet::oauth
