// Pure: (what is asked, policy, the active authority, now) -> contents of a certificate or JWT. No key, no clock, no
// I/O. The rules are those of spiffe X509-SVID 2 to 4 and JWT-SVID 3, and of RFC 5280 4.1.2; TTLs are capped by the
// authority's end; notBefore lies 10 s back.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/crypto/certificate_builder.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/id.h"
#include "common/spiffe/issued_to.h"
#include "common/spiffe/jwt_svid.h"

namespace signet::server {

inline constexpr absl::Duration kBackdate = absl::Seconds(10);  // SPIRE's, for clocks that lag

struct IssuePolicy {
  spiffe::TrustDomain trust_domain;
  absl::Duration x509_ttl = absl::Hours(1);
  absl::Duration jwt_ttl = absl::Minutes(5);
  absl::Duration agent_ttl = absl::Hours(1);
  absl::Duration ca_ttl = absl::Hours(24);
  std::string jwt_issuer;    // empty: no iss
  std::string token_issuer;  // `iss` of the own token service; empty: off, and nothing says to whom it was issued
  crypto::DistinguishedName ca_subject;
};

// A workload's certificate: everything from the entry (CVE-2021-27098), nothing from the request but the key.
// kFailedPrecondition when the authority ends before notBefore < notAfter can hold.
// `agent`: who asks for it; goes into the certificate while the token service is on (T6). Null: nobody attested.
absl::StatusOr<crypto::CertificateTemplate> WorkloadTemplate(const spiffe::Entry& entry, const IssuePolicy& policy,
                                                             absl::Time authority_not_after, absl::Time now,
                                                             const spiffe::Id* agent = nullptr);
absl::StatusOr<crypto::CertificateTemplate> AgentTemplate(const spiffe::Id& agent_id, const IssuePolicy& policy,
                                                          absl::Time authority_not_after, absl::Time now);
// `dns_name`: where ordinary TLS clients find it; empty: none.
absl::StatusOr<crypto::CertificateTemplate> ServerTemplate(const IssuePolicy& policy, absl::Time authority_not_after,
                                                           absl::Time now, const std::string& dns_name = "");
// MintX509SVID: ID and DNS names chosen by an administrator. `ttl` zero: the policy's.
struct MintRequest {
  spiffe::Id id;
  std::vector<std::string> dns_names;
  absl::Duration ttl = absl::ZeroDuration();
};
absl::StatusOr<crypto::CertificateTemplate> MintTemplate(const MintRequest& request, const IssuePolicy& policy,
                                                         absl::Time authority_not_after, absl::Time now);
crypto::CertificateTemplate AuthorityTemplate(const IssuePolicy& policy, absl::Time now);

// Of what a token service takes as an assertion (token-service 3).
inline constexpr absl::Duration kMaxAssertionLife = absl::Minutes(5);

// `ttl` zero: the policy's. `with_jti` adds a random jti. For the token service alone as audience, the life is cut to
// what it takes and `issued_to` is written into it; otherwise `issued_to` stays out.
absl::StatusOr<spiffe::JwtSvidClaims> JwtClaims(const spiffe::Id& id, std::vector<std::string> audience,
                                                absl::Duration ttl, bool with_jti, const IssuePolicy& policy,
                                                absl::Time authority_not_after, absl::Time now,
                                                std::optional<spiffe::IssuedTo> issued_to = std::nullopt);

}  // namespace signet::server
