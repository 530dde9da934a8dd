// signet-server as an object: owns everything in build order, destroyed in reverse. Open this first.
//   main.cc -> OptionsFromConfig (config.h) -> Server::Create -> wait for a signal -> Reload, Shutdown
// Create binds and serves; addresses() tells where (port 0 is allowed everywhere). Create, Reload, Shutdown and the
// destructor are called from one thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/time/clock.h"
#include "server/config.h"

namespace signet::server {

// What a test replaces.
struct ServerDeps {
  Clock* clock = nullptr;  // null: the system's
};

struct Addresses {
  std::string grpc;   // ADDRESS:PORT, TLS
  std::string admin;  // path of the Unix socket
  std::string http;   // ADDRESS:PORT; empty: off
  std::string token;  // ADDRESS:PORT, HTTPS of the token service; empty: off
};

class Server {
 public:
  // kInvalidArgument, kFailedPrecondition: set something right first. kUnavailable: an address is taken.
  static absl::StatusOr<std::unique_ptr<Server>> Create(ServerOptions options, ServerDeps deps = {});
  ~Server();

  const Addresses& addresses() const;
  // SIGHUP: takes up what can change while it runs (log, node_attestors, admin_ids, bundle_publishers, and the files
  // they name) and names in the log what cannot. kInvalidArgument, "key: problem" a line each: nothing has changed.
  // Blocks on files.
  absl::Status Reload(const ServerOptions& wanted);
  // Unready, streams told to reconnect elsewhere, calls given `grace` to end, then nothing listens. Idempotent.
  void Shutdown(absl::Duration grace = absl::Seconds(10));

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace signet::server
