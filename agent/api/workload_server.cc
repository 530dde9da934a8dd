#include "agent/api/workload_server.h"

#include <stdlib.h>

#include <grpc/impl/codegen/grpc_types.h>

namespace signet::agent {
namespace {

// Requests are small: an audience or a token (16 KiB at most); the largest is Envoy's description of its own node.
constexpr int kMaxRequestBytes = 1 << 20;
constexpr int kMaxStreamsPerConnection = 256;
// A connection without a call is let go; clients connect again by themselves.
constexpr int kMaxIdleMilliseconds = 10 * 60 * 1000;

}  // namespace

absl::Status CheckWorkloadHeader(const grpc::CallbackServerContext& context) {
  const auto [first, last] = context.client_metadata().equal_range("workload.spiffe.io");
  if (first != last && std::next(first) == last && first->second == "true") return absl::OkStatus();
  return absl::InvalidArgumentError("security header missing from request: send the metadata workload.spiffe.io: true");
}

void PrepareGrpcForManyConnections() {
  // Reading in chunks of its own choice, gRPC keeps an 8 KB slice for each idle connection.
  setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", 0);
}

void ConfigureWorkloadServer(grpc::ServerBuilder& builder) {
  // Not GRPC_ARG_MINIMAL_STACK, which saves 1.5 KB more: it drops the limit on message sizes and the idle limit, too.
  builder.AddChannelArgument(GRPC_ARG_TCP_READ_CHUNK_SIZE, 512);
  builder.AddChannelArgument(GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, 256);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxIdleMilliseconds);
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
}

}  // namespace signet::agent
