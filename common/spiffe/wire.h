// Between the wire (spire.api.types) and the plain values of this folder. Reading trusts no field: sizes and counts are
// capped, every ID is parsed. Errors: kInvalidArgument that begins with the name of the field, such as "selectors[3]:
// ...". What depends on who asks (own trust domain, reserved names, rights) is the caller's to check.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/id.h"
#include "common/spiffe/selector.h"

namespace spire::api::types {
class Bundle;
class Entry;
class EntryMask;
class BundleMask;
class Selector;
class SPIFFEID;
}  // namespace spire::api::types
namespace google::protobuf {
template <typename Element>
class RepeatedPtrField;
}  // namespace google::protobuf

namespace signet::spiffe {

namespace wire = ::spire::api::types;

inline constexpr size_t kMaxSelectors = 100;
inline constexpr size_t kMaxDnsNames = 64;
inline constexpr size_t kMaxFederatesWith = 100;
inline constexpr size_t kMaxHintBytes = 1024;  // WL-25

absl::StatusOr<Id> IdFromWire(const wire::SPIFFEID& id);
void ToWire(const Id& id, wire::SPIFFEID* out);

// Normalised. At most kMaxSelectors; may be empty (a filter may be).
absl::StatusOr<Selectors> SelectorsFromWire(const google::protobuf::RepeatedPtrField<wire::Selector>& selectors);
void ToWire(const Selectors& selectors, google::protobuf::RepeatedPtrField<wire::Selector>* out);

// A whole entry: spiffe_id, parent_id and at least one selector are required, the id may be empty.
absl::StatusOr<Entry> EntryFromWire(const wire::Entry& entry);
// Replaces in `into` the fields that `mask` names by those of `entry`, with the same rules for each: an update. `into`
// is unchanged on error. The fields that the server sets (created_at, revision) are left alone.
absl::Status UpdateFromWire(const wire::Entry& entry, const wire::EntryMask& mask, Entry& into);
void ToWire(const Entry& entry, wire::Entry* out);
// Empties the fields that `mask` does not name; the id stays.
void ApplyMask(const wire::EntryMask& mask, wire::Entry* entry);

// Authorities of one trust domain; an `asn1` may hold several certificates. WIT authorities are not read.
absl::StatusOr<Bundle> BundleFromWire(const wire::Bundle& bundle);
void ToWire(const Bundle& bundle, wire::Bundle* out);
void ApplyMask(const wire::BundleMask& mask, wire::Bundle* bundle);

// The rules of Entry::id and of a DNS name in a certificate, for those who build entries from elsewhere (files, flags).
absl::Status CheckEntryId(absl::string_view id);
absl::Status CheckDnsName(absl::string_view name);

}  // namespace signet::spiffe
