// The SPIFFE Workload API, /SpiffeWorkloadAPI/<Method>, for processes on this node (SPIFFE Workload API 3 to 6;
// spiffe.io). Each call passes, in this order: the header (EP-3), the connection, readiness (EP-11), attestation,
// entitlement, and as the last step before anything leaves, the process once more. WIT RPCs answer UNIMPLEMENTED. The
// service is registered with a server whose connections all come from `front`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <grpcpp/impl/codegen/service_type.h>

#include "absl/time/time.h"
#include "agent/metrics.h"
#include "agent/sync/svid_cache.h"
#include "agent/workloadattestor/attestation.h"
#include "common/rpc/stream_set.h"
#include "common/rpc/unix_front.h"
#include "common/spiffe/trust_domain.h"
#include "common/time/clock.h"

namespace signet::agent {

// All references outlive the service. To shut down: streams.FinishAll(Unavailable), then the server.
struct WorkloadServiceDeps {
  SvidCache& cache;
  Attestation& attestation;
  const rpc::UnixFront& front;
  rpc::StreamSet& streams;  // walked by the timer
  Clock& clock;
  Metrics& metrics;
  spiffe::TrustDomain trust_domain;
  // Claims that ValidateJWTSVID returns for tokens of other trust domains, beside sub, aud, exp, iat, nbf, iss and jti.
  std::vector<std::string> allowed_foreign_jwt_claims;
  size_t streams_per_uid = 8192;  // and cgroup, open at once; more are refused with Unavailable
  // How often the process behind an open stream is looked at when nothing else happens.
  absl::Duration recheck_every = absl::Seconds(10);
};

std::unique_ptr<grpc::Service> MakeWorkloadService(WorkloadServiceDeps deps);

}  // namespace signet::agent
