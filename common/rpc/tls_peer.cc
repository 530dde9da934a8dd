#include "common/rpc/tls_peer.h"

#include <grpc/grpc_security_constants.h>

#include "absl/strings/str_cat.h"

namespace signet::rpc {
namespace {

absl::string_view View(const grpc::string_ref& text) { return {text.data(), text.size()}; }

}  // namespace

RawPeer RawPeerOf(const grpc::AuthContext& context) {
  RawPeer peer;
  for (auto it = context.begin(); it != context.end(); ++it) {
    const auto [name, value] = *it;
    if (name == GRPC_X509_PEM_CERT_PROPERTY_NAME) peer.leaf_pem = View(value);
    if (name == GRPC_X509_PEM_CERT_CHAIN_PROPERTY_NAME) peer.chain_pem = View(value);
    if (name == GRPC_SSL_SESSION_REUSED_PROPERTY) peer.resumed = peer.resumed || value == "true";
  }
  return peer;
}

absl::StatusOr<std::optional<std::vector<crypto::Certificate>>> PeerChain(const grpc::AuthContext& context) {
  const RawPeer peer = RawPeerOf(context);
  // A resumed session has lost the intermediates; tls_setup.h makes sure that none is ever offered.
  if (peer.resumed) return absl::UnauthenticatedError("TLS session was resumed; connect anew without a session ticket");
  if (peer.leaf_pem.empty()) return std::nullopt;
  // Here the chain comes without the leaf.
  auto chain = crypto::Certificate::ParsePemChain(absl::StrCat(peer.leaf_pem, "\n", peer.chain_pem));
  if (!chain.ok()) {
    return absl::UnauthenticatedError(absl::StrCat("client certificate: ", chain.status().message()));
  }
  return *std::move(chain);
}

}  // namespace signet::rpc
