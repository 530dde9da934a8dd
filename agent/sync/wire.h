// What common/spiffe/wire.h leaves to the caller: an agent takes only entries of its own trust domain, and chains.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "common/crypto/certificate.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/trust_domain.h"
#include "spire/api/types/entry.pb.h"
#include "spire/api/types/x509svid.pb.h"

namespace signet::agent {

// With an id, and a SPIFFE ID that is a member of `trust_domain` and has a path. kInvalidArgument names the entry.
absl::StatusOr<spiffe::Entry> EntryFromWire(const spire::api::types::Entry& wire,
                                            const spiffe::TrustDomain& trust_domain);

// At most 16 certificates, leaf first.
absl::StatusOr<std::vector<crypto::Certificate>> ChainFromWire(const spire::api::types::X509SVID& wire);

}  // namespace signet::agent
