// The configuration of signet-agent as it is run: every default filled in, every value checked.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/bootstrap.h"
#include "common/log/log.h"
#include "common/spiffe/id.h"
#include "common/spiffe/trust_domain.h"
#include "config/agent.pb.h"

namespace signet::agent {

// The local front of the token service.
struct TokenFrontOptions {
  std::string socket;
  std::string server_url;  // empty: the issuer's, as the server tells it
  spiffe::Id server_id;
  absl::Duration offline_grace = absl::Seconds(30);  // at most, whatever the server says
};

struct AgentOptions {
  spiffe::TrustDomain trust_domain;
  std::string data_dir;
  std::vector<std::string> server_addresses;  // HOST:PORT, tried in order
  std::string workload_socket, admin_socket;
  std::string http_listen;  // empty: off
  log::Level log_level = log::Level::kInfo;
  log::Format log_format = log::Format::kText;
  TrustSource trust_source;
  bool keep_key = true;
  bool sealed_cache = true;
  size_t connections_per_uid = 4096;
  size_t pending_attestations_per_uid = 64;
  std::vector<std::string> allowed_foreign_jwt_claims;
  std::optional<TokenFrontOptions> token_front;  // none: no token.sock

  // What the registries of the seams read.
  config::AgentNodeAttestor node_attestor;
  config::WorkloadAttestors workload_attestors;

  config::Agent config;  // as it was given: what a reload compares

  std::vector<std::string> warnings;  // legal, but probably not meant
};

// Every error at once, a line each: kInvalidArgument.
absl::StatusOr<AgentOptions> OptionsFromConfig(const config::Agent& config);

}  // namespace signet::agent
