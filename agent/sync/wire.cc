#include "agent/sync/wire.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr int kMaxChain = 16;

absl::StatusOr<spiffe::Id> IdFromWire(const spire::api::types::SPIFFEID& wire) {
  SIGNET_ASSIGN_OR_RETURN(const spiffe::TrustDomain trust_domain, spiffe::TrustDomain::Parse(wire.trust_domain()));
  return spiffe::Id::FromPath(trust_domain, wire.path());
}

void IdToWire(const spiffe::Id& id, spire::api::types::SPIFFEID& wire) {
  wire.set_trust_domain(std::string(id.trust_domain_name()));
  wire.set_path(std::string(id.path()));
}

}  // namespace

absl::StatusOr<spiffe::Entry> EntryFromWire(const spire::api::types::Entry& wire, const spiffe::TrustDomain& trust_domain) {
  const std::string context = absl::StrCat("entry \"", wire.id().substr(0, 255), "\"");
  if (wire.id().empty() || wire.id().size() > 255) return absl::InvalidArgumentError("entry without a usable id");
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, IdFromWire(wire.spiffe_id()), context);
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id parent, IdFromWire(wire.parent_id()), context);
  if (!id.IsMemberOf(trust_domain) || id.is_root()) {
    return absl::InvalidArgumentError(absl::StrCat(context, ": ", id.string(), " is no workload of ", trust_domain.name()));
  }
  spiffe::Entry entry{.id = wire.id(), .spiffe_id = std::move(id), .parent_id = std::move(parent)};
  for (const spire::api::types::Selector& selector : wire.selectors()) {
    if (selector.type().empty() || selector.value().empty()) {
      return absl::InvalidArgumentError(absl::StrCat(context, ": empty selector"));
    }
    entry.selectors.push_back({selector.type(), selector.value()});
  }
  spiffe::Normalize(entry.selectors);
  entry.x509_svid_ttl = absl::Seconds(wire.x509_svid_ttl());
  entry.jwt_svid_ttl = absl::Seconds(wire.jwt_svid_ttl());
  for (const std::string& name : wire.federates_with()) {
    SIGNET_ASSIGN_OR_RETURN(const spiffe::TrustDomain td, spiffe::TrustDomain::ParseNameOrId(name), context);
    entry.federates_with.push_back(td.name());
  }
  std::sort(entry.federates_with.begin(), entry.federates_with.end());
  entry.dns_names.assign(wire.dns_names().begin(), wire.dns_names().end());
  entry.hint = wire.hint();
  entry.admin = wire.admin();
  entry.downstream = wire.downstream();
  entry.store_svid = wire.store_svid();
  entry.disable_x509_svid_prefetch = wire.additional_attributes().disable_x509_svid_prefetch();
  entry.jwt_svid_include_jti = wire.additional_attributes().jwt_svid_include_jti();
  entry.expires_at = absl::FromUnixSeconds(wire.expires_at());
  entry.created_at = absl::FromUnixSeconds(wire.created_at());
  entry.revision = wire.revision_number();
  return entry;
}

spire::api::types::Entry EntryToWire(const spiffe::Entry& entry) {
  spire::api::types::Entry wire;
  wire.set_id(entry.id);
  IdToWire(entry.spiffe_id, *wire.mutable_spiffe_id());
  IdToWire(entry.parent_id, *wire.mutable_parent_id());
  for (const spiffe::Selector& selector : entry.selectors) {
    spire::api::types::Selector& out = *wire.add_selectors();
    out.set_type(selector.type);
    out.set_value(selector.value);
  }
  wire.set_x509_svid_ttl(static_cast<int32_t>(absl::ToInt64Seconds(entry.x509_svid_ttl)));
  wire.set_jwt_svid_ttl(static_cast<int32_t>(absl::ToInt64Seconds(entry.jwt_svid_ttl)));
  for (const std::string& name : entry.federates_with) wire.add_federates_with(name);
  for (const std::string& name : entry.dns_names) wire.add_dns_names(name);
  wire.set_hint(entry.hint);
  wire.set_admin(entry.admin);
  wire.set_downstream(entry.downstream);
  wire.set_store_svid(entry.store_svid);
  wire.mutable_additional_attributes()->set_disable_x509_svid_prefetch(entry.disable_x509_svid_prefetch);
  wire.mutable_additional_attributes()->set_jwt_svid_include_jti(entry.jwt_svid_include_jti);
  wire.set_expires_at(absl::ToUnixSeconds(entry.expires_at));
  wire.set_created_at(absl::ToUnixSeconds(entry.created_at));
  wire.set_revision_number(entry.revision);
  return wire;
}

absl::StatusOr<spiffe::Bundle> BundleFromWire(const spire::api::types::Bundle& wire) {
  SIGNET_ASSIGN_OR_RETURN(spiffe::TrustDomain trust_domain, spiffe::TrustDomain::ParseNameOrId(wire.trust_domain()), "bundle");
  const std::string context = absl::StrCat("bundle of ", trust_domain.name());
  spiffe::Bundle bundle{std::move(trust_domain), {}, {}};
  for (const spire::api::types::X509Certificate& authority : wire.x509_authorities()) {
    SIGNET_ASSIGN_OR_RETURN(crypto::Certificate certificate, crypto::Certificate::Parse(authority.asn1()), context);
    bundle.x509_authorities.push_back({std::move(certificate), authority.tainted()});
  }
  for (const spire::api::types::JWTKey& authority : wire.jwt_authorities()) {
    SIGNET_ASSIGN_OR_RETURN(crypto::PublicKey key, crypto::PublicKey::ParseSpki(authority.public_key()), context);
    if (authority.key_id().empty()) return absl::InvalidArgumentError(absl::StrCat(context, ": JWT key without an id"));
    bundle.jwt_authorities.push_back(
        {authority.key_id(), std::move(key), absl::FromUnixSeconds(authority.expires_at()), authority.tainted()});
  }
  bundle.refresh_hint = absl::Seconds(wire.refresh_hint());
  bundle.sequence_number = wire.sequence_number();
  return bundle;
}

spire::api::types::Bundle BundleToWire(const spiffe::Bundle& bundle) {
  spire::api::types::Bundle wire;
  wire.set_trust_domain(bundle.trust_domain.name());
  for (const spiffe::X509Authority& authority : bundle.x509_authorities) {
    spire::api::types::X509Certificate& out = *wire.add_x509_authorities();
    out.set_asn1(authority.certificate.der());
    out.set_tainted(authority.tainted);
  }
  for (const spiffe::JwtAuthority& authority : bundle.jwt_authorities) {
    spire::api::types::JWTKey& out = *wire.add_jwt_authorities();
    out.set_public_key(authority.key.spki_der());
    out.set_key_id(authority.key_id);
    out.set_expires_at(absl::ToUnixSeconds(authority.expires_at));
    out.set_tainted(authority.tainted);
  }
  wire.set_refresh_hint(absl::ToInt64Seconds(bundle.refresh_hint));
  wire.set_sequence_number(bundle.sequence_number);
  return wire;
}

absl::StatusOr<std::vector<crypto::Certificate>> ChainFromWire(const spire::api::types::X509SVID& wire) {
  if (wire.cert_chain().empty() || wire.cert_chain_size() > kMaxChain) {
    return absl::InvalidArgumentError(absl::StrCat("X.509-SVID of ", wire.cert_chain_size(), " certificates"));
  }
  std::vector<crypto::Certificate> chain;
  for (const std::string& der : wire.cert_chain()) {
    SIGNET_ASSIGN_OR_RETURN(crypto::Certificate certificate, crypto::Certificate::Parse(der), "X.509-SVID");
    chain.push_back(std::move(certificate));
  }
  return chain;
}

}  // namespace signet::agent
