#include "agent/metrics.h"

namespace signet::agent {

Metrics::Metrics(telemetry::Metrics& registry)
    : attestations(registry.AddCounter("workload_attestations_total", "Workload attestations that gave selectors")),
      attestations_refused(
          registry.AddCounter("workload_attestations_refused_total", "Callers that could not be pinned")),
      x509_rotations(registry.AddCounter("x509_rotations_total", "X.509-SVIDs renewed")),
      jwt_cache_hits(registry.AddCounter("jwt_cache_hits_total", "JWT-SVIDs served from memory")),
      jwt_mints(registry.AddCounter("jwt_mints_total", "JWT-SVIDs asked of the server")),
      sync_failures(registry.AddCounter("sync_failures_total", "Lost or refused connections to the server")),
      token_requests(registry.AddCounter("token_requests_total", "Tokens that workloads got through token.sock")),
      token_requests_refused(registry.AddCounter("token_requests_refused_total", "Requests for a token that got none")),
      introspections_local(registry.AddCounter("introspections_local_total", "Answered from what the server pushed")),
      introspections_asked(registry.AddCounter("introspections_asked_total", "Answered by asking the server")),
      pod_source_failures(registry.AddCounter("pod_source_failures_total",
                                              "Lists and watches of this node's pods that failed (k8s attestor)")),
      pods(registry.AddGauge("pods", "Pods of this node that the k8s attestor knows")),
      pod_source_seconds(
          registry.AddGauge("pod_source_seconds", "Unix time of the last word on this node's pods (k8s attestor)")),
      workload_connections(registry.AddGauge("workload_connections", "Open connections on the workload socket")),
      x509_svids(registry.AddGauge("x509_svids", "X.509-SVIDs held")),
      entries(registry.AddGauge("entries", "Registration entries of this agent")),
      last_sync_seconds(registry.AddGauge("last_sync_seconds", "Unix time of the last message from the server")) {}

}  // namespace signet::agent
