#include "server/ca/svid_template.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/random.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr size_t kMaxCommonName = 64;  // RFC 5280 ub-common-name
constexpr size_t kMaxDnsNames = 64;

absl::Time WholeSeconds(absl::Time time) { return absl::FromUnixSeconds(absl::ToUnixSeconds(time)); }

// [from, to): `ttl` from now on, but never beyond the authority that vouches for it (RFC 5280 leaves this open;
// X509-30).
struct Lifetime {
  absl::Time from, to;
};
absl::StatusOr<Lifetime> LifetimeFor(absl::Duration ttl, absl::Time authority_not_after, absl::Time now) {
  if (ttl < absl::Seconds(1)) return absl::InvalidArgumentError("the TTL is under one second");
  const absl::Time start = WholeSeconds(now);
  const absl::Time end = std::min(start + absl::Trunc(ttl, absl::Seconds(1)), WholeSeconds(authority_not_after));
  if (end <= start) {
    return absl::FailedPreconditionError("the signing authority has ended: is the clock right, and the CA rotating?");
  }
  return Lifetime{start, end};
}

// X509-SVID 3.1, 5.2: a leaf's ID has a path (X509-4); it is of the trust domain that signs.
absl::Status CheckSubject(const spiffe::Id& id, const IssuePolicy& policy) {
  if (!id.IsMemberOf(policy.trust_domain)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", id.string(), "\" is not of the trust domain ", policy.trust_domain.name()));
  }
  if (id.is_root())
    return absl::InvalidArgumentError(absl::StrCat("\"", id.string(), "\" has no path: no SVID may have it"));
  return absl::OkStatus();
}

absl::Status CheckWorkload(const spiffe::Id& id, const IssuePolicy& policy) {
  SIGNET_RETURN_IF_ERROR(CheckSubject(id, policy));
  if (!spiffe::IsReservedId(id)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", id.string(), "\" is reserved: no workload may have an ID under /spire"));
}

absl::StatusOr<crypto::CertificateTemplate> Leaf(const spiffe::Id& id, const std::vector<std::string>& dns_names,
                                                 absl::Duration ttl, absl::Time authority_not_after, absl::Time now) {
  if (dns_names.size() > kMaxDnsNames) return absl::InvalidArgumentError("more than 64 DNS names");
  for (const std::string& name : dns_names)
    SIGNET_RETURN_IF_ERROR(spiffe::CheckDnsName(name), absl::StrCat("\"", absl::CHexEscape(name), "\""));
  SIGNET_ASSIGN_OR_RETURN(const Lifetime lifetime, LifetimeFor(ttl, authority_not_after, now));
  crypto::CertificateTemplate t;
  t.serial = crypto::RandomSerialNumber();
  // Subject: the first DNS name as SPIRE does it, else empty, which makes the SAN critical (X509-5).
  if (!dns_names.empty() && dns_names.front().size() <= kMaxCommonName) t.subject.common_name = dns_names.front();
  t.not_before = lifetime.from - kBackdate;
  t.not_after = lifetime.to;
  t.uri_sans = {id.string()};  // X509-1
  t.dns_sans = dns_names;
  t.key_usage = crypto::kDigitalSignature | crypto::kKeyEncipherment | crypto::kKeyAgreement;  // X509-8 to X509-10
  t.server_and_client_auth = true;                                                             // X509-11, X509-12
  return t;
}

}  // namespace

absl::StatusOr<crypto::CertificateTemplate> WorkloadTemplate(const spiffe::Entry& entry, const IssuePolicy& policy,
                                                             absl::Time authority_not_after, absl::Time now,
                                                             const spiffe::Id* agent) {
  const std::string context = absl::StrCat("entry \"", entry.id, "\"");
  SIGNET_RETURN_IF_ERROR(CheckWorkload(entry.spiffe_id, policy), context);
  const absl::Duration ttl = entry.x509_svid_ttl > absl::ZeroDuration() ? entry.x509_svid_ttl : policy.x509_ttl;
  SIGNET_ASSIGN_OR_RETURN(auto t, Leaf(entry.spiffe_id, entry.dns_names, ttl, authority_not_after, now), context);
  if (agent != nullptr && !policy.token_issuer.empty()) {
    t.issued_to = spiffe::IssuedToDer({entry.id, spiffe::HashOfAgent(*agent)});
  }
  return t;
}

absl::StatusOr<crypto::CertificateTemplate> AgentTemplate(const spiffe::Id& agent_id, const IssuePolicy& policy,
                                                          absl::Time authority_not_after, absl::Time now) {
  SIGNET_RETURN_IF_ERROR(CheckSubject(agent_id, policy));
  if (!spiffe::IsAgentId(agent_id)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", agent_id.string(), "\" is no agent's ID"));
  }
  return Leaf(agent_id, {}, policy.agent_ttl, authority_not_after, now);
}

absl::StatusOr<crypto::CertificateTemplate> ServerTemplate(const IssuePolicy& policy, absl::Time authority_not_after,
                                                           absl::Time now, const std::string& dns_name) {
  std::vector<std::string> dns_names;
  if (!dns_name.empty()) dns_names.push_back(dns_name);
  return Leaf(spiffe::ServerId(policy.trust_domain), dns_names, policy.x509_ttl, authority_not_after, now);
}

absl::StatusOr<crypto::CertificateTemplate> MintTemplate(const MintRequest& request, const IssuePolicy& policy,
                                                         absl::Time authority_not_after, absl::Time now) {
  SIGNET_RETURN_IF_ERROR(CheckWorkload(request.id, policy));
  if (request.ttl < absl::ZeroDuration()) return absl::InvalidArgumentError("the TTL is negative");
  const absl::Duration ttl = request.ttl == absl::ZeroDuration() ? policy.x509_ttl : request.ttl;
  return Leaf(request.id, request.dns_names, ttl, authority_not_after, now);
}

crypto::CertificateTemplate AuthorityTemplate(const IssuePolicy& policy, absl::Time now) {
  crypto::CertificateTemplate t;
  t.serial = crypto::RandomSerialNumber();
  t.subject = policy.ca_subject;
  if (t.subject.empty()) {
    t.subject.country = "US";  // SPIRE's default
    t.subject.organization = "SPIFFE";
  }
  // Makes the names of a trust domain's authorities differ, so that path building never has to guess.
  if (t.subject.serial_number.empty()) t.subject.serial_number = crypto::SerialToDecimal(t.serial);
  t.not_before = WholeSeconds(now) - kBackdate;
  t.not_after = WholeSeconds(now) + policy.ca_ttl;
  t.uri_sans = {policy.trust_domain.IdString()};  // X509-16 to X509-18
  t.is_ca = true;
  t.key_usage = crypto::kKeyCertSign | crypto::kCrlSign;  // X509-15
  return t;
}

absl::StatusOr<spiffe::JwtSvidClaims> JwtClaims(const spiffe::Id& id, std::vector<std::string> audience,
                                                absl::Duration ttl, bool with_jti, const IssuePolicy& policy,
                                                absl::Time authority_not_after, absl::Time now,
                                                std::optional<spiffe::IssuedTo> issued_to) {
  SIGNET_RETURN_IF_ERROR(CheckWorkload(id, policy));
  audience.erase(std::remove(audience.begin(), audience.end(), std::string()), audience.end());
  if (audience.empty()) return absl::InvalidArgumentError("a JWT-SVID needs an audience");  // JWT-9
  if (ttl < absl::ZeroDuration()) return absl::InvalidArgumentError("the TTL is negative");
  if (ttl == absl::ZeroDuration()) ttl = policy.jwt_ttl;
  const bool assertion = !policy.token_issuer.empty() && audience.size() == 1 && audience[0] == policy.token_issuer;
  if (assertion) ttl = std::min(ttl, kMaxAssertionLife);
  SIGNET_ASSIGN_OR_RETURN(const Lifetime lifetime, LifetimeFor(ttl, authority_not_after, now));
  spiffe::JwtSvidClaims claims{id,          std::move(audience), lifetime.from,
                               lifetime.to, policy.jwt_issuer,   with_jti ? crypto::RandomUuid() : std::string(),
                               {}};
  if (assertion) claims.issued_to = std::move(issued_to);
  return claims;
}

}  // namespace signet::server
