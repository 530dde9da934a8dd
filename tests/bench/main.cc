// signet_bench: loads a running signet-server and signet-agent over the public wire and prints a line for each row of the
// performance budget. tests/bench/run starts the system and calls this.
#include <sys/resource.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <functional>
#include <map>

#include "common/rpc/tls_setup.h"
#include "tests/bench/rows.h"

int main(int argc, char** argv) {
  using namespace signet::bench;
  signet::rpc::PrepareProcess();
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  System system;
  std::vector<std::string> only;
  CLI::App app("loads a running system and prints what it reached");
  app.add_option("--trust-domain", system.trust_domain);
  app.add_option("--server", system.server_address, "HOST:PORT")->required();
  app.add_option("--admin-socket", system.admin_socket)->required();
  app.add_option("--workload-socket", system.workload_socket)->required();
  app.add_option("--token-issuer", system.token_issuer, "https://HOST:PORT");
  app.add_option("--token-socket", system.token_socket);
  app.add_option("--server-pid", system.server_pid)->required();
  app.add_option("--agent-pid", system.agent_pid)->required();
  app.add_option("--only", only, "row names")->delimiter(',');
  CLI11_PARSE(app, argc, argv);

  system.bundle = FetchBundle(system);
  system.agent_path = FindAgentPath(system);
  const std::vector<std::pair<std::string, std::function<void(System&)>>> rows = {
      {"limits", [](System&) { Limits(); }},
      {"idle", Idle},
      {"mint", MintX509},
      {"batch", BatchX509AndJwt},
      {"jwt-hit", JwtCacheHit},
      {"first", FirstX509},
      {"propagation", Propagation},
      {"streams", IdleStreams},
      {"entries", CreateAndList},
      {"joins", Joins},
      {"idle-agents", IdleAgents},
      {"tokens", Tokens},
      {"list-large", ListAndCount},
  };
  for (const auto& [name, row] : rows) {
    if ((only.empty() && name != "list-large") || std::find(only.begin(), only.end(), name) != only.end()) row(system);
  }
}
