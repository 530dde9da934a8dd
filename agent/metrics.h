// Every metric of signet-agent, by name, in one place.
#pragma once

#include "common/telemetry/metrics.h"

namespace signet::agent {

struct Metrics {
  explicit Metrics(telemetry::Metrics& registry);

  telemetry::Counter attestations, attestations_refused, x509_rotations, jwt_cache_hits, jwt_mints, sync_failures;
  telemetry::Counter token_requests, token_requests_refused, introspections_local, introspections_asked;
  telemetry::Counter pod_source_failures;
  telemetry::Gauge pods, pod_source_seconds;
  telemetry::Gauge workload_connections, x509_svids, entries, last_sync_seconds;
};

}  // namespace signet::agent
