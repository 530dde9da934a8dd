#include "server/nodeattestor/registry.h"

#include <utility>

#include "common/status/macros.h"
#include "config/server.pb.h"
#include "server/nodeattestor/join_token.h"
#include "server/nodeattestor/x509_pop.h"

namespace signet::server {
namespace {

X509Pop::Options ToOptions(const config::ServerX509Pop& config, const NodeAttestorDeps& deps) {
  X509Pop::Options options{.trust_domain = deps.trust_domain,
                           .ca_bundle_paths = {config.ca_bundle_paths().begin(), config.ca_bundle_paths().end()}};
  if (!config.agent_path_prefix().empty()) options.agent_path_prefix = config.agent_path_prefix();
  return options;
}

}  // namespace

absl::StatusOr<NodeAttestors> MakeNodeAttestors(const config::ServerNodeAttestors& config,
                                                const NodeAttestorDeps& deps) {
  NodeAttestors attestors;
  if (config.has_join_token() || !config.has_x509_pop()) {
    attestors.push_back(std::make_unique<JoinToken>(deps.trust_domain, deps.tokens, deps.executor, deps.clock));
  }
  if (config.has_x509_pop()) {
    SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<X509Pop> x509_pop,
                            X509Pop::Create(ToOptions(config.x509_pop(), deps), deps.clock));
    attestors.push_back(std::move(x509_pop));
  }
  return attestors;
}

}  // namespace signet::server
