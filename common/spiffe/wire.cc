#include "common/spiffe/wire.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status/macros.h"
#include "spire/api/types/bundle.pb.h"
#include "spire/api/types/entry.pb.h"
#include "spire/api/types/selector.pb.h"
#include "spire/api/types/spiffeid.pb.h"

namespace signet::spiffe {
namespace {

using ::google::protobuf::RepeatedPtrField;

constexpr size_t kMaxEntryIdBytes = 255;
constexpr size_t kMaxDnsNameBytes = 253;  // RFC 1035 2.3.4, without the root's dot
constexpr size_t kMaxDnsLabelBytes = 63;
constexpr size_t kMaxAuthorities = 1000;  // of one kind in a bundle
constexpr size_t kMaxKeyIdBytes = 255;
constexpr int64_t kMaxUnixSeconds = 253402300799;  // the end of year 9999: what a certificate can say

absl::Status Refusal(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", why));
}

absl::Status CheckCount(absl::string_view field, int count, size_t limit) {
  if (static_cast<size_t>(count) <= limit) return absl::OkStatus();
  return Refusal(field, absl::StrCat(count, " items, more than ", limit));
}

std::string Indexed(absl::string_view field, size_t index) { return absl::StrCat(field, "[", index, "]"); }

absl::StatusOr<absl::Time> TimeFromWire(absl::string_view field, int64_t unix_seconds) {
  if (unix_seconds < 0 || unix_seconds > kMaxUnixSeconds) return Refusal(field, "not a time between 1970 and 9999");
  return absl::FromUnixSeconds(unix_seconds);
}

absl::StatusOr<absl::Duration> TtlFromWire(absl::string_view field, int32_t seconds) {
  if (seconds < 0) return Refusal(field, "negative");
  return absl::Seconds(seconds);
}

absl::StatusOr<Selectors> EntrySelectors(const wire::Entry& entry) {
  if (entry.selectors().empty()) return Refusal("selectors", "an entry needs at least one");
  return SelectorsFromWire(entry.selectors());
}

absl::StatusOr<std::vector<std::string>> FederatesWith(const wire::Entry& entry) {
  SIGNET_RETURN_IF_ERROR(CheckCount("federates_with", entry.federates_with_size(), kMaxFederatesWith));
  std::vector<std::string> names;
  for (const std::string& text : entry.federates_with()) {
    SIGNET_ASSIGN_OR_RETURN(const TrustDomain td, TrustDomain::ParseNameOrId(text),
                            Indexed("federates_with", names.size()));
    names.push_back(td.name());
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

absl::StatusOr<std::vector<std::string>> DnsNames(const wire::Entry& entry) {
  SIGNET_RETURN_IF_ERROR(CheckCount("dns_names", entry.dns_names_size(), kMaxDnsNames));
  std::vector<std::string> names;  // in the order given: the first becomes the common name
  for (int i = 0; i < entry.dns_names_size(); ++i) {
    const std::string& name = entry.dns_names(i);
    SIGNET_RETURN_IF_ERROR(CheckDnsName(name), Indexed("dns_names", static_cast<size_t>(i)));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

absl::StatusOr<std::string> Hint(const wire::Entry& entry) {
  if (entry.hint().size() > kMaxHintBytes) return Refusal("hint", absl::StrCat("more than ", kMaxHintBytes, " bytes"));
  return entry.hint();
}

// Everything but the two IDs, which an Entry cannot be without.
absl::Status ReadFields(const wire::Entry& from, const wire::EntryMask& mask, Entry& to) {
  if (mask.selectors()) {
    SIGNET_ASSIGN_OR_RETURN(to.selectors, EntrySelectors(from));
  }
  if (mask.x509_svid_ttl()) {
    SIGNET_ASSIGN_OR_RETURN(to.x509_svid_ttl, TtlFromWire("x509_svid_ttl", from.x509_svid_ttl()));
  }
  if (mask.jwt_svid_ttl()) {
    SIGNET_ASSIGN_OR_RETURN(to.jwt_svid_ttl, TtlFromWire("jwt_svid_ttl", from.jwt_svid_ttl()));
  }
  if (mask.federates_with()) {
    SIGNET_ASSIGN_OR_RETURN(to.federates_with, FederatesWith(from));
  }
  if (mask.dns_names()) {
    SIGNET_ASSIGN_OR_RETURN(to.dns_names, DnsNames(from));
  }
  if (mask.hint()) {
    SIGNET_ASSIGN_OR_RETURN(to.hint, Hint(from));
  }
  if (mask.expires_at()) {
    SIGNET_ASSIGN_OR_RETURN(to.expires_at, TimeFromWire("expires_at", from.expires_at()));
  }
  if (mask.admin()) to.admin = from.admin();
  if (mask.downstream()) to.downstream = from.downstream();
  if (mask.store_svid()) to.store_svid = from.store_svid();
  if (mask.additional_attributes()) {
    to.disable_x509_svid_prefetch = from.additional_attributes().disable_x509_svid_prefetch();
    to.jwt_svid_include_jti = from.additional_attributes().jwt_svid_include_jti();
  }
  return absl::OkStatus();
}

wire::EntryMask AllFields() {
  wire::EntryMask mask;
  mask.set_spiffe_id(true);
  mask.set_parent_id(true);
  mask.set_selectors(true);
  mask.set_x509_svid_ttl(true);
  mask.set_federates_with(true);
  mask.set_admin(true);
  mask.set_downstream(true);
  mask.set_expires_at(true);
  mask.set_dns_names(true);
  mask.set_revision_number(true);
  mask.set_store_svid(true);
  mask.set_jwt_svid_ttl(true);
  mask.set_hint(true);
  mask.set_created_at(true);
  mask.set_additional_attributes(true);
  return mask;
}

absl::Status CheckDnsLabel(absl::string_view label) {
  if (label.empty()) return absl::InvalidArgumentError("DNS name: an empty label");
  if (label.size() > kMaxDnsLabelBytes) return absl::InvalidArgumentError("DNS name: a label of more than 63 bytes");
  if (label.front() == '-' || label.back() == '-') {
    return absl::InvalidArgumentError("DNS name: a label begins or ends with a hyphen");
  }
  for (char c : label) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_') continue;
    return absl::InvalidArgumentError("DNS name: only letters, digits, - and _ are allowed in a label");
  }
  return absl::OkStatus();
}

absl::StatusOr<JwtAuthority> JwtAuthorityFromWire(const wire::JWTKey& key) {
  if (key.key_id().empty() || key.key_id().size() > kMaxKeyIdBytes) return Refusal("key_id", "not 1 to 255 bytes");
  SIGNET_ASSIGN_OR_RETURN(crypto::PublicKey public_key, crypto::PublicKey::ParseSpki(key.public_key()), "public_key");
  SIGNET_ASSIGN_OR_RETURN(const absl::Time expires_at, TimeFromWire("expires_at", key.expires_at()));
  return JwtAuthority{
      .key_id = key.key_id(), .key = std::move(public_key), .expires_at = expires_at, .tainted = key.tainted()};
}

absl::Status AddX509Authorities(const wire::Bundle& from, Bundle& to) {
  for (int i = 0; i < from.x509_authorities_size(); ++i) {
    const wire::X509Certificate& authority = from.x509_authorities(i);
    SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> certificates,
                            crypto::Certificate::ParseChain(authority.asn1(), 64),
                            Indexed("x509_authorities", static_cast<size_t>(i)));
    for (crypto::Certificate& certificate : certificates) {
      if (to.x509_authorities.size() == kMaxAuthorities) {
        return Refusal("x509_authorities", absl::StrCat("more than ", kMaxAuthorities));
      }
      to.x509_authorities.push_back({.certificate = std::move(certificate), .tainted = authority.tainted()});
    }
  }
  return absl::OkStatus();
}

absl::Status AddJwtAuthorities(const wire::Bundle& from, Bundle& to) {
  for (int i = 0; i < from.jwt_authorities_size(); ++i) {
    const std::string field = Indexed("jwt_authorities", static_cast<size_t>(i));
    SIGNET_ASSIGN_OR_RETURN(JwtAuthority authority, JwtAuthorityFromWire(from.jwt_authorities(i)), field);
    if (to.FindJwtAuthority(authority.key_id) != nullptr) return Refusal(field, "the key_id of another key");
    to.jwt_authorities.push_back(std::move(authority));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Id> IdFromWire(const wire::SPIFFEID& id) {
  SIGNET_ASSIGN_OR_RETURN(const TrustDomain trust_domain, TrustDomain::Parse(id.trust_domain()));
  return Id::FromPath(trust_domain, id.path());
}

void ToWire(const Id& id, wire::SPIFFEID* out) {
  out->set_trust_domain(std::string(id.trust_domain_name()));
  out->set_path(std::string(id.path()));
}

absl::StatusOr<Selectors> SelectorsFromWire(const RepeatedPtrField<wire::Selector>& selectors) {
  SIGNET_RETURN_IF_ERROR(CheckCount("selectors", selectors.size(), kMaxSelectors));
  Selectors out;
  out.reserve(static_cast<size_t>(selectors.size()));
  for (const wire::Selector& selector : selectors) {
    SIGNET_ASSIGN_OR_RETURN(Selector parsed, Selector::FromParts(selector.type(), selector.value()),
                            Indexed("selectors", out.size()));
    out.push_back(std::move(parsed));
  }
  Normalize(out);
  return out;
}

void ToWire(const Selectors& selectors, RepeatedPtrField<wire::Selector>* out) {
  out->Clear();
  out->Reserve(static_cast<int>(selectors.size()));
  for (const Selector& selector : selectors) {
    wire::Selector* item = out->Add();
    item->set_type(selector.type);
    item->set_value(selector.value);
  }
}

absl::Status CheckEntryId(absl::string_view id) {
  if (id.empty() || id.size() > kMaxEntryIdBytes) return absl::InvalidArgumentError("not 1 to 255 bytes");
  for (char c : id) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-') continue;
    return absl::InvalidArgumentError("only letters, digits, . _ - are allowed");
  }
  return absl::OkStatus();
}

absl::Status CheckDnsName(absl::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("DNS name: empty");
  if (name.size() > kMaxDnsNameBytes) return absl::InvalidArgumentError("DNS name: more than 253 bytes");
  absl::ConsumePrefix(&name, "*.");  // a wildcard stands for the first label alone (RFC 6125 6.4.3)
  for (absl::string_view label : absl::StrSplit(name, '.')) SIGNET_RETURN_IF_ERROR(CheckDnsLabel(label));
  return absl::OkStatus();
}

absl::StatusOr<Entry> EntryFromWire(const wire::Entry& entry) {
  if (!entry.id().empty()) SIGNET_RETURN_IF_ERROR(CheckEntryId(entry.id()), "id");
  SIGNET_ASSIGN_OR_RETURN(Id spiffe_id, IdFromWire(entry.spiffe_id()), "spiffe_id");
  SIGNET_ASSIGN_OR_RETURN(Id parent_id, IdFromWire(entry.parent_id()), "parent_id");
  Entry out{.id = entry.id(),
            .spiffe_id = std::move(spiffe_id),
            .parent_id = std::move(parent_id),
            .selectors = {},
            .federates_with = {},
            .dns_names = {},
            .hint = {}};
  SIGNET_RETURN_IF_ERROR(ReadFields(entry, AllFields(), out));
  SIGNET_ASSIGN_OR_RETURN(out.created_at, TimeFromWire("created_at", entry.created_at()));
  if (entry.revision_number() < 0) return Refusal("revision_number", "negative");
  out.revision = entry.revision_number();
  return out;
}

absl::Status UpdateFromWire(const wire::Entry& entry, const wire::EntryMask& mask, Entry& into) {
  Entry updated = into;
  if (mask.spiffe_id()) {
    SIGNET_ASSIGN_OR_RETURN(updated.spiffe_id, IdFromWire(entry.spiffe_id()), "spiffe_id");
  }
  if (mask.parent_id()) {
    SIGNET_ASSIGN_OR_RETURN(updated.parent_id, IdFromWire(entry.parent_id()), "parent_id");
  }
  SIGNET_RETURN_IF_ERROR(ReadFields(entry, mask, updated));
  into = std::move(updated);
  return absl::OkStatus();
}

void ToWire(const Entry& entry, wire::Entry* out) {
  out->Clear();
  out->set_id(entry.id);
  ToWire(entry.spiffe_id, out->mutable_spiffe_id());
  ToWire(entry.parent_id, out->mutable_parent_id());
  ToWire(entry.selectors, out->mutable_selectors());
  out->set_x509_svid_ttl(static_cast<int32_t>(absl::ToInt64Seconds(entry.x509_svid_ttl)));
  out->set_jwt_svid_ttl(static_cast<int32_t>(absl::ToInt64Seconds(entry.jwt_svid_ttl)));
  for (const std::string& name : entry.federates_with) out->add_federates_with(name);
  for (const std::string& name : entry.dns_names) out->add_dns_names(name);
  out->set_hint(entry.hint);
  out->set_admin(entry.admin);
  out->set_downstream(entry.downstream);
  out->set_store_svid(entry.store_svid);
  if (entry.disable_x509_svid_prefetch || entry.jwt_svid_include_jti) {  // absent: every attribute at its default
    out->mutable_additional_attributes()->set_disable_x509_svid_prefetch(entry.disable_x509_svid_prefetch);
    out->mutable_additional_attributes()->set_jwt_svid_include_jti(entry.jwt_svid_include_jti);
  }
  out->set_expires_at(absl::ToUnixSeconds(entry.expires_at));
  out->set_created_at(absl::ToUnixSeconds(entry.created_at));
  out->set_revision_number(entry.revision);
}

void ApplyMask(const wire::EntryMask& mask, wire::Entry* entry) {
  if (!mask.spiffe_id()) entry->clear_spiffe_id();
  if (!mask.parent_id()) entry->clear_parent_id();
  if (!mask.selectors()) entry->clear_selectors();
  if (!mask.x509_svid_ttl()) entry->clear_x509_svid_ttl();
  if (!mask.federates_with()) entry->clear_federates_with();
  if (!mask.admin()) entry->clear_admin();
  if (!mask.downstream()) entry->clear_downstream();
  if (!mask.expires_at()) entry->clear_expires_at();
  if (!mask.dns_names()) entry->clear_dns_names();
  if (!mask.revision_number()) entry->clear_revision_number();
  if (!mask.store_svid()) entry->clear_store_svid();
  if (!mask.jwt_svid_ttl()) entry->clear_jwt_svid_ttl();
  if (!mask.hint()) entry->clear_hint();
  if (!mask.created_at()) entry->clear_created_at();
  if (!mask.additional_attributes()) entry->clear_additional_attributes();
}

absl::StatusOr<Bundle> BundleFromWire(const wire::Bundle& bundle) {
  SIGNET_ASSIGN_OR_RETURN(TrustDomain trust_domain, TrustDomain::ParseNameOrId(bundle.trust_domain()), "trust_domain");
  SIGNET_RETURN_IF_ERROR(CheckCount("jwt_authorities", bundle.jwt_authorities_size(), kMaxAuthorities));
  if (bundle.refresh_hint() < 0) return Refusal("refresh_hint", "negative");
  Bundle out{.trust_domain = std::move(trust_domain),
             .x509_authorities = {},
             .jwt_authorities = {},
             .refresh_hint = absl::Seconds(bundle.refresh_hint()),
             .sequence_number = bundle.sequence_number()};
  SIGNET_RETURN_IF_ERROR(AddX509Authorities(bundle, out));
  SIGNET_RETURN_IF_ERROR(AddJwtAuthorities(bundle, out));
  return out;
}

void ToWire(const Bundle& bundle, wire::Bundle* out) {
  out->Clear();
  out->set_trust_domain(bundle.trust_domain.name());
  for (const X509Authority& authority : bundle.x509_authorities) {
    wire::X509Certificate* item = out->add_x509_authorities();
    item->set_asn1(authority.certificate.der());
    item->set_tainted(authority.tainted);
  }
  for (const JwtAuthority& authority : bundle.jwt_authorities) {
    wire::JWTKey* item = out->add_jwt_authorities();
    item->set_public_key(authority.key.spki_der());
    item->set_key_id(authority.key_id);
    item->set_expires_at(absl::ToUnixSeconds(authority.expires_at));
    item->set_tainted(authority.tainted);
  }
  out->set_refresh_hint(absl::ToInt64Seconds(bundle.refresh_hint));
  out->set_sequence_number(bundle.sequence_number);
}

void ApplyMask(const wire::BundleMask& mask, wire::Bundle* bundle) {
  if (!mask.x509_authorities()) bundle->clear_x509_authorities();
  if (!mask.jwt_authorities()) bundle->clear_jwt_authorities();
  if (!mask.refresh_hint()) bundle->clear_refresh_hint();
  if (!mask.sequence_number()) bundle->clear_sequence_number();
  if (!mask.wit_authorities()) bundle->clear_wit_authorities();
}

}  // namespace signet::spiffe
