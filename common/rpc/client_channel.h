// Channels of an agent or the CLI to a signet-server or SPIRE server: mutual TLS where the server must show exactly the
// expected SPIFFE ID, verified against the bundle current at each handshake.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <grpcpp/channel.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/id.h"
#include "common/spiffe/x509_svid.h"
#include "common/time/clock.h"

namespace signet::rpc {

struct ClientTls {
  spiffe::Id server_id;                      // the only ID accepted
  std::optional<spiffe::X509Svid> identity;  // none: no client certificate (first attestation)
  // The bundle of server_id's trust domain. Null together with `insecure` false refuses every server.
  std::function<std::shared_ptr<const spiffe::Bundle>()> bundle;
  bool insecure = false;  // insecure bootstrap only: accept any server that merely claims to be server_id
};

// `target`: HOST:PORT. The channel is lazy. Rebuild it when the identity rotates or the bundle changes; streams on the
// old one go on until they end. `clock` must outlive the channel.
std::shared_ptr<grpc::Channel> MakeTlsChannel(const std::string& target, ClientTls tls, Clock& clock);
// FromGrpc (status/grpc_status.h) for a call on such a channel: a server that was refused during the handshake, which
// gRPC reports as UNAVAILABLE, is kUnauthenticated with the reason.
absl::Status FromTlsCall(const grpc::Status& status);
// Plain gRPC over a Unix socket path (no "unix:" prefix).
std::shared_ptr<grpc::Channel> MakeUnixChannel(const std::string& socket_path);

}  // namespace signet::rpc
