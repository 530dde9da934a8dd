#include "server/ca/certificate_authority.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/failpoint/failpoint.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

absl::StatusOr<ActiveX509> CurrentX509(const LatestValue<ActiveAuthorities>& authorities, absl::Time now) {
  const auto snapshot = authorities.Get();
  if (snapshot == nullptr || !snapshot->x509.has_value()) {
    return absl::UnavailableError("no X.509 authority is active yet: retry");
  }
  if (snapshot->x509->certificate.not_after() <= now) {
    return absl::UnavailableError(
        "the active X.509 authority has ended and there is no next one: see the server's health");
  }
  return *snapshot->x509;
}

absl::StatusOr<ActiveJwt> CurrentJwt(const LatestValue<ActiveAuthorities>& authorities, absl::Time now) {
  const auto snapshot = authorities.Get();
  if (snapshot == nullptr || !snapshot->jwt.has_value()) {
    return absl::UnavailableError("no JWT authority is active yet: retry");
  }
  if (snapshot->jwt->not_after <= now) {
    return absl::UnavailableError(
        "the active JWT authority has ended and there is no next one: see the server's health");
  }
  return *snapshot->jwt;
}

crypto::MessageSigner SignerFor(KeyManager& keys, const std::string& key_id) {
  return [&keys, &key_id](crypto::HashAlgorithm hash, absl::string_view message) -> absl::StatusOr<std::string> {
    SIGNET_FAILPOINT_STATUS("ca.before_sign");
    auto signature = keys.Sign(key_id, hash, message);
    SIGNET_FAILPOINT_STATUS("ca.after_sign");
    return signature;
  };
}

}  // namespace

CertificateAuthority::CertificateAuthority(IssuePolicy policy, KeyManager& keys,
                                           const LatestValue<ActiveAuthorities>& authorities, Clock& clock)
    : policy_(std::move(policy)), keys_(keys), authorities_(authorities), clock_(clock) {}

absl::StatusOr<IssuedX509> CertificateAuthority::Issue(const ActiveX509& authority,
                                                       const crypto::CertificateTemplate& tmpl,
                                                       const crypto::PublicKey& key) const {
  const crypto::Certificate& issuer = authority.certificate;
  SIGNET_ASSIGN_OR_RETURN(crypto::Certificate leaf,
                          crypto::IssueCertificate(tmpl, key, issuer.subject_der(), issuer.subject_key_id(),
                                                   issuer.public_key().type(), SignerFor(keys_, authority.key_id)));
  IssuedX509 issued{{}, leaf.not_after()};
  issued.chain.reserve(authority.upstream_chain.size() + 2);
  issued.chain.push_back(std::move(leaf));
  if (!authority.upstream_chain.empty()) {  // under an upstream root our authority is an intermediate
    issued.chain.push_back(issuer);
    issued.chain.insert(issued.chain.end(), authority.upstream_chain.begin(), authority.upstream_chain.end());
  }
  return issued;
}

absl::StatusOr<IssuedX509> CertificateAuthority::SignWorkload(const spiffe::Entry& entry, const crypto::PublicKey& key,
                                                              const spiffe::Id* agent) const {
  const absl::Time now = clock_.Now();
  SIGNET_ASSIGN_OR_RETURN(const ActiveX509 authority, CurrentX509(authorities_, now));
  SIGNET_ASSIGN_OR_RETURN(const auto tmpl,
                          WorkloadTemplate(entry, policy_, authority.certificate.not_after(), now, agent));
  return Issue(authority, tmpl, key);
}

absl::StatusOr<IssuedX509> CertificateAuthority::SignAgent(const spiffe::Id& agent_id,
                                                           const crypto::PublicKey& key) const {
  const absl::Time now = clock_.Now();
  SIGNET_ASSIGN_OR_RETURN(const ActiveX509 authority, CurrentX509(authorities_, now));
  SIGNET_ASSIGN_OR_RETURN(const auto tmpl, AgentTemplate(agent_id, policy_, authority.certificate.not_after(), now));
  return Issue(authority, tmpl, key);
}

absl::StatusOr<IssuedX509> CertificateAuthority::SignServer(const crypto::PublicKey& key,
                                                            const std::string& dns_name) const {
  const absl::Time now = clock_.Now();
  SIGNET_ASSIGN_OR_RETURN(const ActiveX509 authority, CurrentX509(authorities_, now));
  SIGNET_ASSIGN_OR_RETURN(const auto tmpl, ServerTemplate(policy_, authority.certificate.not_after(), now, dns_name));
  return Issue(authority, tmpl, key);
}

absl::StatusOr<IssuedX509> CertificateAuthority::Mint(const MintRequest& request, const crypto::PublicKey& key) const {
  const absl::Time now = clock_.Now();
  SIGNET_ASSIGN_OR_RETURN(const ActiveX509 authority, CurrentX509(authorities_, now));
  SIGNET_ASSIGN_OR_RETURN(const auto tmpl, MintTemplate(request, policy_, authority.certificate.not_after(), now));
  return Issue(authority, tmpl, key);
}

absl::StatusOr<IssuedJwt> CertificateAuthority::SignJwt(const spiffe::Id& id, std::vector<std::string> audience,
                                                        absl::Duration ttl, bool with_jti,
                                                        std::optional<spiffe::IssuedTo> issued_to) const {
  const absl::Time now = clock_.Now();
  SIGNET_ASSIGN_OR_RETURN(const ActiveJwt authority, CurrentJwt(authorities_, now));
  SIGNET_ASSIGN_OR_RETURN(
      const spiffe::JwtSvidClaims claims,
      JwtClaims(id, std::move(audience), ttl, with_jti, policy_, authority.not_after, now, std::move(issued_to)));
  SIGNET_ASSIGN_OR_RETURN(std::string token, spiffe::SignJwtSvid(claims, authority.kid, authority.type,
                                                                 SignerFor(keys_, authority.key_manager_id)));
  return IssuedJwt{std::move(token), claims.issued_at, claims.expires_at};
}

}  // namespace signet::server
