// signet-agent run | validate | version. Flags beat environment variables, which beat the file.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "agent/agent.h"
#include "agent/api/workload_server.h"
#include "agent/config.h"
#include "agent/nodeattestor/registry.h"
#include "agent/workloadattestor/registry.h"
#include "common/config/load.h"
#include "common/config/reload.h"
#include "common/daemon/daemon.h"
#include "common/log/log.h"
#include "common/rpc/tls_setup.h"
#include "common/status/macros.h"
#include "common/version/version.h"

namespace signet::agent {
namespace {

constexpr int kFailed = 1, kWrongUse = 2;

struct Flags {
  std::string config = "/etc/signet/agent.yaml";
  std::string trust_domain, data_dir, workload_socket, admin_socket, http_listen, log_level, log_format;
  std::string trust_bundle_path, join_token_file;
  std::vector<std::string> server_address;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--config", flags.config, "Configuration file (YAML)")
      ->envname("SIGNET_CONFIG")
      ->capture_default_str();
  app.add_option("--trust-domain", flags.trust_domain, "trust_domain")->envname("SIGNET_TRUST_DOMAIN");
  app.add_option("--data-dir", flags.data_dir, "data_dir")->envname("SIGNET_DATA_DIR");
  app.add_option("--server-address", flags.server_address, "server_address, repeatable")
      ->envname("SIGNET_SERVER_ADDRESS")
      ->delimiter(',');
  app.add_option("--workload-socket", flags.workload_socket, "workload_socket")->envname("SIGNET_WORKLOAD_SOCKET");
  app.add_option("--admin-socket", flags.admin_socket, "admin_socket")->envname("SIGNET_ADMIN_SOCKET");
  app.add_option("--http-listen", flags.http_listen, "http.listen")->envname("SIGNET_HTTP_LISTEN");
  app.add_option("--log-level", flags.log_level, "log.level")->envname("SIGNET_LOG_LEVEL");
  app.add_option("--log-format", flags.log_format, "log.format")->envname("SIGNET_LOG_FORMAT");
  app.add_option("--trust-bundle-path", flags.trust_bundle_path, "bootstrap.trust_bundle_path")
      ->envname("SIGNET_TRUST_BUNDLE_PATH");
  app.add_option("--join-token-file", flags.join_token_file, "node_attestor.join_token.token_file")
      ->envname("SIGNET_JOIN_TOKEN_FILE");
}

absl::StatusOr<AgentOptions> LoadOptions(const Flags& flags, config::Places& places) {
  config::Agent config;
  const absl::Status reading = config::LoadFile(flags.config, config, &places);
  const auto beat = [](const std::string& flag, std::string* value) {
    if (!flag.empty()) *value = flag;
  };
  beat(flags.trust_domain, config.mutable_trust_domain());
  beat(flags.data_dir, config.mutable_data_dir());
  beat(flags.workload_socket, config.mutable_workload_socket());
  beat(flags.admin_socket, config.mutable_admin_socket());
  if (!flags.http_listen.empty()) config.mutable_http()->set_listen(flags.http_listen);
  if (!flags.log_level.empty()) config.mutable_log()->set_level(flags.log_level);
  if (!flags.log_format.empty()) config.mutable_log()->set_format(flags.log_format);
  if (!flags.trust_bundle_path.empty()) {
    config.clear_bootstrap();
    config.mutable_bootstrap()->set_trust_bundle_path(flags.trust_bundle_path);
  }
  if (!flags.join_token_file.empty())
    config.mutable_node_attestor()->mutable_join_token()->set_token_file(flags.join_token_file);
  if (!flags.server_address.empty()) {
    config.clear_server_address();
    for (const std::string& address : flags.server_address) config.add_server_address(address);
  }
  absl::StatusOr<AgentOptions> options = OptionsFromConfig(config);
  SIGNET_RETURN_IF_ERROR(config::AllErrors(reading, options.status(), places));
  return options;
}

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "signet-agent: %s\n", std::string(status.message()).c_str());
  const bool usage =
      status.code() == absl::StatusCode::kInvalidArgument || status.code() == absl::StatusCode::kNotFound;
  return usage ? kWrongUse : kFailed;
}

// What the registries of the attestors would say, and the files that must be there.
absl::Status CheckAttestors(const AgentOptions& options) {
  SystemClock clock;
  telemetry::Metrics registry;
  Metrics metrics(registry);
  telemetry::Health health;
  SIGNET_RETURN_IF_ERROR(MakeWorkloadAttestors(options.workload_attestors, {clock, metrics, health}).status());
  return CheckNodeAttestorFiles(options.node_attestor);
}

int Validate(const Flags& flags) {
  config::Places places;
  const absl::StatusOr<AgentOptions> options = LoadOptions(flags, places);
  if (!options.ok()) {
    Complain(options.status());
    return kWrongUse;
  }
  for (const std::string& warning : options->warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  if (const absl::Status status = places.Locate(CheckAttestors(*options)); !status.ok()) {
    Complain(status);
    return kWrongUse;
  }
  std::printf("%s is valid\n", flags.config.c_str());
  return 0;
}

// The end that a worker announces; the main thread looks while it waits for signals.
class FatalEnd {
 public:
  void Set(absl::Status why) {
    {
      std::lock_guard lock(mutex_);
      if (!why_.has_value()) why_ = std::move(why);
    }
    kill(getpid(), SIGTERM);  // the main thread waits for it
  }
  std::optional<absl::Status> Get() const {
    std::lock_guard lock(mutex_);
    return why_;
  }

 private:
  mutable std::mutex mutex_;
  std::optional<absl::Status> why_;
};

void LogWarnings(const AgentOptions& options) {
  for (const std::string& warning : options.warnings) SIGNET_LOG(warn, "configuration", {{"warning", warning}});
}

// SIGHUP.
void Reload(const Flags& flags, Agent& agent) {
  config::Places places;
  const absl::StatusOr<AgentOptions> options = LoadOptions(flags, places);
  if (!options.ok()) return config::LogNotReloaded(options.status());
  if (const absl::Status status = agent.Reload(*options); !status.ok()) {
    return config::LogNotReloaded(places.Locate(status));
  }
  LogWarnings(*options);
}

int Run(const Flags& flags) {
  daemon::ProtectMemory();
  daemon::BlockSignals();
  PrepareGrpcForManyConnections();
  rpc::PrepareProcess();
  config::Places places;
  absl::StatusOr<AgentOptions> options = LoadOptions(flags, places);
  if (!options.ok()) {
    Complain(options.status());
    return kWrongUse;
  }
  log::Init("signet-agent", options->log_level, options->log_format);
  LogWarnings(*options);

  FatalEnd fatal;
  AgentDeps deps;
  deps.on_fatal = [&](absl::Status why) { fatal.Set(std::move(why)); };
  absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Create(*std::move(options), std::move(deps));
  if (!agent.ok()) {
    SIGNET_LOG(error, "the agent does not start", {{"error", agent.status().message()}});
    return Complain(agent.status());
  }
  const Addresses& addresses = (*agent)->addresses();
  SIGNET_LOG(info, "serving", {{"workload", addresses.workload}, {"admin", addresses.admin}, {"http", addresses.http}});
  daemon::Notify("READY=1");
  while (!fatal.Get().has_value()) {
    const daemon::Event event = daemon::WaitForEvent();
    if (event == daemon::Event::kStop) break;
    if (event == daemon::Event::kReload) Reload(flags, **agent);
  }
  daemon::Notify("STOPPING=1");
  (*agent)->Shutdown();
  if (const std::optional<absl::Status> why = fatal.Get()) {
    SIGNET_LOG(error, "stopped", {{"error", why->message()}});
    return kFailed;
  }
  SIGNET_LOG(info, "stopped");
  return 0;
}

int Main(int argc, char** argv) {
  CLI::App app("Serves SPIFFE identities to the processes of this node", "signet-agent");
  app.require_subcommand(1);
  Flags flags;
  CLI::App* run = app.add_subcommand("run", "Run in the foreground");
  CLI::App* validate = app.add_subcommand("validate", "Check the configuration and say all that is wrong with it");
  CLI::App* version = app.add_subcommand("version", "Print the version");
  AddFlags(*run, flags);
  AddFlags(*validate, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUse;
  }
  if (version->parsed()) {
    std::printf("signet-agent %s\n", std::string(Version()).c_str());
    return 0;
  }
  return validate->parsed() ? Validate(flags) : Run(flags);
}

}  // namespace
}  // namespace signet::agent

// No exception is part of what our functions say; CLI11, yaml-cpp or a full memory may throw one all the same.
int main(int argc, char** argv) {
  try {
    return signet::agent::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "signet-agent: %s\n", error.what());
  } catch (...) {
    std::fprintf(stderr, "signet-agent: an unknown exception\n");
  }
  return signet::agent::kFailed;
}
