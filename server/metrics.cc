#include "server/metrics.h"

namespace signet::server {

Metrics::Metrics(telemetry::Metrics& registry)
    : x509_svids_issued(registry.AddCounter("x509_svids_issued_total", "X.509-SVIDs signed, of all kinds")),
      jwt_svids_issued(registry.AddCounter("jwt_svids_issued_total", "JWT-SVIDs signed")),
      agents_attested(registry.AddCounter("agents_attested_total", "Attestations that succeeded")),
      attestations_refused(registry.AddCounter("attestations_refused_total", "Attestations that were refused")),
      calls_refused(registry.AddCounter("calls_refused_total", "Calls the authorisation table refused")),
      bundles_published(registry.AddCounter("bundles_published_total", "Bundles published, of all publishers")),
      bundle_publications_failed(
          registry.AddCounter("bundle_publications_failed_total", "Tries to publish the bundle that failed")),
      tokens_client_credentials(
          registry.AddCounter("tokens_issued_total", "Access tokens issued", {{"grant", "client_credentials"}})),
      tokens_exchange(
          registry.AddCounter("tokens_issued_total", "Access tokens issued", {{"grant", "token_exchange"}})),
      tokens_refresh(registry.AddCounter("tokens_issued_total", "Access tokens issued", {{"grant", "refresh_token"}})),
      token_requests_refused(
          registry.AddCounter("token_requests_refused_total", "Token requests of known clients that were refused")),
      token_clients_refused(
          registry.AddCounter("token_clients_refused_total", "Token requests without a client we know")),
      introspections_active(registry.AddCounter("introspections_total", "Introspections", {{"active", "true"}})),
      introspections_inactive(registry.AddCounter("introspections_total", "Introspections", {{"active", "false"}})),
      token_revocations(registry.AddCounter("token_revocations_total", "Revocations by the revocation endpoint")),
      token_alerts(registry.AddCounter("token_alerts_total", "Alerts about the use of tokens")),
      entries(registry.AddGauge("entries", "Registration entries in memory")),
      agents(registry.AddGauge("agents", "Attested agents in memory")),
      sync_streams(registry.AddGauge("sync_streams", "Open AgentSync streams")),
      ca_not_after_seconds(
          registry.AddGauge("ca_not_after_seconds", "Unix time at which the active X.509 authority ends")),
      propagation_seconds(registry.AddHistogram("propagation_seconds", "Change sent to its acknowledgement by an agent",
                                                {0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5})) {}

}  // namespace signet::server
