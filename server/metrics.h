// Every metric of signet-server, by name, in one place.
#pragma once

#include "common/telemetry/metrics.h"

namespace signet::server {

struct Metrics {
  explicit Metrics(telemetry::Metrics& registry);

  telemetry::Counter x509_svids_issued, jwt_svids_issued, agents_attested, attestations_refused;
  telemetry::Counter calls_refused;  // by the authoriser
  telemetry::Counter bundles_published, bundle_publications_failed;
  // Token service.
  telemetry::Counter tokens_client_credentials, tokens_exchange, tokens_refresh;  // issued, by grant type
  telemetry::Counter token_requests_refused, token_clients_refused;               // the latter: invalid_client
  telemetry::Counter introspections_active, introspections_inactive, token_revocations;
  telemetry::Counter token_alerts;
  telemetry::Gauge entries, agents, sync_streams, ca_not_after_seconds;
  telemetry::Histogram propagation_seconds;  // commit of a change -> acknowledged by the agent
};

}  // namespace signet::server
