// Every metric of signet-server, by name, in one place.
#pragma once

#include "common/telemetry/metrics.h"

namespace signet::server {

struct Metrics {
  explicit Metrics(telemetry::Metrics& registry);

  telemetry::Counter x509_svids_issued, jwt_svids_issued, agents_attested, attestations_refused;
  telemetry::Counter calls_refused;  // by the authoriser
  telemetry::Gauge entries, agents, sync_streams, ca_not_after_seconds;
  telemetry::Histogram propagation_seconds;  // commit of a change -> acknowledged by the agent
};

}  // namespace signet::server
