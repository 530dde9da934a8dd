// spire.api.server.svid.v1.SVID: signing. Nothing here touches the database on the way to a signature; whether an entry
// is this agent's is asked of the index at the moment of signing.
#pragma once

#include <memory>

#include <grpcpp/impl/service_type.h>

#include "absl/status/statusor.h"
#include "common/crypto/csr.h"
#include "server/api/call.h"
#include "server/api/feed_barrier.h"
#include "server/ca/certificate_authority.h"
#include "server/entries/entry_index.h"
#include "server/metrics.h"

namespace signet::server {

struct SvidServiceDeps {
  Calls& calls;
  const CertificateAuthority& ca;
  const EntryIndex& index;
  FeedBarrier& barrier;
  IssuanceLog& issuance;
  Metrics& metrics;
  Clock& clock;
};
std::unique_ptr<grpc::Service> MakeSvidService(SvidServiceDeps deps);

// What MintX509SVID takes from a CSR, and nothing else does: exactly one URI SAN, a
// workload's ID of our trust domain, and DNS names. Any other SAN or extension refuses.
absl::StatusOr<MintRequest> ReadMintRequest(const crypto::CertificateRequest& csr, const spiffe::TrustDomain& own);

}  // namespace signet::server
