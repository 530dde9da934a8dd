// Signs with the active authorities. Readers see one immutable snapshot of both; AuthorityRotator replaces it.
// Thread-safe; signing is CPU work only and runs inline.
// Errors: kUnavailable before the first authority is active, or when all have ended.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/concurrency/latest_value.h"
#include "common/crypto/certificate.h"
#include "common/crypto/csr.h"
#include "common/keymanager/key_manager.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/issued_to.h"
#include "common/spiffe/jwt_svid.h"
#include "common/time/clock.h"
#include "server/ca/svid_template.h"

namespace signet::server {

// The authority that signs now. `upstream_chain` is empty for a self-signed root.
struct ActiveX509 {
  std::string key_id;  // in the KeyManager
  crypto::Certificate certificate;
  std::vector<crypto::Certificate> upstream_chain;
};
struct ActiveJwt {
  std::string key_manager_id;  // in the KeyManager
  std::string kid;             // in tokens and the bundle
  crypto::KeyType type;
  absl::Time not_after;
};
// `token` and `receipt`: of the token service, while it is on. What they sign is verified by keys that never stand in a
// bundle (T5): those of both slots, and of receipts also the retired ones, for verification alone.
struct ActiveAuthorities {
  std::optional<ActiveX509> x509;
  std::optional<ActiveJwt> jwt;
  std::optional<ActiveJwt> token, receipt;
  std::shared_ptr<const std::map<std::string, crypto::PublicKey>> token_keys, receipt_keys;  // by kid; null: off
};

struct IssuedX509 {
  std::vector<crypto::Certificate> chain;  // leaf first; the root is left out
  absl::Time expires_at;
};
struct IssuedJwt {
  std::string token;
  absl::Time issued_at, expires_at;
};

class CertificateAuthority {
 public:
  // All references must outlive it.
  CertificateAuthority(IssuePolicy policy, KeyManager& keys, const LatestValue<ActiveAuthorities>& authorities,
                       Clock& clock);

  // `agent`: who asks, written into it while the token service is on (T6). Null: nobody attested.
  absl::StatusOr<IssuedX509> SignWorkload(const spiffe::Entry& entry, const crypto::PublicKey& key,
                                          const spiffe::Id* agent = nullptr) const;
  absl::StatusOr<IssuedX509> SignAgent(const spiffe::Id& agent_id, const crypto::PublicKey& key) const;
  absl::StatusOr<IssuedX509> SignServer(const crypto::PublicKey& key, const std::string& dns_name = "") const;
  absl::StatusOr<IssuedX509> Mint(const MintRequest& request, const crypto::PublicKey& key) const;
  absl::StatusOr<IssuedJwt> SignJwt(const spiffe::Id& id, std::vector<std::string> audience, absl::Duration ttl,
                                    bool with_jti, std::optional<spiffe::IssuedTo> issued_to = std::nullopt) const;
  const IssuePolicy& policy() const { return policy_; }

 private:
  absl::StatusOr<IssuedX509> Issue(const ActiveX509& authority, const crypto::CertificateTemplate& tmpl,
                                   const crypto::PublicKey& key) const;

  const IssuePolicy policy_;
  KeyManager& keys_;
  const LatestValue<ActiveAuthorities>& authorities_;
  Clock& clock_;
};

}  // namespace signet::server
