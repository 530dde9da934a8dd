// signet-agent as an object: owns everything in build order, destroyed in reverse. Open this first.
//   main.cc -> OptionsFromConfig (config.h) -> Agent::Create -> wait for a signal or a fatal end -> Reload, Shutdown
// Create binds and serves, from the sealed cache when there is one: it does not wait for a server. addresses() tells
// where (port 0 is allowed everywhere). Create, Reload, Shutdown and the destructor are called from one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/config.h"
#include "agent/nodeattestor/node_attestor.h"
#include "agent/sync/server_client.h"
#include "common/time/clock.h"

namespace signet::agent {

// What a test replaces.
struct AgentDeps {
  Clock* clock = nullptr;                       // null: the system's
  std::unique_ptr<ServerClient> client;         // null: gRPC to options.server_addresses
  std::unique_ptr<NodeAttestor> node_attestor;  // null: what the configuration names
  std::function<void(absl::Status)> on_fatal;   // the agent cannot go on; called once, on any thread
};

struct Addresses {
  std::string workload, admin;  // paths of Unix sockets
  std::string token;            // likewise; empty: off
  std::string http;             // ADDRESS:PORT; empty: off
};

class Agent {
 public:
  // kInvalidArgument, kFailedPrecondition: set something right first. kUnavailable: an address is taken.
  static absl::StatusOr<std::unique_ptr<Agent>> Create(AgentOptions options, AgentDeps deps);
  ~Agent();

  const Addresses& addresses() const;
  // SIGHUP: takes up what can change while it runs (log, workload_attestors, node_attestor) and names in the log what
  // cannot. kInvalidArgument, "key: problem" a line each: nothing has changed. Blocks on files.
  absl::Status Reload(const AgentOptions& wanted);
  // Unready, streams ended with Unavailable, calls given `grace` to end, then nothing listens. Idempotent.
  void Shutdown(absl::Duration grace = absl::Seconds(5));

 private:
  struct Parts;
  explicit Agent(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace signet::agent
