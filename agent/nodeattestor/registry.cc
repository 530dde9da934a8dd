#include "agent/nodeattestor/registry.h"

#include "agent/nodeattestor/join_token.h"
#include "agent/nodeattestor/k8s_psat.h"
#include "agent/nodeattestor/x509_pop.h"
#include "common/status/macros.h"
#include "config/agent.pb.h"

namespace signet::agent {
namespace {

absl::StatusOr<std::unique_ptr<NodeAttestor>> MakeJoinToken(const config::AgentJoinToken& config) {
  if (config.token_file().empty() == config.token().empty()) {
    return absl::InvalidArgumentError("node_attestor.join_token: give either token_file or token");
  }
  return std::make_unique<JoinToken>(JoinToken::Options{.token_file = config.token_file(), .token = config.token()});
}

absl::StatusOr<std::unique_ptr<X509Pop>> MakeX509Pop(const config::AgentX509Pop& config) {
  if (config.certificate_path().empty()) {
    return absl::InvalidArgumentError(
        "node_attestor.x509_pop.certificate_path: missing; name the node's certificate (PEM)");
  }
  if (config.private_key_path().empty()) {
    return absl::InvalidArgumentError(
        "node_attestor.x509_pop.private_key_path: missing; name the key of the certificate (PEM)");
  }
  return std::make_unique<X509Pop>(X509Pop::Options{.certificate_path = config.certificate_path(),
                                                    .private_key_path = config.private_key_path(),
                                                    .intermediates_path = config.intermediates_path()});
}

}  // namespace

absl::StatusOr<std::unique_ptr<NodeAttestor>> MakeNodeAttestor(const config::AgentNodeAttestor& config) {
  switch (config.kind_case()) {
    case config::AgentNodeAttestor::kJoinToken:
      return MakeJoinToken(config.join_token());
    case config::AgentNodeAttestor::kX509Pop:
      return MakeX509Pop(config.x509_pop());
    case config::AgentNodeAttestor::kK8SPsat:
      return std::make_unique<K8sPsat>(
          K8sPsat::Options{.cluster = config.k8s_psat().cluster(), .token_path = config.k8s_psat().token_path()});
    case config::AgentNodeAttestor::KIND_NOT_SET:
      return nullptr;
  }
  return absl::InternalError("node_attestor: a kind that the registry does not know");
}

absl::Status CheckNodeAttestorFiles(const config::AgentNodeAttestor& config) {
  if (!config.has_x509_pop()) return absl::OkStatus();
  SIGNET_ASSIGN_OR_RETURN(const std::unique_ptr<X509Pop> attestor, MakeX509Pop(config.x509_pop()));
  const absl::Status read = attestor->Payload().status();
  return read.ok() ? read : absl::InvalidArgumentError(read.message());
}

}  // namespace signet::agent
