#include "agent/agent.h"

#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "absl/strings/str_cat.h"
#include "agent/api/admin_services.h"
#include "agent/api/workload_server.h"
#include "agent/api/workload_service.h"
#include "agent/metrics.h"
#include "agent/nodeattestor/registry.h"
#include "agent/peer/peer_process.h"
#include "agent/storage/agent_store.h"
#include "agent/storage/sealed_cache.h"
#include "agent/sync/agent_identity.h"
#include "agent/sync/memory_svid_cache.h"
#include "agent/sync/pushed_tokens.h"
#include "agent/sync/synchronizer.h"
#include "agent/token/token_socket.h"
#include "agent/workloadattestor/attestation.h"
#include "agent/workloadattestor/k8s/pod_source.h"
#include "agent/workloadattestor/registry.h"
#include "common/concurrency/latest_value.h"
#include "common/config/reload.h"
#include "common/daemon/daemon.h"
#include "common/fs/atomic_file.h"
#include "common/log/log.h"
#include "common/net/http_server.h"
#include "common/rpc/health_service.h"
#include "common/rpc/reflection_service.h"
#include "common/rpc/stream_set.h"
#include "common/rpc/unix_front.h"
#include "common/status/macros.h"
#include "common/telemetry/health.h"
#include "common/telemetry/metrics.h"
#include "common/version/version.h"

namespace signet::agent {
namespace {

constexpr absl::string_view kWorkloadApi = "SpiffeWorkloadAPI";
// A user's limits hold in each cgroup, and so many times over for the user altogether: pods of one user share neither.
constexpr size_t kCgroupsOfAUser = 8;
constexpr absl::string_view kReloadable[] = {"log", "workload_attestors", "node_attestor"};

// The owner of the daemon and root; the folder's mode says the same once more.
absl::StatusOr<std::shared_ptr<const rpc::UnixConnection>> AdmitOperator(int, const rpc::UnixConnection& caller) {
  if (caller.uid != 0 && caller.uid != geteuid()) {
    return absl::PermissionDeniedError(absl::StrCat("user ", caller.uid, " is neither root nor the agent's own"));
  }
  return std::make_shared<const rpc::UnixConnection>(caller);
}

absl::Status AllowAll(const grpc::CallbackServerContext&) { return absl::OkStatus(); }

// A gRPC server whose connections all come from a front of ours.
struct SocketServer {
  std::unique_ptr<rpc::UnixFront> front;
  std::vector<std::unique_ptr<grpc::Service>> services;
  std::unique_ptr<grpc::Server> server;

  absl::Status Serve(grpc::ServerBuilder& builder, absl::string_view name) {
    for (const std::unique_ptr<grpc::Service>& service : services) builder.RegisterService(service.get());
    server = builder.BuildAndStart();
    if (server == nullptr) return absl::InternalError(absl::StrCat("the ", name, " server does not start"));
    front->Start(*server);
    return absl::OkStatus();
  }
  void Shutdown(absl::Duration grace) {
    if (front != nullptr) front->Stop();
    if (server != nullptr) server->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
  }
};

}  // namespace

// In build order; what stands below uses what stands above.
struct Agent::Parts {
  Parts(AgentOptions o, AgentDeps d, fs::DirectoryLock held)
      : options(std::move(o)),
        deps(std::move(d)),
        directory(std::move(held)),
        clock(deps.clock != nullptr ? *deps.clock : system_clock) {}

  ~Parts() { Shutdown(absl::Seconds(1)); }

  absl::Status Build();
  absl::Status BuildSync();
  absl::Status BuildWorkloadSocket();
  absl::Status BuildTokenSocket();
  absl::Status BuildAdminSocket();
  absl::Status BuildHttp();
  absl::Status Reload(const AgentOptions& wanted);
  void KeepHead(const std::string& head) const;
  void Shutdown(absl::Duration grace);

  const AgentOptions options;
  AgentDeps deps;
  const fs::DirectoryLock directory;
  SystemClock system_clock;
  Clock& clock;
  telemetry::Metrics registry;
  Metrics metrics{registry};
  telemetry::Health health;
  Addresses addresses;
  config::Agent reloaded = options.config;  // the last configuration that was taken up
  bool down = false;

  std::unique_ptr<MemorySvidCache> cache;
  std::unique_ptr<AgentStore> store;
  std::unique_ptr<AgentIdentity> identity;
  std::unique_ptr<SealedCache> sealed;
  LatestValue<std::unique_ptr<NodeAttestor>> node_attestor;
  std::unique_ptr<ServerClient> client;
  PushedTokens pushed_tokens{clock};
  std::unique_ptr<Synchronizer> synchronizer;
  std::unique_ptr<Attestation> attestation;
  std::unique_ptr<PeerPinner> pinner;
  rpc::StreamSet streams;
  SocketServer workload, admin;
  std::unique_ptr<TokenSocket> token;
  std::unique_ptr<net::HttpServer> http;
};

absl::Status Agent::Parts::Build() {
  SIGNET_RETURN_IF_ERROR(BuildSync());
  SIGNET_RETURN_IF_ERROR(BuildWorkloadSocket());
  SIGNET_RETURN_IF_ERROR(BuildTokenSocket());
  synchronizer->Start();  // after the sockets: what the cache holds is served first
  SIGNET_RETURN_IF_ERROR(BuildAdminSocket());
  SIGNET_RETURN_IF_ERROR(BuildHttp());
  return daemon::WriteAddresses(options.data_dir, {{"workload", addresses.workload},
                                                   {"token", addresses.token},
                                                   {"admin", addresses.admin},
                                                   {"http", addresses.http}});
}

absl::Status Agent::Parts::BuildSync() {
  cache = std::make_unique<MemorySvidCache>(options.trust_domain, clock, metrics, MemorySvidCache::Options{});
  store = std::make_unique<AgentStore>(AgentStore::Options{options.data_dir, options.trust_domain, options.keep_key},
                                       clock);
  SIGNET_ASSIGN_OR_RETURN(StoredAgent stored, store->Load());
  if (stored.bundle.has_value()) {
    MemorySvidCache::Change change;
    change.bundles.push_back(*stored.bundle);
    cache->Apply(std::move(change));
  }
  identity = std::make_unique<AgentIdentity>(*store, std::move(stored), clock);
  if (options.sealed_cache) {
    SIGNET_ASSIGN_OR_RETURN(sealed, SealedCache::Open(options.data_dir, options.trust_domain, clock));
  }
  std::unique_ptr<NodeAttestor> attestor = std::move(deps.node_attestor);
  if (attestor == nullptr) {
    SIGNET_ASSIGN_OR_RETURN(attestor, MakeNodeAttestor(options.node_attestor));
  }
  node_attestor.Set(std::move(attestor));
  client = std::move(deps.client);
  if (client == nullptr) {
    client = ServerClient::Create({.addresses = options.server_addresses,
                                   .trust_domain = options.trust_domain,
                                   .version = std::string(Version())},
                                  {.identity = [this] { return identity->svid(); },
                                   .bundle = [this] { return cache->OwnBundle(); },
                                   .insecure = options.trust_source.insecure},
                                  clock);
  }
  synchronizer = std::make_unique<Synchronizer>(Synchronizer::Deps{
      options.trust_domain, *cache, *client, *identity, node_attestor, sealed.get(), clock, metrics, health,
      [this] { return FirstTrust(options.trust_source, options.trust_domain, [this] { return client->GetBundle(); }); },
      [this](absl::Status why) {
        if (deps.on_fatal) deps.on_fatal(std::move(why));
      },
      options.token_front.has_value() ? &pushed_tokens : nullptr, [this](const std::string& head) { KeepHead(head); }});
  synchronizer->Restore();
  return absl::OkStatus();
}

absl::Status Agent::Parts::BuildWorkloadSocket() {
  SIGNET_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<WorkloadAttestor>> attestors,
                          MakeWorkloadAttestors(options.workload_attestors, {clock, metrics, health}));
  attestation = Attestation::Create({.pending_per_uid = options.pending_attestations_per_uid}, std::move(attestors),
                                    clock, metrics);
  SIGNET_ASSIGN_OR_RETURN(pinner, PeerPinner::Create(PinMethod::kAuto));
  SIGNET_ASSIGN_OR_RETURN(
      workload.front, rpc::UnixFront::Create({.path = options.workload_socket,
                                              .max_connections_per_uid = kCgroupsOfAUser * options.connections_per_uid},
                                             PinAtAccept(*pinner, metrics, options.connections_per_uid)));
  addresses.workload = options.workload_socket;
  workload.services.push_back(MakeWorkloadService({*cache, *attestation, *workload.front, streams, clock, metrics,
                                                   options.trust_domain, options.allowed_foreign_jwt_claims}));
  const std::vector<std::string> names = {std::string(kWorkloadApi)};
  // Without the header, as SPIRE's agent: `spire-agent healthcheck` and gRPC probes send none, and all that is told is
  // whether the agent serves.
  workload.services.push_back(rpc::MakeHealthService(health, names, AllowAll));
  workload.services.push_back(rpc::MakeReflectionService(names, CheckWorkloadHeader));
  workload.services.push_back(rpc::MakeReflectionV1AlphaService(names, CheckWorkloadHeader));
  grpc::ServerBuilder builder;
  ConfigureWorkloadServer(builder);
  return workload.Serve(builder, "workload");
}

// T10: the server's signed audit head, kept outside the server. The latest alone.
void Agent::Parts::KeepHead(const std::string& head) const {
  const absl::Status kept = fs::WriteFileAtomically(options.data_dir + "/audit-head.jws", head + "\n");
  if (!kept.ok()) SIGNET_LOG(warn, "the server's audit head is not kept", {{"error", kept.message()}});
}

absl::Status Agent::Parts::BuildTokenSocket() {
  if (!options.token_front.has_value()) return absl::OkStatus();
  const TokenFrontOptions& front = *options.token_front;
  SIGNET_ASSIGN_OR_RETURN(token,
                          TokenSocket::Create({.path = front.socket,
                                               .server_url = front.server_url,
                                               .server_id = front.server_id,
                                               .offline_grace = front.offline_grace,
                                               .connections_per_uid = options.connections_per_uid},
                                              {*cache, *attestation, *pinner, pushed_tokens, clock, metrics, nullptr}));
  addresses.token = token->path();
  return absl::OkStatus();
}

absl::Status Agent::Parts::BuildAdminSocket() {
  SIGNET_ASSIGN_OR_RETURN(
      admin.front,
      rpc::UnixFront::Create(
          {.path = options.admin_socket, .socket_mode = 0600, .directory_mode = 0700, .max_connections_per_uid = 128},
          AdmitOperator));
  addresses.admin = options.admin_socket;
  admin.services.push_back(MakeDebugService({*cache, clock, [this] {
                                               const auto svid = identity->svid();
                                               return svid == nullptr ? std::vector<crypto::Certificate>{}
                                                                      : svid->chain;
                                             }}));
  admin.services.push_back(MakeLoggerService());
  const std::vector<std::string> names = {"spire.api.agent.debug.v1.Debug", "spire.api.agent.logger.v1.Logger"};
  admin.services.push_back(rpc::MakeHealthService(health, names, AllowAll));
  admin.services.push_back(rpc::MakeReflectionService(names, AllowAll));
  admin.services.push_back(rpc::MakeReflectionV1AlphaService(names, AllowAll));
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(64 << 10);
  return admin.Serve(builder, "admin");
}

absl::Status Agent::Parts::BuildHttp() {
  if (options.http_listen.empty()) return absl::OkStatus();
  SIGNET_ASSIGN_OR_RETURN(
      http, net::HttpServer::Create(options.http_listen, [this](absl::string_view path) -> net::HttpResponse {
        if (path == "/livez") return {200, "text/plain; charset=utf-8", "ok\n"};
        if (path == "/readyz") return {health.ready() ? 200 : 503, "application/json", health.Json() + "\n"};
        if (path == "/metrics") return {200, "text/plain; version=0.0.4; charset=utf-8", registry.Text()};
        return {404, "text/plain; charset=utf-8", "there are /livez, /readyz and /metrics\n"};
      }));
  addresses.http = http->address();
  return absl::OkStatus();
}

absl::Status Agent::Parts::Reload(const AgentOptions& wanted) {
  // First all that can fail ...
  SIGNET_RETURN_IF_ERROR(CheckNodeAttestorFiles(wanted.node_attestor));
  SIGNET_ASSIGN_OR_RETURN(std::unique_ptr<NodeAttestor> node, MakeNodeAttestor(wanted.node_attestor));
  SIGNET_ASSIGN_OR_RETURN(std::vector<std::unique_ptr<WorkloadAttestor>> workloads,
                          MakeWorkloadAttestors(wanted.workload_attestors, {clock, metrics, health}));
  // ... then what cannot; `kReloadable` says whose settings are taken up. Attestors read their files at each use: only
  // new settings are a reason to replace them, and to forget what they have found out.
  log::Configure(wanted.log_level, wanted.log_format);
  const config::Agent& now = wanted.config;
  if (!config::Differences(reloaded.node_attestor(), now.node_attestor()).empty()) node_attestor.Set(std::move(node));
  if (!config::Differences(reloaded.workload_attestors(), now.workload_attestors()).empty()) {
    attestation->Use(std::move(workloads));
    // Of what is watched no more nothing is amiss.
    const config::WorkloadAttestors &before = reloaded.workload_attestors(), &after = now.workload_attestors();
    if (before.has_k8s() && !after.has_k8s()) health.SetReady(kPodsHealth);
    if (before.k8s().namespace_labels() && !after.k8s().namespace_labels()) health.SetReady(kNamespacesHealth);
  }
  config::LogReloaded(options.config, reloaded, now, kReloadable);
  reloaded = now;
  return absl::OkStatus();
}

void Agent::Parts::Shutdown(absl::Duration grace) {
  if (std::exchange(down, true)) return;
  health.SetUnready("agent", "stopping");
  if (workload.front != nullptr) workload.front->Stop();
  streams.FinishAll(absl::UnavailableError("the agent is stopping"));
  token.reset();
  if (synchronizer != nullptr) synchronizer->Stop();  // answers the calls that wait for a token
  workload.Shutdown(grace);
  admin.Shutdown(grace);
  http.reset();
}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Create(AgentOptions options, AgentDeps deps) {
  SIGNET_RETURN_IF_ERROR(fs::MakeDirectory(options.data_dir, 0700));
  SIGNET_ASSIGN_OR_RETURN(fs::DirectoryLock lock, fs::DirectoryLock::Acquire(options.data_dir));
  auto parts = std::make_unique<Parts>(std::move(options), std::move(deps), std::move(lock));
  SIGNET_RETURN_IF_ERROR(parts->Build());
  return std::unique_ptr<Agent>(new Agent(std::move(parts)));
}

Agent::Agent(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Agent::~Agent() = default;

const Addresses& Agent::addresses() const { return parts_->addresses; }
absl::Status Agent::Reload(const AgentOptions& wanted) { return parts_->Reload(wanted); }
void Agent::Shutdown(absl::Duration grace) { parts_->Shutdown(grace); }

}  // namespace signet::agent
