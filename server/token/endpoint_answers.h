// The introspection endpoint (RFC 7662) and the revocation endpoint (RFC 7009) of the server.
#pragma once

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "common/concurrency/mutex.h"
#include "common/oauth/introspection.h"
#include "server/token/token_call.h"

namespace signet::server {

// Judges presentations by the registry as it stands (T4). Parameters beside `token`: peer_x5t#S256, or dpop with htm
// and htu; tool, task, session. Counts calls against the quota of the token (T8). Thread-safe.
class Introspection {
 public:
  explicit Introspection(const TokenServiceDeps& deps) : deps_(deps) {}
  void Answer(TokenCallPtr call);

 private:
  std::shared_ptr<const oauth::TokenState> State();
  bool CountCall(const oauth::AccessToken& token, absl::Time now);

  const TokenServiceDeps& deps_;
  Mutex mutex_;
  std::shared_ptr<const oauth::TokenState> state_ ABSL_GUARDED_BY(mutex_);  // of one feed position
  std::shared_ptr<const oauth::Keys> state_keys_ ABSL_GUARDED_BY(mutex_);
  struct Calls {
    int64_t used = 0;
    absl::Time expires_at;
  };
  absl::flat_hash_map<std::string, Calls> calls_ ABSL_GUARDED_BY(mutex_);  // jti -> calls
};

// A token of the client's own, or of a chain it acted in; refused for anybody else. A chain's first token takes the
// whole chain with it; a refresh token its family.
void RevokeToken(const TokenServiceDeps& deps, TokenCallPtr call);

// The dry run of an exchange: nothing is issued, consumed or changed.
void ExplainExchange(const TokenServiceDeps& deps, token::v1::ExplainRequest request,
                     absl::AnyInvocable<void(absl::StatusOr<token::v1::ExplainResponse>)> done);

}  // namespace signet::server
