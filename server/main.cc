// signet-server run|validate|version. A flag beats an environment variable (SIGNET_...) beats the file.
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "common/config/load.h"
#include "common/config/reload.h"
#include "common/crypto/certificate.h"
#include "common/daemon/daemon.h"
#include "common/fs/atomic_file.h"
#include "common/kubernetes/credentials.h"
#include "common/log/log.h"
#include "common/rpc/tls_setup.h"
#include "common/status/macros.h"
#include "common/version/version.h"
#include "server/server.h"

namespace signet::server {
namespace {

enum ExitCode { kOk = 0, kFailed = 1, kWrongUsage = 2 };

struct Flags {
  std::string config = "/etc/signet/server.yaml";
  std::string trust_domain, data_dir, listen, admin_socket, http_listen, log_level, log_format;
};

void AddFlags(CLI::App& command, Flags& flags) {
  command.add_option("--config", flags.config, "Configuration file (YAML)")
      ->envname("SIGNET_CONFIG")
      ->capture_default_str();
  const auto option = [&](const char* name, std::string& value, const char* environment, const char* what) {
    command.add_option(name, value, what)->envname(environment);
  };
  option("--trust-domain", flags.trust_domain, "SIGNET_TRUST_DOMAIN", "Trust domain, such as example.org");
  option("--data-dir", flags.data_dir, "SIGNET_DATA_DIR", "Folder of database and keys");
  option("--listen", flags.listen, "SIGNET_LISTEN", "ADDRESS:PORT of gRPC with TLS");
  option("--admin-socket", flags.admin_socket, "SIGNET_ADMIN_SOCKET", "Unix socket of the local operator");
  option("--http-listen", flags.http_listen, "SIGNET_HTTP_LISTEN", "ADDRESS:PORT of health and metrics, or off");
  option("--log-level", flags.log_level, "SIGNET_LOG_LEVEL", "trace, debug, info, warn or error");
  option("--log-format", flags.log_format, "SIGNET_LOG_FORMAT", "text or json");
}

absl::StatusOr<ServerOptions> Load(const Flags& flags, config::Places& places) {
  config::Server config;
  const absl::Status reading = config::LoadFile(flags.config, config, &places);
  if (!flags.trust_domain.empty()) config.set_trust_domain(flags.trust_domain);
  if (!flags.data_dir.empty()) config.set_data_dir(flags.data_dir);
  if (!flags.listen.empty()) config.set_listen(flags.listen);
  if (!flags.admin_socket.empty()) config.set_admin_socket(flags.admin_socket);
  if (!flags.http_listen.empty()) config.mutable_http()->set_listen(flags.http_listen);
  if (!flags.log_level.empty()) config.mutable_log()->set_level(flags.log_level);
  if (!flags.log_format.empty()) config.mutable_log()->set_format(flags.log_format);
  absl::StatusOr<ServerOptions> options = OptionsFromConfig(config);
  SIGNET_RETURN_IF_ERROR(config::AllErrors(reading, options.status(), places));
  return options;
}

// That of a pod is not looked at: a configuration may be checked elsewhere.
void CheckKubeConfig(const std::string& cluster_key, const std::string& file, config::Errors& errors) {
  if (file.empty()) return;
  const absl::Status status = kubernetes::CredentialSource({.kube_config_file = file}).Current().status();
  if (!status.ok()) errors.Add(absl::StrCat(cluster_key, ".kube_config_file"), status.message());
}

// What the configuration points at, as far as it must be there before the server runs.
absl::Status CheckFiles(const ServerOptions& options) {
  config::Errors errors;
  for (const std::string& path : options.node_attestors.x509_pop().ca_bundle_paths()) {
    const absl::StatusOr<std::string> pem = fs::ReadFile(path, 1 << 20);
    const absl::Status status = pem.ok() ? crypto::Certificate::ParsePemChain(*pem).status() : pem.status();
    if (!status.ok()) errors.Add("node_attestors.x509_pop.ca_bundle_paths", absl::StrCat(path, ": ", status.message()));
  }
  for (const auto& [name, cluster] : options.node_attestors.k8s_psat().clusters()) {
    CheckKubeConfig(absl::StrCat("node_attestors.k8s_psat.clusters.", name), cluster.kube_config_file(), errors);
  }
  for (const auto& [name, cluster] : options.bundle_publishers.k8s_configmap().clusters()) {
    CheckKubeConfig(absl::StrCat("bundle_publishers.k8s_configmap.clusters.", name), cluster.kube_config_file(),
                    errors);
  }
  return errors.ToStatus();
}

int Validate(const Flags& flags) {
  config::Places places;
  const absl::StatusOr<ServerOptions> options = Load(flags, places);
  if (!options.ok()) {
    std::cerr << options.status().message() << "\n";
    return kWrongUsage;
  }
  for (const std::string& warning : options->warnings) std::cerr << "warning: " << warning << "\n";
  if (const absl::Status status = places.Locate(CheckFiles(*options)); !status.ok()) {
    std::cerr << status.message() << "\n";
    return kWrongUsage;
  }
  std::cout << flags.config << ": good\n";
  return kOk;
}

void LogWarnings(const ServerOptions& options) {
  for (const std::string& warning : options.warnings) SIGNET_LOG(warn, "configuration", {{"warning", warning}});
}

// SIGHUP.
void Reload(const Flags& flags, Server& server) {
  config::Places places;
  const absl::StatusOr<ServerOptions> options = Load(flags, places);
  if (!options.ok()) return config::LogNotReloaded(options.status());
  if (const absl::Status status = server.Reload(*options); !status.ok()) {
    return config::LogNotReloaded(places.Locate(status));
  }
  LogWarnings(*options);
}

int Run(const Flags& flags) {
  daemon::ProtectMemory();
  daemon::BlockSignals();
  config::Places places;
  absl::StatusOr<ServerOptions> options = Load(flags, places);
  if (!options.ok()) {
    std::cerr << options.status().message() << "\n";
    return kWrongUsage;
  }
  log::Init("signet-server", options->log_level, options->log_format);
  LogWarnings(*options);
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Create(*std::move(options));
  if (!server.ok()) {
    SIGNET_LOG(error, "not started", {{"error", server.status().message()}});
    return kFailed;
  }
  daemon::Notify("READY=1");
  for (;;) {
    switch (daemon::WaitForEvent()) {
      case daemon::Event::kReload:
        Reload(flags, **server);
        break;
      case daemon::Event::kStop:
        daemon::Notify("STOPPING=1");
        (*server)->Shutdown();
        return kOk;
      case daemon::Event::kTimeout:
        break;
    }
  }
}

int Main(int argc, char** argv) {
  rpc::PrepareProcess();
  CLI::App app("signet-server attests nodes and signs workload identities.", "signet-server");
  app.require_subcommand(1);
  Flags flags;
  CLI::App* run = app.add_subcommand("run", "Serve until SIGTERM");
  CLI::App* validate =
      app.add_subcommand("validate", "Check the configuration and say everything that is wrong with it");
  CLI::App* version = app.add_subcommand("version", "Print the version");
  AddFlags(*run, flags);
  AddFlags(*validate, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? kOk : kWrongUsage;
  }
  if (*version) {
    std::cout << "signet-server " << Version() << "\n";
    return kOk;
  }
  return *validate ? Validate(flags) : Run(flags);
}

}  // namespace
}  // namespace signet::server

// No exception is part of what our functions say; CLI11, yaml-cpp or a full memory may throw one all the same.
int main(int argc, char** argv) {
  try {
    return signet::server::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "signet-server: %s\n", error.what());
  } catch (...) {
    std::fprintf(stderr, "signet-server: an unknown exception\n");
  }
  return signet::server::kFailed;
}
