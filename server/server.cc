#include "server/server.h"

#include <unistd.h>

#include <algorithm>
#include <future>
#include <utility>
#include <vector>

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/concurrency/executor.h"
#include "common/concurrency/latest_value.h"
#include "common/config/reload.h"
#include "common/crypto/random.h"
#include "common/daemon/daemon.h"
#include "common/fs/atomic_file.h"
#include "common/keymanager/disk_key_manager.h"
#include "common/keymanager/memory_key_manager.h"
#include "common/log/log.h"
#include "common/net/http_server.h"
#include "common/rpc/health_service.h"
#include "common/rpc/reflection_service.h"
#include "common/rpc/server_credentials.h"
#include "common/rpc/unix_front.h"
#include "common/status/macros.h"
#include "common/telemetry/health.h"
#include "server/api/agent_service.h"
#include "server/api/bundle_service.h"
#include "server/api/debug_service.h"
#include "server/api/entry_service.h"
#include "server/api/local_authority_service.h"
#include "server/api/logger_service.h"
#include "server/api/svid_service.h"
#include "server/api/trust_domain_service.h"
#include "server/bundlepublisher/bundle_publication.h"
#include "server/bundlepublisher/registry.h"
#include "server/ca/authority_rotator.h"
#include "server/datastore/sqlite_data_store.h"
#include "server/federation/bundle_client.h"
#include "server/federation/bundle_refresher.h"
#include "server/metrics.h"
#include "server/nodeattestor/registry.h"
#include "server/pruner.h"
#include "server/server_svid.h"
#include "server/sync/agent_sync_service.h"
#include "server/token/administration_service.h"
#include "server/token/token_registry.h"
#include "server/token/token_server.h"

namespace signet::server {
namespace {

constexpr size_t kRemoteThreads = 12;  // three clusters whose API servers hang leave a fourth its turn
constexpr absl::Duration kStoreCheck = absl::Seconds(10);
constexpr int kMaxMessageBytes = 4 * 1024 * 1024;  // gRPC's default, said aloud: 500 CSRs are 0.3 MiB
// Idle agents hold one connection each. Small frames and chunks keep it near 100 KB, measured with gRPC 1.51; dead
// peers are found by a ping, and clients that ping often are not thrown out.
constexpr int kTlsFrameBytes = 1024, kReadChunkBytes = 512, kMinReadChunkBytes = 256;
constexpr int kKeepAliveMs = 2 * 60 * 1000, kKeepAliveTimeoutMs = 20 * 1000, kMinPingMs = 10 * 1000;
// Against callers who only hold connections: no handshake may last, no connection without a call may stay (an agent has
// its stream, SPIRE's polls every 5 s), and no connection may pile up calls.
constexpr int kHandshakeMs = 30 * 1000, kMaxIdleMs = 10 * 60 * 1000, kMaxCallsAConnection = 1000;

constexpr absl::string_view kReloadable[] = {"log", "node_attestors", "admin_ids", "bundle_publishers"};

// Which set of authorities is this server's: made once, kept beside the database.
absl::StatusOr<std::string> ServerId(const std::string& data_dir) {
  const std::string path = absl::StrCat(data_dir, "/server-id");
  absl::StatusOr<std::string> text = fs::ReadFile(path, 256);
  if (text.ok()) {
    std::string id(absl::StripAsciiWhitespace(*text));
    if (!id.empty()) return id;
    return absl::DataLossError(absl::StrCat(path, ": is empty; restore it, or delete it to begin new authorities"));
  }
  if (!absl::IsNotFound(text.status())) return text.status();
  std::string id = crypto::RandomUuid();
  SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(path, absl::StrCat(id, "\n")));
  return id;
}

absl::StatusOr<std::unique_ptr<KeyManager>> MakeKeyManager(const config::KeyManager& config, Clock& clock) {
  if (config.has_memory()) return std::make_unique<MemoryKeyManager>();
  return DiskKeyManager::Open(config.disk().path(), clock);
}

// The local operator is root or the user the server runs as; the folder's mode keeps others out already.
absl::StatusOr<std::shared_ptr<const rpc::UnixConnection>> AdmitOperator(int, const rpc::UnixConnection& peer) {
  if (peer.uid != 0 && peer.uid != geteuid()) {
    return absl::PermissionDeniedError(absl::StrCat("uid ", peer.uid, " is not the operator"));
  }
  return std::make_shared<const rpc::UnixConnection>(peer);
}

}  // namespace

// In build order; destroyed from the last to the first.
struct Server::Parts {
  Parts(ServerOptions o, Clock& c) : options(std::move(o)), clock(c) {}
  absl::Status Build();
  absl::Status BuildState();
  absl::Status BuildApi();
  absl::Status Listen();
  absl::Status Reload(const ServerOptions& wanted);
  NodeAttestorDeps attestor_deps() { return {options.policy.trust_domain, *store, *attesting, *asking, health, clock}; }
  net::HttpResponse AnswerHttp(absl::string_view path);
  void PublishTo(BundlePublishers publishers);
  void CheckStore();
  void Drain();

  const ServerOptions options;
  Clock& clock;
  telemetry::Metrics registry;
  Metrics metrics{registry};
  telemetry::Health health;

  // State.
  std::unique_ptr<fs::DirectoryLock> lock;
  std::unique_ptr<KeyManager> keys;
  std::unique_ptr<DataStore> store;
  std::unique_ptr<EntryIndex> index;
  std::unique_ptr<TokenRegistry> token_registry;  // null: the token service is off
  std::unique_ptr<AuthorityRotator> rotator;
  std::unique_ptr<CertificateAuthority> ca;
  std::unique_ptr<FeedApplier> applier;
  std::unique_ptr<ServerSvid> svid;
  std::unique_ptr<TokenServer> token;  // null: off
  std::unique_ptr<BundleClient> bundle_client;
  std::unique_ptr<BundleRefresher> bundle_refresher;
  std::unique_ptr<Executor> attesting;
  std::unique_ptr<Executor> asking;  // attestors that wait for others than our store
  LatestValue<NodeAttestors> attestors;

  // API.
  std::unique_ptr<rpc::UnixFront> front;
  std::unique_ptr<CallerSource> callers;
  std::unique_ptr<Executor> confirming, reading;
  std::unique_ptr<Authorizer> authorizer;
  std::unique_ptr<Admission> admission;
  std::unique_ptr<Calls> calls;
  std::unique_ptr<FeedBarrier> barrier;
  std::unique_ptr<StreamRegistry> streams;
  std::vector<std::unique_ptr<grpc::Service>> services;
  std::unique_ptr<grpc::Server> grpc;
  std::unique_ptr<net::HttpServer> http;

  // Work beside the calls.
  std::unique_ptr<BundlePublication> publication;
  std::unique_ptr<Pruner> pruner;
  std::unique_ptr<Worker> store_check;

  Addresses addresses;
  config::Server reloaded = options.config;  // the last configuration that was taken up
  bool down = false;
};

absl::Status Server::Parts::Build() {
  SIGNET_ASSIGN_OR_RETURN(BundlePublishers publishers, MakeBundlePublishers(options.bundle_publishers));
  SIGNET_RETURN_IF_ERROR(BuildState());
  SIGNET_RETURN_IF_ERROR(BuildApi());
  SIGNET_RETURN_IF_ERROR(Listen());
  PublishTo(std::move(publishers));
  pruner = std::make_unique<Pruner>(options.prune_agents_expired_for, *store, *store, *store, *store, *store, clock);
  store_check = std::make_unique<Worker>("store-check", clock, [this] {
    CheckStore();
    return kStoreCheck;
  });
  return absl::OkStatus();
}

absl::Status Server::Parts::BuildState() {
  SIGNET_RETURN_IF_ERROR(fs::MakeDirectory(options.data_dir, 0700), "data_dir");
  SIGNET_ASSIGN_OR_RETURN(fs::DirectoryLock locked, fs::DirectoryLock::Acquire(options.data_dir), "data_dir");
  lock = std::make_unique<fs::DirectoryLock>(std::move(locked));
  SIGNET_ASSIGN_OR_RETURN(const std::string server_id, ServerId(options.data_dir));

  SIGNET_ASSIGN_OR_RETURN(keys, MakeKeyManager(options.key_manager, clock), "key_manager");
  SqliteDataStore::Options sqlite;
  sqlite.path = options.datastore.sqlite().path();
  SIGNET_ASSIGN_OR_RETURN(store, SqliteDataStore::Open(sqlite), "datastore");

  AuthorityRotator::Options rotation{server_id, options.policy, options.x509_key_type, options.jwt_key_type, {}};
  if (options.token_service.has_value()) rotation.token_key_type = options.token_service->key_type;
  SIGNET_ASSIGN_OR_RETURN(rotator, AuthorityRotator::Create(std::move(rotation), *keys, *store, *store, health, clock),
                          "ca");
  ca = std::make_unique<CertificateAuthority>(options.policy, *keys, rotator->authorities(), clock);

  index = EntryIndex::Create(options.policy.trust_domain);
  if (options.token_service.has_value()) token_registry = TokenRegistry::Create(options.policy.trust_domain);
  SIGNET_ASSIGN_OR_RETURN(applier, FeedApplier::Create(*store, *index, clock, token_registry.get()), "datastore");
  const std::string dns_name = options.token_service.has_value() ? options.token_service->dns_name : std::string();
  SIGNET_ASSIGN_OR_RETURN(svid, ServerSvid::Create(*ca, *index, health, clock, dns_name));
  if (options.token_service.has_value()) {
    SIGNET_ASSIGN_OR_RETURN(
        token, TokenServer::Create(*options.token_service,
                                   {server_id, options.data_dir, options.policy, *store, *index, *token_registry,
                                    *applier, *keys, *rotator, *svid, health, clock, metrics}));
  }
  bundle_client = std::make_unique<BundleClient>(
      BundleClient::Options{}, [this](const spiffe::TrustDomain& name) { return index->FindBundle(name); }, clock);
  bundle_refresher = std::make_unique<BundleRefresher>(
      *store, [this](const FederationRelationship& peer) { return bundle_client->Fetch(peer); }, clock);
  attesting = std::make_unique<Executor>(Executor::Options{"attest", 2, 1024});
  asking = std::make_unique<Executor>(Executor::Options{"attest-remote", kRemoteThreads, 1024});
  SIGNET_ASSIGN_OR_RETURN(NodeAttestors made, MakeNodeAttestors(options.node_attestors, attestor_deps()));
  attestors.Set(std::move(made));
  return absl::OkStatus();
}

absl::Status Server::Parts::BuildApi() {
  rpc::UnixFront::Options socket;
  socket.path = options.admin_socket;
  socket.socket_mode = 0600;
  socket.directory_mode = 0700;
  SIGNET_ASSIGN_OR_RETURN(front, rpc::UnixFront::Create(socket, AdmitOperator), "admin_socket");

  const spiffe::TrustDomain& own = options.policy.trust_domain;
  callers =
      MakeCallerSource([this](const spiffe::TrustDomain& td) { return index->FindBundle(td); }, front.get(), clock);
  confirming = std::make_unique<Executor>(Executor::Options{"confirm", 1, 1024});
  reading = std::make_unique<Executor>(Executor::Options{"read", 2, 1024});
  authorizer = std::make_unique<Authorizer>(Authorizer::Options{own, options.admin_ids}, *callers, *index, *store,
                                            *store, *confirming, clock, metrics);
  admission = std::make_unique<Admission>(Admission::Options{});
  calls = std::make_unique<Calls>(*authorizer, *reading, *admission);
  barrier = std::make_unique<FeedBarrier>(*store, *applier, clock);
  streams = std::make_unique<StreamRegistry>(*authorizer, *callers, *index, clock);

  services.push_back(
      MakeAgentService({*calls, *streams, *ca, *store, *store, *index, attestors, *store, metrics, clock}));
  services.push_back(MakeEntryService({own, *calls, *streams, *store, *index, clock}));
  SIGNET_ASSIGN_OR_RETURN(const std::string epoch, store->Epoch(), "datastore");
  services.push_back(MakeAgentSyncService({own, epoch, *authorizer, *streams, *index, *store, clock, metrics,
                                           token == nullptr ? nullptr : &token->updates()}));
  services.push_back(MakeSvidService({*calls, *ca, *index, *barrier, *store, metrics, clock}));
  services.push_back(MakeBundleService({own, *calls, *store, *index}));
  services.push_back(MakeDebugService({*calls, svid->svid(), *index, clock}));
  services.push_back(MakeLoggerService(*calls));
  services.push_back(MakeTrustDomainService({own, *calls, *store, *bundle_refresher}));
  services.push_back(MakeLocalAuthorityService(*calls));
  services.push_back(MakeAdministrationService(*calls, token == nullptr ? nullptr : &token->administration()));

  const std::vector<std::string> names = {"spire.api.server.agent.v1.Agent",
                                          "spire.api.server.entry.v1.Entry",
                                          "spire.api.server.svid.v1.SVID",
                                          "spire.api.server.bundle.v1.Bundle",
                                          "spire.api.server.debug.v1.Debug",
                                          "spire.api.server.logger.v1.Logger",
                                          "spire.api.server.trustdomain.v1.TrustDomain",
                                          "spire.api.server.localauthority.v1.LocalAuthority",
                                          "signet.server.v1.AgentSync",
                                          "signet.server.token.v1.Administration",
                                          "grpc.health.v1.Health"};
  const auto ask = [this](Method method) {
    return [this, method](const grpc::CallbackServerContext& context) {
      return authorizer->Decide(method, context).status;
    };
  };
  services.push_back(rpc::MakeHealthService(health, names, ask(Method::kHealthCheck)));
  services.push_back(rpc::MakeReflectionService(names, ask(Method::kReflection)));
  services.push_back(rpc::MakeReflectionV1AlphaService(names, ask(Method::kReflectionAlpha)));
  return absl::OkStatus();
}

absl::Status Server::Parts::Listen() {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.listen, rpc::MakeRotatingServerCredentials(svid->tls()), &port);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  for (const auto& [name, value] : {std::pair<const char*, int>{GRPC_ARG_ENABLE_CHANNELZ, 0},
                                    {GRPC_ARG_ALLOW_REUSEPORT, 0},
                                    {GRPC_ARG_TSI_MAX_FRAME_SIZE, kTlsFrameBytes},
                                    {GRPC_ARG_TCP_READ_CHUNK_SIZE, kReadChunkBytes},
                                    {GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, kMinReadChunkBytes},
                                    {GRPC_ARG_KEEPALIVE_TIME_MS, kKeepAliveMs},
                                    {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepAliveTimeoutMs},
                                    {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
                                    {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingMs},
                                    {GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs},
                                    {GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxIdleMs},
                                    {GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxCallsAConnection}}) {
    builder.AddChannelArgument(name, value);
  }
  for (const std::unique_ptr<grpc::Service>& service : services) builder.RegisterService(service.get());
  grpc = builder.BuildAndStart();
  if (grpc == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("listen: cannot bind ", options.listen, "; is another server running?"));
  }
  front->Start(*grpc);
  addresses.grpc = absl::StrCat(options.listen.substr(0, options.listen.rfind(':')), ":", port);
  addresses.admin = options.admin_socket;
  if (!options.http_listen.empty()) {
    SIGNET_ASSIGN_OR_RETURN(
        http, net::HttpServer::Create(options.http_listen, [this](absl::string_view path) { return AnswerHttp(path); }),
        "http.listen");
    addresses.http = http->address();
  }
  if (token != nullptr) {
    SIGNET_RETURN_IF_ERROR(token->Listen(*authorizer));
    addresses.token = token->address();
  }
  return absl::OkStatus();
}

absl::Status Server::Parts::Reload(const ServerOptions& wanted) {
  // First all that can fail. Certificates from files are read here, beside the attestors' roots.
  SIGNET_ASSIGN_OR_RETURN(NodeAttestors made, MakeNodeAttestors(wanted.node_attestors, attestor_deps()));
  SIGNET_ASSIGN_OR_RETURN(BundlePublishers publishers, MakeBundlePublishers(wanted.bundle_publishers));
  if (token != nullptr) SIGNET_RETURN_IF_ERROR(token->ReloadCertificate(), "token_service.certificate");
  // From here on nothing fails, and `kReloadable` says whose settings are taken up.
  log::Configure(wanted.log_level, wanted.log_format);
  attestors.Set(std::move(made));
  authorizer->SetAdminIds(wanted.admin_ids);
  PublishTo(std::move(publishers));
  config::LogReloaded(options.config, reloaded, wanted.config, kReloadable);
  reloaded = wanted.config;
  return absl::OkStatus();
}

void Server::Parts::PublishTo(BundlePublishers publishers) {
  publication.reset();  // the old one says no more of its health once the new one speaks
  publication = std::make_unique<BundlePublication>(options.policy.trust_domain, *index, std::move(publishers), health,
                                                    metrics, clock);
}

net::HttpResponse Server::Parts::AnswerHttp(absl::string_view path) {
  if (path == "/livez") return {200, "text/plain; charset=utf-8", "ok\n"};
  if (path == "/readyz") return {health.ready() ? 200 : 503, "application/json", health.Json()};
  if (path == "/metrics") {
    metrics.entries.Set(static_cast<double>(index->entry_count()));
    metrics.agents.Set(static_cast<double>(index->agent_count()));
    const auto active = rotator->authorities().Get();
    if (active != nullptr && active->x509) {
      metrics.ca_not_after_seconds.Set(static_cast<double>(absl::ToUnixSeconds(active->x509->certificate.not_after())));
    }
    return {200, "text/plain; version=0.0.4; charset=utf-8", registry.Text()};
  }
  return {404, "text/plain; charset=utf-8", "not found\n"};
}

void Server::Parts::CheckStore() {
  absl::Status status = store->Check();
  if (status.ok()) status = applier->Check();
  if (!status.ok()) {
    health.SetUnready("datastore", status.message());
  } else {
    health.SetReady("datastore");
  }
}

// Completions that outlived their calls still refer to the API: they run before any of it goes. No new work comes, for
// no call is left.
void Server::Parts::Drain() {
  for (std::unique_ptr<Executor>* executor : {&attesting, &asking, &confirming, &reading}) executor->reset();
  if (store == nullptr) return;
  std::promise<void> written;  // the store's writer works in order
  store->PruneJoinTokens(absl::UnixEpoch(), [&](const absl::StatusOr<size_t>&) { written.set_value(); });
  written.get_future().wait();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Create(ServerOptions options, ServerDeps deps) {
  static SystemClock system_clock;
  auto parts = std::make_unique<Parts>(std::move(options), deps.clock != nullptr ? *deps.clock : system_clock);
  parts->health.SetUnready("listener", "starting");
  auto server = std::unique_ptr<Server>(new Server(std::move(parts)));
  Parts& p = *server->parts_;
  SIGNET_RETURN_IF_ERROR(p.Build());
  std::vector<std::pair<std::string, std::string>> where = {{"grpc", p.addresses.grpc}, {"admin", p.addresses.admin}};
  if (!p.addresses.http.empty()) where.emplace_back("http", p.addresses.http);
  if (!p.addresses.token.empty()) where.emplace_back("token", p.addresses.token);
  SIGNET_RETURN_IF_ERROR(daemon::WriteAddresses(p.options.data_dir, where));
  p.health.SetReady("listener");
  SIGNET_LOG(info, "serving",
             {{"trust_domain", p.options.policy.trust_domain.name()},
              {"grpc", p.addresses.grpc},
              {"admin", p.addresses.admin},
              {"http", p.addresses.http},
              {"token", p.addresses.token}});
  return server;
}

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Server::~Server() { Shutdown(absl::ZeroDuration()); }

const Addresses& Server::addresses() const { return parts_->addresses; }
absl::Status Server::Reload(const ServerOptions& wanted) { return parts_->Reload(wanted); }

void Server::Shutdown(absl::Duration grace) {
  Parts& p = *parts_;
  if (std::exchange(p.down, true)) return;
  p.health.SetUnready("listener", "shutting down");
  if (p.streams != nullptr) p.streams->FinishAll(absl::UnavailableError("server is going away, reconnect"));
  if (p.bundle_refresher != nullptr) p.bundle_refresher->Stop();  // no call waits for a fetch that is only queued
  if (p.grpc != nullptr) {
    p.grpc->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
    p.grpc->Wait();
    p.front.reset();  // no call is left that could ask it
    SIGNET_LOG(info, "stopped", {});
  }
  if (p.token != nullptr) p.token->Stop();
  p.bundle_refresher.reset();
  p.store_check.reset();
  p.publication.reset();
  p.pruner.reset();
  p.Drain();
}

}  // namespace signet::server
