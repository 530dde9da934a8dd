#include "server/token/token_server.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "common/log/log.h"
#include "common/status/macros.h"
#include "server/token/admin_json.h"
#include "server/token/alerts.h"
#include "server/token/audit_log.h"
#include "server/token/ca_token_signer.h"
#include "server/token/certificate_files.h"
#include "server/token/client_auth.h"
#include "server/token/endpoints.h"
#include "server/token/issuance_gate.h"
#include "server/token/issuer_keys.h"
#include "server/token/revoker.h"
#include "server/token/token_service.h"
#include "server/token/token_signer.h"

namespace signet::server {
namespace {

constexpr size_t kMaxJwksBytes = size_t{256} * 1024;
constexpr absl::Duration kDrain = absl::Seconds(3);
constexpr absl::Duration kPatience = absl::Seconds(30);  // more than two revocations wait, one after the other  // with answers that are on their way when it stops

absl::StatusOr<std::map<std::string, oauth::Keys>> ReadClients(const TokenServiceOptions& options) {
  std::map<std::string, oauth::Keys> clients;
  for (const auto& [client_id, path] : options.clients) {
    const std::string context = absl::StrCat("token_service.clients: ", path);
    SIGNET_ASSIGN_OR_RETURN(const std::string json, fs::ReadFile(path, kMaxJwksBytes), context);
    SIGNET_ASSIGN_OR_RETURN(oauth::Keys keys, oauth::ParseKeys(json), context);
    if (keys.empty()) return absl::InvalidArgumentError(absl::StrCat(context, ": holds no key that can be used"));
    clients[client_id] = std::move(keys);
  }
  return clients;
}

// How many requests have no answer yet.
class InFlight {
 public:
  class Token {
   public:
    explicit Token(InFlight& owner) : owner_(&owner) {
      const std::lock_guard lock(owner.mutex_);
      ++owner.count_;
    }
    Token(Token&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    Token& operator=(Token&&) = delete;
    ~Token() {
      if (owner_ == nullptr) return;
      const std::lock_guard lock(owner_->mutex_);
      if (--owner_->count_ == 0) owner_->none_.notify_all();
    }

   private:
    InFlight* owner_;
  };

  bool WaitForNone(absl::Duration timeout) {
    std::unique_lock lock(mutex_);
    return none_.wait_for(lock, absl::ToChronoMilliseconds(timeout), [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_;
  size_t count_ = 0;
};

// The server's SVID as a TLS identity, made anew when it is another.
class SvidIdentity {
 public:
  explicit SvidIdentity(const LatestValue<spiffe::X509Svid>& svid) : svid_(svid) {}
  std::shared_ptr<const crypto::TlsIdentity> Get() {
    auto svid = svid_.Get();
    MutexLock lock(mutex_);
    if (svid != made_of_) {
      identity_ = svid == nullptr ? nullptr
                                  : std::make_shared<const crypto::TlsIdentity>(
                                        crypto::TlsIdentity{.chain = svid->chain, .key = svid->key});
      made_of_ = std::move(svid);
    }
    return identity_;
  }

 private:
  const LatestValue<spiffe::X509Svid>& svid_;
  Mutex mutex_;
  std::shared_ptr<const spiffe::X509Svid> made_of_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const crypto::TlsIdentity> identity_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

// In build order; destroyed from the last to the first.
struct TokenServer::Parts {
  Parts(TokenServiceOptions o, TokenServerDeps deps) : options(std::move(o)), d(deps), urls(options.issuer) {}
  absl::Status Build();
  std::string JwtSvidKeys() const;

  const TokenServiceOptions options;
  const TokenServerDeps d;
  const TokenUrls urls;

  std::unique_ptr<TokenSigner> signer;
  std::unique_ptr<TokenUpdates> updates;
  std::unique_ptr<AuditLog> audit;  // tells `updates` of its heads
  std::unique_ptr<Executor> reading, revoking, fetching;
  std::unique_ptr<IssuanceGate> gate;
  std::unique_ptr<Revoker> revoker;
  std::unique_ptr<IssuerKeys> issuer_keys;
  std::unique_ptr<Alerts> alerts;
  std::unique_ptr<ClientAuthenticator> clients;
  std::unique_ptr<TokenService> service;
  std::unique_ptr<Administration> administration;
  std::unique_ptr<AdminCallers> admins;
  std::unique_ptr<AdminJson> admin_json;
  net::WebHandler endpoints;
  InFlight in_flight;

  std::unique_ptr<SvidIdentity> svid;
  std::unique_ptr<CertificateFiles> files;  // null: the SVID for everybody; else for who names no host of the files
  std::unique_ptr<net::WebServer> web;
  std::string address;
};

absl::Status TokenServer::Parts::Build() {
  signer = MakeTokenSigner(d.keys, d.rotator.authorities(), d.clock);
  updates = std::make_unique<TokenUpdates>(TokenUpdates::Options{.issuer = options.issuer,
                                                                 .introspection_endpoint = urls.introspection,
                                                                 .offline_grace = options.offline_grace},
                                           d.registry, *signer, d.clock);
  AuditLog::Options log;
  log.server_id = d.server_id;
  log.head_every = options.head_every;
  log.export_path = options.export_path;
  log.export_url = options.export_url;
  if (!log.export_url.empty()) log.export_cursor_path = absl::StrCat(d.data_dir, "/audit-export-cursor");
  SIGNET_ASSIGN_OR_RETURN(audit, AuditLog::Create(std::move(log), d.store, *signer, d.clock), "token_service.audit");
  audit->SetOnHead([this](const std::string& head) { updates->SetHead(head); });
  reading = std::make_unique<Executor>(Executor::Options{"token-read", 2, 1024});
  revoking = std::make_unique<Executor>(Executor::Options{"token-revoke", 2, 1024});
  gate = std::make_unique<IssuanceGate>(d.registry);
  revoker = std::make_unique<Revoker>(
      d.store, *gate, [this](uint64_t seq, absl::Duration timeout) { return d.applier.WaitFor(seq, timeout); },
      *revoking, d.clock);
  fetching = std::make_unique<Executor>(Executor::Options{"token-fetch", 2, 256});  // slow issuers hold up no refresh
  issuer_keys = std::make_unique<IssuerKeys>(*fetching, d.clock);
  alerts = std::make_unique<Alerts>(d.clock, d.metrics);
  SIGNET_ASSIGN_OR_RETURN(auto known, ReadClients(options));
  clients = MakeClientAuthenticator({.trust_domain = d.policy.trust_domain,
                                     .issuer = options.issuer,
                                     .index = d.index,
                                     .registry = d.registry,
                                     .clients = std::move(known)});
  service = MakeTokenService({.issuer = options.issuer,
                              .token_endpoint = urls.token,
                              .clients = *clients,
                              .registry = d.registry,
                              .gate = *gate,
                              .signer = *signer,
                              .audit = *audit,
                              .uses = d.store,
                              .revoker = *revoker,
                              .issuer_keys = *issuer_keys,
                              .alerts = *alerts,
                              .bundles = [this](const spiffe::TrustDomain& name) { return d.index.FindBundle(name); },
                              .executor = *reading,
                              .clock = d.clock,
                              .metrics = d.metrics});
  administration = MakeAdministration(
      {.trust_domain = d.policy.trust_domain,
       .server_id = d.server_id,
       .own_issuers = {options.issuer, d.policy.jwt_issuer},
       .store = d.store,
       .registry = d.registry,
       .wait_for = [this](uint64_t seq, absl::Duration timeout) { return d.applier.WaitFor(seq, timeout); },
       .revoker = *revoker,
       .audit = *audit,
       .alerts = *alerts,
       .signer = *signer,
       .keys = d.rotator,
       .explain = [this](token::v1::ExplainRequest request,
                         auto done) { service->Explain(std::move(request), std::move(done)); },
       .clock = d.clock});
  svid = std::make_unique<SvidIdentity>(d.svid.svid());
  if (!options.certificate_path.empty()) {
    SIGNET_ASSIGN_OR_RETURN(
        files, CertificateFiles::Create(options.certificate_path, options.private_key_path, d.health, d.clock),
        "token_service.certificate");
  }
  return absl::OkStatus();
}

std::string TokenServer::Parts::JwtSvidKeys() const {
  const BundlePtr bundle = d.index.FindBundle(d.policy.trust_domain);
  oauth::Keys keys;
  if (bundle != nullptr) {
    for (const spiffe::JwtAuthority& authority : bundle->jwt_authorities) keys.emplace(authority.key_id, authority.key);
  }
  return oauth::KeysJson(keys);  // with `alg` and `use: sig`, as OpenID verifiers want it
}

absl::StatusOr<std::unique_ptr<TokenServer>> TokenServer::Create(TokenServiceOptions options, TokenServerDeps deps) {
  auto parts = std::make_unique<Parts>(std::move(options), deps);
  auto server = std::unique_ptr<TokenServer>(new TokenServer(std::move(parts)));
  SIGNET_RETURN_IF_ERROR(server->parts_->Build());
  return server;
}

TokenServer::TokenServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
TokenServer::~TokenServer() { Stop(); }

Administration& TokenServer::administration() { return *parts_->administration; }
TokenUpdates& TokenServer::updates() { return *parts_->updates; }
const std::string& TokenServer::address() const { return parts_->address; }

absl::Status TokenServer::Listen(Authorizer& authorizer) {
  Parts& p = *parts_;
  p.admins = std::make_unique<AdminCallers>(
      p.d.policy.trust_domain, [&p](const spiffe::TrustDomain& name) { return p.d.index.FindBundle(name); }, authorizer,
      *p.clients, p.d.clock);
  p.admin_json = std::make_unique<AdminJson>(*p.administration);
  p.endpoints = MakeTokenEndpoints({.issuer = p.options.issuer,
                                    .jwt_issuer = p.d.policy.jwt_issuer,
                                    .service = *p.service,
                                    .signer = *p.signer,
                                    .audit = *p.audit,
                                    .jwt_svid_keys = [&p] { return p.JwtSvidKeys(); },
                                    .administration =
                                        [&p](net::WebRequest request, net::Respond respond) {
                                          const absl::StatusOr<AdminCaller> caller = p.admins->Identify(request);
                                          if (!caller.ok()) return respond(AdminRefusal(caller.status()));
                                          p.admin_json->Handle(request, *caller, std::move(respond));
                                        }});
  net::WebServer::Limits limits;
  limits.error_id = [&p](const std::string& peer) { return p.audit->CountRefusal("malformed", peer); };
  SIGNET_ASSIGN_OR_RETURN(
      p.web,
      net::WebServer::ListenTls(
          p.options.listen, std::move(limits),
          [&p](absl::string_view server_name) {
            return p.files != nullptr && p.files->Covers(server_name) ? p.files->Get() : p.svid->Get();
          },
          [&p](net::WebRequest request, net::Respond respond) {
            p.endpoints(std::move(request), [respond = std::move(respond), token = InFlight::Token(p.in_flight)](
                                                net::WebResponse response) mutable { respond(std::move(response)); });
          }),
      "token_service.listen");
  p.address = p.web->address();
  return absl::OkStatus();
}

absl::Status TokenServer::ReloadCertificate() {
  return parts_->files == nullptr ? absl::OkStatus() : parts_->files->Reload();
}

void TokenServer::Stop() {
  Parts& p = *parts_;
  if (p.web != nullptr) p.web->Drain(kDrain);  // answers that are on their way still leave
  p.web.reset();
  if (!p.in_flight.WaitForNone(kPatience)) {
    SIGNET_LOG(error, "requests to the token service were not answered before its end", {});
  }
}

}  // namespace signet::server
