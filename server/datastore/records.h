// What the datastore holds, as plain structs. No wire types, no SQL types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/id.h"
#include "common/spiffe/selector.h"

namespace signet::server {

// An attested node. `serial` empties on a ban. `new_serial` is a renewal that the agent has not used yet: both are
// current until a call arrives with the new one.
struct AgentRecord {
  spiffe::Id id;
  std::string attestation_type;
  std::string serial, new_serial;  // decimal, as SPIRE shows them
  absl::Time expires_at = absl::UnixEpoch(), new_expires_at = absl::UnixEpoch();
  spiffe::Selectors selectors;
  bool banned = false;
  bool can_reattest = false;
  std::string agent_version;
  friend bool operator==(const AgentRecord&, const AgentRecord&) = default;
};

// A join token is kept as its SHA-256 only: an unspent token stands nowhere in clear.
struct JoinTokenRecord {
  std::string token_sha256;  // 32 raw bytes
  absl::Time expires_at;
  std::optional<spiffe::Id> alias_id;  // asked for with the token: alias entry made when the token is spent
  std::string spent_by;                // SHA-256 of the key that spent it, 32 raw bytes; empty: unspent
};

// One position of the change feed: written in the transaction of the change, visible in commit order.
struct Change {
  enum class Kind : uint8_t {
    kEntry = 1,
    kAgent = 2,
    kBundle = 3,
    // Records of the token service (token_records.h), by their keys.
    kIdentity = 4,
    kIssuer = 5,
    kResource = 6,
    kGrant = 7,
    kTask = 8,
    kUserRights = 9,   // UserKey
    kRevocation = 10,  // "<kind number>/<entity>"
  };
  uint64_t seq = 0;
  Kind kind = Kind::kEntry;
  std::string key;  // entry id, agent SPIFFE ID, trust domain name ...; the row it names may be gone by now
};

// A page of a list, in the order of the key. `next` is empty at the end, else what to pass as `after`.
template <typename T>
struct Page {
  std::vector<T> items;
  std::string next;
};
struct PageRequest {
  std::string after;  // from Page::next; empty: from the start
  size_t limit = 0;   // 0: all
};

enum class Match { kExact, kSubset, kSuperset, kAny };
struct SelectorFilter {
  spiffe::Selectors selectors;
  Match match = Match::kExact;
};
struct FederatesWithFilter {
  std::vector<std::string> trust_domains;
  Match match = Match::kExact;
};
struct EntryFilter {
  std::optional<spiffe::Id> spiffe_id, parent_id;
  std::optional<SelectorFilter> selectors;
  std::optional<FederatesWithFilter> federates_with;
  std::optional<std::string> hint;
  std::optional<bool> downstream;
};
struct AgentFilter {
  std::optional<std::string> attestation_type;
  std::optional<SelectorFilter> selectors;
  std::optional<bool> banned, can_reattest;
  std::optional<absl::Time> expires_before;
};

// One status an item of a batch; `record` is the stored one, for kAlreadyExists the one that was there before.
struct EntryResult {
  absl::Status status;
  std::optional<spiffe::Entry> record;
};

// Which fields of an entry an update replaces; default: all that a client may set.
struct EntryFields {
  bool spiffe_id = true, parent_id = true, selectors = true, x509_svid_ttl = true, jwt_svid_ttl = true,
       federates_with = true, dns_names = true, hint = true, admin = true, downstream = true, store_svid = true,
       expires_at = true, additional_attributes = true;
};

// How the bundle of a foreign trust domain is had.
struct FederationRelationship {
  spiffe::TrustDomain trust_domain;
  std::string bundle_endpoint_url;                    // https://...
  std::optional<spiffe::Id> endpoint_spiffe_id = {};  // profile https_spiffe: who must answer; none: https_web
  // Read: what is stored of it, if anything. Written: takes the place of what is stored; none leaves that alone.
  std::optional<spiffe::Bundle> bundle = {};
  friend bool operator==(const FederationRelationship&, const FederationRelationship&) = default;
};
// Which parts an update replaces.
struct FederationFields {
  bool bundle_endpoint_url = true, bundle_endpoint_profile = true, bundle = true;
};
// One status an item of a batch; `record` is the stored one.
struct FederationResult {
  absl::Status status;
  std::optional<FederationRelationship> record = {};
};

// A change of one trust domain's bundle. The sequence number grows whenever the content changes.
struct BundleChange {
  std::vector<spiffe::X509Authority> add_x509;
  std::vector<spiffe::JwtAuthority> add_jwt;
  absl::Time remove_expired_before = absl::InfinitePast();  // authorities that ended before it are dropped
};

}  // namespace signet::server
