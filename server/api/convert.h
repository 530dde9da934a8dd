// Wire messages <-> records of the server: the only place that trusts no field. What server and agent both convert is
// in common/spiffe/wire.h. Errors: kInvalidArgument names the field and the rule.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/id.h"
#include "server/ca/certificate_authority.h"
#include "server/datastore/records.h"

namespace spire::api::types {
class Agent;
class AgentMask;
class Entry;
class EntryMask;
class FederatesWithMatch;
class FederationRelationship;
class FederationRelationshipMask;
class JWTSVID;
class SelectorMatch;
class SPIFFEID;
class Status;
class X509SVID;
}  // namespace spire::api::types

namespace signet::server {

namespace wire = ::spire::api::types;

// IDs of our trust domain, with a path. `field` stands before the error.
absl::StatusOr<spiffe::Id> MemberId(absl::string_view field, const wire::SPIFFEID& id, const spiffe::TrustDomain& own);
// The same, outside /spire.
absl::StatusOr<spiffe::Id> WorkloadId(absl::string_view field, const wire::SPIFFEID& id,
                                      const spiffe::TrustDomain& own);
// The same, below /spire/agent/.
absl::StatusOr<spiffe::Id> AgentId(absl::string_view field, const wire::SPIFFEID& id, const spiffe::TrustDomain& own);

// Of all DNS names of an entry. A certificate has at most 16 KiB (crypto/certificate.h); what else is in it (a SPIFFE
// ID of 2 KiB, a key of RSA 8192, a signature of RSA 4096, 64 names' headers, issuer, extensions) takes less than 6 of
// them.
inline constexpr size_t kMaxDnsNamesBytes = 10 * 1024;

// An entry as a client wants it. Without mask everything is read; with one only what it names, and the rest stays
// empty. `EntryFields` says what was named. The id is checked in form alone; created_at and revision are the store's.
struct WantedEntry {
  spiffe::Entry entry;
  EntryFields fields;
};
absl::StatusOr<WantedEntry> EntryFromClient(const wire::Entry& in, const wire::EntryMask* mask,
                                            const spiffe::TrustDomain& own);
// An entry as a client sees it. Without mask everything; the id always.
void EntryToWire(const spiffe::Entry& entry, const wire::EntryMask* mask, wire::Entry& out);
void AgentToWire(const AgentRecord& agent, const wire::AgentMask* mask, wire::Agent& out);

// A relationship as a client wants it: without mask everything, with one only what it names; the trust domain always,
// which may not be our own. A bundle must be that trust domain's.
struct WantedFederation {
  FederationRelationship relationship;
  FederationFields fields;
};
absl::StatusOr<WantedFederation> FederationFromClient(const wire::FederationRelationship& in,
                                                      const wire::FederationRelationshipMask* mask,
                                                      const spiffe::TrustDomain& own);
void FederationToWire(const FederationRelationship& relationship, const wire::FederationRelationshipMask* mask,
                      wire::FederationRelationship& out);
// SPIFFE Federation 5.1: https, a host, no user information. What libcurl is given later.
absl::Status CheckBundleEndpointUrl(absl::string_view url);

// 0 and less: everything in one page, as SPIRE's clients expect.
PageRequest PageFromWire(int32_t page_size, const std::string& page_token);
absl::StatusOr<SelectorFilter> SelectorFilterFromWire(const wire::SelectorMatch& in);
absl::StatusOr<FederatesWithFilter> FederatesWithFilterFromWire(const wire::FederatesWithMatch& in);
// "2006-01-02 15:04:05 -0700 -07", the form SPIRE's CLI sends; RFC 3339 too.
absl::StatusOr<absl::Time> ExpiresBeforeFromWire(const std::string& text);

void X509SvidToWire(const spiffe::Id& id, const IssuedX509& issued, const std::string& hint, wire::X509SVID& out);
void JwtSvidToWire(const spiffe::Id& id, IssuedJwt issued, const std::string& hint, wire::JWTSVID& out);
// One item of a batch. An internal error shows no detail; it is logged by whoever made it.
void StatusToWire(const absl::Status& status, wire::Status& out);

}  // namespace signet::server
