// The AgentSync call of ServerClient (server_client.h: SyncStream).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <grpcpp/channel.h>

#include "agent/sync/server_client.h"

namespace signet::agent {

// Says hello over `channel`. `on_event` is called on gRPC's threads whenever there is something to read, or the end.
std::unique_ptr<SyncStream> OpenSyncStream(std::shared_ptr<grpc::Channel> channel,
                                           const spiffe::TrustDomain& trust_domain, const SyncHello& hello,
                                           const std::string& version, std::function<void()> on_event);

}  // namespace signet::agent
