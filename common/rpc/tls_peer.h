// The certificate chain a TLS client presented, unverified, as found in a call's auth context.
#pragma once

#include <optional>
#include <vector>

#include <grpcpp/security/auth_context.h>

#include "absl/status/statusor.h"
#include "common/crypto/certificate.h"

namespace signet::rpc {

// nullopt: no client certificate. Leaf first. kUnauthenticated: a chain that does not parse, or a resumed session.
absl::StatusOr<std::optional<std::vector<crypto::Certificate>>> PeerChain(const grpc::AuthContext& context);
// Raw PEM of leaf and intermediates: the key of a verification cache. Empty: no client certificate. Refuse the call
// when `resumed`: what such a session says of the peer is incomplete.
struct RawPeer {
  absl::string_view leaf_pem, chain_pem;
  bool resumed = false;
};
RawPeer RawPeerOf(const grpc::AuthContext& context);  // views into the connection; valid during the call

}  // namespace signet::rpc
