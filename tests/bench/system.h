// The running system a benchmark loads, and clients of it over the public wire: an operator on the admin socket, nodes
// that really attest, workloads on the agent's socket.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include <grpcpp/channel.h>

#include "common/crypto/key.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/id.h"
#include "common/time/clock.h"

namespace spire::api::types {
class Entry;
}

namespace signet::bench {

struct System {
  std::string trust_domain = "example.org";
  std::string server_address, admin_socket, workload_socket;
  std::string token_issuer, token_socket;  // empty: the token service is off
  pid_t server_pid = 0, agent_pid = 0;
  std::string agent_path;  // SPIFFE path of the running agent
  std::shared_ptr<const spiffe::Bundle> bundle;
  SystemClock clock;

  std::shared_ptr<grpc::Channel> AdminChannel() const;
  std::shared_ptr<grpc::Channel> WorkloadChannel() const;  // a connection of its own
};

// Any failure ends the benchmark: prints `what` and exits 1.
void Check(bool ok, const std::string& what);

std::shared_ptr<const spiffe::Bundle> FetchBundle(const System& system);
std::string FindAgentPath(const System& system);

// An entry under `parent_path`; fields that matter to a benchmark only.
spire::api::types::Entry MakeEntry(const System& system, const std::string& parent_path, const std::string& path,
                                   const std::string& selector_type, const std::string& selector_value);
// Creates them by 500; ids in order.
std::vector<std::string> CreateEntries(const System& system, const std::vector<spire::api::types::Entry>& entries);
void DeleteEntries(const System& system, const std::vector<std::string>& ids);

// A node of the benchmark's own: joins with a token and keeps the mTLS channel.
struct Node {
  std::string path;
  std::shared_ptr<grpc::Channel> channel;
};
std::string MakeJoinToken(const System& system);
Node Join(System& system, const std::string& token);

}  // namespace signet::bench
