// TLS for a gRPC server whose certificate rotates without a restart: a new certificate is live on the next connection,
// old streams go on. A client certificate is asked for and not verified here: rpc/tls_peer.h hands the chain to the
// caller, who verifies it per call against the current bundle.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/security/server_credentials.h>

#include "common/concurrency/latest_value.h"

namespace signet::rpc {

struct ServerIdentity {
  std::string key_pem, chain_pem;
  std::string roots_pem;  // own trust domain's: only fills the CA names of CertificateRequest; never empty
};

// One object for each listening address (one literal address a credentials object). `identity` must hold a value by the
// time the server starts and outlive the server.
std::shared_ptr<grpc::ServerCredentials> MakeRotatingServerCredentials(LatestValue<ServerIdentity>& identity);

}  // namespace signet::rpc
