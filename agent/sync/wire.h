// spire.api.types messages <-> records. What comes from the wire is checked: a message that breaks a rule is refused
// with kInvalidArgument and its id, and the caller decides whether the rest is of use without it.
#pragma once

#include "absl/status/statusor.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/x509_svid.h"
#include "spire/api/types/bundle.pb.h"
#include "spire/api/types/entry.pb.h"
#include "spire/api/types/jwtsvid.pb.h"
#include "spire/api/types/x509svid.pb.h"

namespace signet::agent {

// The SPIFFE ID must be a member of `trust_domain` and have a path.
absl::StatusOr<spiffe::Entry> EntryFromWire(const spire::api::types::Entry& wire, const spiffe::TrustDomain& trust_domain);
spire::api::types::Entry EntryToWire(const spiffe::Entry& entry);

absl::StatusOr<spiffe::Bundle> BundleFromWire(const spire::api::types::Bundle& wire);
spire::api::types::Bundle BundleToWire(const spiffe::Bundle& bundle);

// At most 16 certificates, leaf first.
absl::StatusOr<std::vector<crypto::Certificate>> ChainFromWire(const spire::api::types::X509SVID& wire);

}  // namespace signet::agent
