// Who asks: an X.509-SVID over mTLS, a JWT-SVID assertion, or private_key_jwt of a configured client; never a secret.
// Bundles come from the trust domain of the SVID, never from the token. Every refusal is `invalid_client` with one
// text, after the same work as far as that goes. T6: an SVID of the own trust domain must carry the entry and the agent
// it was issued to, the entry must still belong to that agent, the agent must not be banned, the CA key not revoked.
// Thread-safe; memory and CPU only, inline. What must be used once (`jti`) is named, not consumed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/oauth/access_token.h"
#include "common/spiffe/trust_domain.h"
#include "server/datastore/token_records.h"
#include "server/entries/entry_index.h"
#include "server/token/token_registry.h"
#include "server/token/token_request.h"

namespace signet::server {

enum class ClientAuthMethod { kX509Svid, kJwtSvid, kPrivateKeyJwt };

struct Client {
  ClientAuthMethod method = ClientAuthMethod::kX509Svid;
  std::string id;                                  // SPIFFE ID, or the configured client_id
  std::shared_ptr<const IdentityRecord> identity;  // null: none is registered (unauthorized_client for grants)
  std::string definition;                          // its SPIFFE ID; empty without identity
  std::string instance, node;                      // T6; hashes; empty for private_key_jwt and federated SVIDs
  bool own_trust_domain = false;
  std::string x5t_s256;                           // kX509Svid
  std::string credential;                         // serial or jti, for audit
  absl::Time not_after = absl::InfiniteFuture();  // of the certificate
  absl::Time planned_rotation =
      absl::InfiniteFuture();                   // half life of the certificate: latest exp of an x5t-bound token
  absl::Time issued_at = absl::InfinitePast();  // of the assertion or certificate (T3: not_before)
  std::vector<std::pair<std::string, absl::Time>> once;  // to be consumed: `jti`s
};

// The instance (SPIFFE ID, attested agent) as tokens and records hold it; `node`: Client::node.
std::string InstanceHash(absl::string_view spiffe_id, absl::string_view node);

class ClientAuthenticator {
 public:
  virtual ~ClientAuthenticator() = default;
  // kUnauthenticated; the message is for audit alone.
  virtual absl::StatusOr<Client> Authenticate(const TokenRequest& request, absl::Time now) = 0;
  // How often cryptography was done, for tests: a proven chain is remembered, and a refusal costs as much as a proof.
  virtual uint64_t verifications() const { return 0; }
};

struct ClientAuthDeps {
  spiffe::TrustDomain trust_domain;
  std::string issuer;  // the one `aud` of assertions
  const EntryIndex& index;
  const TokenRegistry& registry;
  std::map<std::string, oauth::Keys> clients;  // client_id -> public keys by kid: private_key_jwt
};
// References must outlive it.
std::unique_ptr<ClientAuthenticator> MakeClientAuthenticator(ClientAuthDeps deps);

}  // namespace signet::server
