#include "server/api/convert.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/types/agent.pb.h"
#include "spire/api/types/entry.pb.h"
#include "spire/api/types/federateswith.pb.h"
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
