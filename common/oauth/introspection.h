// Judges a presentation of a token (RFC 7662, rule T4): the same pure function on the server and, from pushed state, on
// an agent. Anything missing or unequal is `active: false` and nothing else; why is only for our log and audit.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/oauth/access_token.h"
#include "common/oauth/revocation.h"

namespace signet::oauth {

enum class Risk : uint8_t { kLow = 1, kMedium, kHigh };
enum class MinimumBinding : uint8_t { kBearer = 1, kDpop, kMtls };  // what a resource demands at least

struct ToolState {
  std::string hash;  // as registered now; a token with another is refused
  Risk risk = Risk::kHigh;
  bool read_only = false;
};
struct ResourceState {
  std::vector<std::string> servers;  // definitions that serve it
  MinimumBinding minimum_binding = MinimumBinding::kDpop;
  std::map<std::string, ToolState> tools;
};

// All that is needed to judge, as of one feed position. Immutable.
struct TokenState {
  uint64_t seq = 0;
  std::string issuer;
  Keys token_keys;
  std::map<std::string, ResourceState> resources;  // by canonical URI
  RevocationSet revocations;
  absl::Duration offline_grace = absl::ZeroDuration();  // on an agent, without the server: read-only low-risk tools
};

// What the resource saw. The caller is authenticated; `caller` is its SPIFFE ID. The parameters of the request, at an
// agent and at the server alike: `token`, `peer_x5t#S256`, `dpop` with `htm` and `htu`, `tool`, `task`, `session`.
struct Presentation {
  std::string caller;
  std::string token;
  std::string peer_x5t_s256;                      // of the TLS peer that presented it; empty: none
  std::string dpop_proof, dpop_method, dpop_uri;  // empty: none
  std::string tool, task, session;                // empty: not said
};

struct Judgement {
  bool active = false;
  std::string why_not;   // for log and audit
  AccessToken token;     // when it could be read
  std::string dpop_jti;  // when a proof was judged: to be consumed once by the caller
};
// `verified`: a token already verified under these keys (a cache), null: verify now.
Judgement Judge(const Presentation& presentation, const TokenState& state, absl::Time now,
                const AccessToken* verified = nullptr);
// Somebody shows a good token with a key that is not the token's: it was stolen, or passed on. `judgement`: of this
// presentation.
bool ShownWithAnotherKey(const Presentation& presentation, const Judgement& judgement, absl::Time now);
// The RFC 7662 answer, canonical JSON: all claims of the token incl. act, cnf, agent_ctx, authorization_details.
std::string IntrospectionJson(const Judgement& judgement);

}  // namespace signet::oauth
