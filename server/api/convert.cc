#include "server/api/convert.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/types/agent.pb.h"
#include "spire/api/types/entry.pb.h"
#include "spire/api/types/federateswith.pb.h"
#include "spire/api/types/federationrelationship.pb.h"
#include "spire/api/types/jwtsvid.pb.h"
#include "spire/api/types/selector.pb.h"
#include "spire/api/types/spiffeid.pb.h"
#include "spire/api/types/status.pb.h"
#include "spire/api/types/x509svid.pb.h"

namespace signet::server {
namespace {

absl::Status Refusal(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", why));
}

absl::Status CheckMember(absl::string_view field, const spiffe::Id& id, const spiffe::TrustDomain& own) {
  if (!id.IsMemberOf(own))
    return Refusal(field, absl::StrCat("\"", id.string(), "\" is not of trust domain ", own.name()));
  if (id.is_root()) return Refusal(field, absl::StrCat("\"", id.string(), "\" has no path"));
  return absl::OkStatus();
}

absl::Status CheckWorkload(absl::string_view field, const spiffe::Id& id, const spiffe::TrustDomain& own) {
  SIGNET_RETURN_IF_ERROR(CheckMember(field, id, own));
  if (spiffe::IsReservedId(id)) return Refusal(field, absl::StrCat("\"", id.string(), "\": /spire is reserved"));
  return absl::OkStatus();
}

// What is registered can be issued, whatever the rest of the certificate is.
absl::Status CheckFitsCertificate(const std::vector<std::string>& dns_names) {
  size_t bytes = 0;
  for (const std::string& name : dns_names) bytes += name.size();
  if (bytes <= kMaxDnsNamesBytes) return absl::OkStatus();
  return Refusal("dns_names", absl::StrCat(bytes, " bytes together, more than the ", kMaxDnsNamesBytes,
                                           " that fit a certificate of 16 KiB; use several entries"));
}

// SelectorMatch and FederatesWithMatch have the same four values.
template <typename E>
absl::StatusOr<Match> MatchFromWire(E match) {
  switch (static_cast<int>(match)) {
    case 0:
      return Match::kExact;
    case 1:
      return Match::kSubset;
    case 2:
      return Match::kSuperset;
    case 3:
      return Match::kAny;
    default:
      return Refusal("match", absl::StrCat("unknown behaviour ", static_cast<int>(match)));
  }
}

}  // namespace

absl::StatusOr<spiffe::Id> MemberId(absl::string_view field, const wire::SPIFFEID& in, const spiffe::TrustDomain& own) {
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, spiffe::IdFromWire(in), field);
  SIGNET_RETURN_IF_ERROR(CheckMember(field, id, own));
  return id;
}

absl::StatusOr<spiffe::Id> WorkloadId(absl::string_view field, const wire::SPIFFEID& in,
                                      const spiffe::TrustDomain& own) {
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, spiffe::IdFromWire(in), field);
  SIGNET_RETURN_IF_ERROR(CheckWorkload(field, id, own));
  return id;
}

absl::StatusOr<spiffe::Id> AgentId(absl::string_view field, const wire::SPIFFEID& in, const spiffe::TrustDomain& own) {
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, MemberId(field, in, own));
  if (!spiffe::IsAgentId(id)) return Refusal(field, absl::StrCat("\"", id.string(), "\" is no agent's ID"));
  return id;
}

absl::StatusOr<WantedEntry> EntryFromClient(const wire::Entry& in, const wire::EntryMask* mask,
                                            const spiffe::TrustDomain& own) {
  const spiffe::Id unset = spiffe::Id::OfTrustDomain(own);
  WantedEntry wanted{{.id = in.id(),
                      .spiffe_id = unset,
                      .parent_id = unset,
                      .selectors = {},
                      .federates_with = {},
                      .dns_names = {},
                      .hint = {}},
                     {}};
  if (mask == nullptr) {
    SIGNET_ASSIGN_OR_RETURN(wanted.entry, spiffe::EntryFromWire(in));
  } else {
    if (!in.id().empty()) SIGNET_RETURN_IF_ERROR(spiffe::CheckEntryId(in.id()));
    SIGNET_RETURN_IF_ERROR(spiffe::UpdateFromWire(in, *mask, wanted.entry));
    wanted.fields = {.spiffe_id = mask->spiffe_id(),
                     .parent_id = mask->parent_id(),
                     .selectors = mask->selectors(),
                     .x509_svid_ttl = mask->x509_svid_ttl(),
                     .jwt_svid_ttl = mask->jwt_svid_ttl(),
                     .federates_with = mask->federates_with(),
                     .dns_names = mask->dns_names(),
                     .hint = mask->hint(),
                     .admin = mask->admin(),
                     .downstream = mask->downstream(),
                     .store_svid = mask->store_svid(),
                     .expires_at = mask->expires_at(),
                     .additional_attributes = mask->additional_attributes()};
  }
  if (wanted.entry.store_svid && std::adjacent_find(wanted.entry.selectors.begin(), wanted.entry.selectors.end(),
                                                    [](const spiffe::Selector& a, const spiffe::Selector& b) {
                                                      return a.type != b.type;
                                                    }) != wanted.entry.selectors.end()) {
    return Refusal("selectors", "must all be of one type, the store's, when store_svid is set");
  }
  if (wanted.fields.dns_names) SIGNET_RETURN_IF_ERROR(CheckFitsCertificate(wanted.entry.dns_names));
  if (wanted.fields.spiffe_id) SIGNET_RETURN_IF_ERROR(CheckWorkload("spiffe_id", wanted.entry.spiffe_id, own));
  if (wanted.fields.parent_id) SIGNET_RETURN_IF_ERROR(CheckMember("parent_id", wanted.entry.parent_id, own));
  return wanted;
}

void EntryToWire(const spiffe::Entry& entry, const wire::EntryMask* mask, wire::Entry& out) {
  spiffe::ToWire(entry, &out);
  if (mask != nullptr) spiffe::ApplyMask(*mask, &out);
}

void AgentToWire(const AgentRecord& agent, const wire::AgentMask* mask, wire::Agent& out) {
  spiffe::ToWire(agent.id, out.mutable_id());
  if (mask == nullptr || mask->attestation_type()) out.set_attestation_type(agent.attestation_type);
  if (mask == nullptr || mask->x509svid_serial_number()) out.set_x509svid_serial_number(agent.serial);
  if (mask == nullptr || mask->x509svid_expires_at())
    out.set_x509svid_expires_at(absl::ToUnixSeconds(agent.expires_at));
  if (mask == nullptr || mask->selectors()) spiffe::ToWire(agent.selectors, out.mutable_selectors());
  if (mask == nullptr || mask->banned()) out.set_banned(agent.banned);
  if (mask == nullptr || mask->can_reattest()) out.set_can_reattest(agent.can_reattest);
  if (mask == nullptr || mask->agent_version()) out.set_agent_version(agent.agent_version);
}

absl::Status CheckBundleEndpointUrl(absl::string_view url) {
  constexpr absl::string_view kScheme = "https://";
  constexpr size_t kMaxUrlBytes = 2048;
  const auto refusal = [](absl::string_view why) { return Refusal("bundle_endpoint_url", why); };
  if (url.empty()) return refusal("missing");
  if (url.size() > kMaxUrlBytes) return refusal(absl::StrCat("longer than ", kMaxUrlBytes, " bytes"));
  if (std::any_of(url.begin(), url.end(), [](char c) { return !absl::ascii_isgraph(c) || c == '\\'; })) {
    return refusal("not a URL");
  }
  if (!absl::StartsWithIgnoreCase(url, kScheme)) return refusal("must use the https scheme");
  url.remove_prefix(kScheme.size());
  const absl::string_view authority = url.substr(0, url.find_first_of("/?#"));
  if (absl::StrContains(authority, '@')) return refusal("must not contain user information");
  const size_t bracket = authority.rfind(']');  // of an IPv6 address
  const size_t colon = authority.find(':', bracket == authority.npos ? 0 : bracket);
  if (authority.substr(0, colon).empty()) return refusal("must name a host");
  if (colon == authority.npos) return absl::OkStatus();
  uint32_t port = 0;
  if (!absl::SimpleAtoi(authority.substr(colon + 1), &port) || port == 0 || port > 65535) {
    return refusal("bad port");
  }
  return absl::OkStatus();
}

absl::StatusOr<WantedFederation> FederationFromClient(const wire::FederationRelationship& in,
                                                      const wire::FederationRelationshipMask* mask,
                                                      const spiffe::TrustDomain& own) {
  SIGNET_ASSIGN_OR_RETURN(spiffe::TrustDomain name, spiffe::TrustDomain::ParseNameOrId(in.trust_domain()),
                          "trust_domain");
  if (name == own) return Refusal("trust_domain", "is the server's own");
  WantedFederation wanted{.relationship = {.trust_domain = std::move(name), .bundle_endpoint_url = {}}, .fields = {}};
  if (mask != nullptr) {
    wanted.fields = {mask->bundle_endpoint_url(), mask->bundle_endpoint_profile(), mask->trust_domain_bundle()};
  }
  FederationRelationship& out = wanted.relationship;
  if (wanted.fields.bundle_endpoint_url) {
    SIGNET_RETURN_IF_ERROR(CheckBundleEndpointUrl(in.bundle_endpoint_url()));
    out.bundle_endpoint_url = in.bundle_endpoint_url();
  }
  if (wanted.fields.bundle_endpoint_profile) {
    if (in.has_https_spiffe()) {
      SIGNET_ASSIGN_OR_RETURN(out.endpoint_spiffe_id, spiffe::Id::Parse(in.https_spiffe().endpoint_spiffe_id()),
                              "endpoint_spiffe_id");
    } else if (!in.has_https_web()) {
      return Refusal("bundle_endpoint_profile", "missing: https_web or https_spiffe");
    }
  }
  if (wanted.fields.bundle && in.has_trust_domain_bundle()) {
    SIGNET_ASSIGN_OR_RETURN(out.bundle, spiffe::BundleFromWire(in.trust_domain_bundle()), "trust_domain_bundle");
    if (out.bundle->trust_domain != out.trust_domain) {
      return Refusal("trust_domain_bundle", absl::StrCat("is of trust domain ", out.bundle->trust_domain.name(),
                                                         ", not of ", out.trust_domain.name()));
    }
  }
  return wanted;
}

void FederationToWire(const FederationRelationship& relationship, const wire::FederationRelationshipMask* mask,
                      wire::FederationRelationship& out) {
  out.set_trust_domain(relationship.trust_domain.name());
  if (mask == nullptr || mask->bundle_endpoint_url()) out.set_bundle_endpoint_url(relationship.bundle_endpoint_url);
  if (mask == nullptr || mask->bundle_endpoint_profile()) {
    if (relationship.endpoint_spiffe_id) {
      out.mutable_https_spiffe()->set_endpoint_spiffe_id(relationship.endpoint_spiffe_id->string());
    } else {
      out.mutable_https_web();
    }
  }
  if ((mask == nullptr || mask->trust_domain_bundle()) && relationship.bundle) {
    spiffe::ToWire(*relationship.bundle, out.mutable_trust_domain_bundle());
  }
}

PageRequest PageFromWire(int32_t page_size, const std::string& page_token) {
  if (page_size <= 0) return {};
  return {page_token, static_cast<size_t>(page_size)};
}

absl::StatusOr<SelectorFilter> SelectorFilterFromWire(const wire::SelectorMatch& in) {
  SelectorFilter filter;
  SIGNET_ASSIGN_OR_RETURN(filter.selectors, spiffe::SelectorsFromWire(in.selectors()), "by_selectors");
  if (filter.selectors.empty()) return Refusal("by_selectors", "at least one selector is required");
  SIGNET_ASSIGN_OR_RETURN(filter.match, MatchFromWire(in.match()), "by_selectors");
  return filter;
}

absl::StatusOr<FederatesWithFilter> FederatesWithFilterFromWire(const wire::FederatesWithMatch& in) {
  FederatesWithFilter filter;
  if (in.trust_domains().empty()) return Refusal("by_federates_with", "at least one trust domain is required");
  if (static_cast<size_t>(in.trust_domains_size()) > spiffe::kMaxFederatesWith) {
    return Refusal("by_federates_with", "too many trust domains");
  }
  for (const std::string& text : in.trust_domains()) {
    SIGNET_ASSIGN_OR_RETURN(const spiffe::TrustDomain name, spiffe::TrustDomain::ParseNameOrId(text),
                            "by_federates_with");
    filter.trust_domains.push_back(name.name());
  }
  std::sort(filter.trust_domains.begin(), filter.trust_domains.end());
  filter.trust_domains.erase(std::unique(filter.trust_domains.begin(), filter.trust_domains.end()),
                             filter.trust_domains.end());
  SIGNET_ASSIGN_OR_RETURN(filter.match, MatchFromWire(in.match()), "by_federates_with");
  return filter;
}

absl::StatusOr<absl::Time> ExpiresBeforeFromWire(const std::string& text) {
  absl::Time time;
  std::string error;
  // The zone stands there twice, as offset and as its name, which for many zones is an offset again: the first counts.
  const std::string head = text.substr(0, std::min<size_t>(text.size(), 25));
  if (text.size() <= 40 && (absl::ParseTime("%Y-%m-%d %H:%M:%S %z", head, &time, &error) ||
                            absl::ParseTime(absl::RFC3339_full, text, &time, &error))) {
    return time;
  }
  return Refusal("by_expires_before", "expected a time such as 2006-01-02 15:04:05 -0700 -07");
}

void X509SvidToWire(const spiffe::Id& id, const IssuedX509& issued, const std::string& hint, wire::X509SVID& out) {
  spiffe::ToWire(id, out.mutable_id());
  for (const crypto::Certificate& certificate : issued.chain) out.add_cert_chain(certificate.der());
  out.set_expires_at(absl::ToUnixSeconds(issued.expires_at));
  if (!hint.empty()) out.set_hint(hint);
}

void JwtSvidToWire(const spiffe::Id& id, IssuedJwt issued, const std::string& hint, wire::JWTSVID& out) {
  spiffe::ToWire(id, out.mutable_id());
  out.set_token(std::move(issued.token));
  out.set_expires_at(absl::ToUnixSeconds(issued.expires_at));
  out.set_issued_at(absl::ToUnixSeconds(issued.issued_at));
  if (!hint.empty()) out.set_hint(hint);
}

void StatusToWire(const absl::Status& status, wire::Status& out) {
  out.set_code(static_cast<int32_t>(status.code()));
  if (status.ok()) {
    out.set_message("OK");
  } else if (status.code() == absl::StatusCode::kInternal || status.code() == absl::StatusCode::kUnknown) {
    out.set_message("internal error");
  } else {
    out.set_message(std::string(status.message()));
  }
}

}  // namespace signet::server
