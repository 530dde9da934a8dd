// Process-wide TLS and gRPC settings, before the first SSL_CTX and grpc_init: TLS 1.2 or newer, no session tickets (a
// resumed session loses the peer's intermediates, and skipped chain checks are a known hole), no gRPC noise in the log,
// small read chunks. main() calls it once, first of all.
#pragma once

namespace signet::rpc {

void PrepareProcess();

}  // namespace signet::rpc
