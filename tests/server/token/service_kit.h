// The token service over a real store, registry and feed, with the small world of decision_world.h in it; clients are
// whoever the test says they are. Time is a fake clock's; the feed follows by itself.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/jose/jwk.h"
#include "common/jose/jws.h"
#include "common/oauth/dpop.h"
#include "server/entries/feed_applier.h"
#include "server/token/token_service.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_token_signer.h"
#include "tests/server/token/decision_world.h"
#include "tests/testing/test_ca.h"
#include "tests/testing/test_store.h"

namespace signet::server {

// Knows the clients it was told of, by their client_id.
class FakeClients final : public ClientAuthenticator {
 public:
  absl::StatusOr<Client> Authenticate(const TokenRequest& request, absl::Time) override {
    std::lock_guard lock(mutex_);
    const auto found = clients_.find(request.Get("client_id"));
    if (found == clients_.end()) return absl::UnauthenticatedError("nobody we know");
    Client client = found->second;
    if (registry != nullptr) client.identity = registry->IdentityOf(client.id);
    return client;
  }
  void Add(Client client) {
    std::lock_guard lock(mutex_);
    clients_[client.id] = std::move(client);
  }
  Client Get(const std::string& id) {
    std::lock_guard lock(mutex_);
    return clients_.at(id);
  }
  const TokenRegistry* registry = nullptr;

 private:
  std::mutex mutex_;
  std::map<std::string, Client> clients_;
};

// An answer, read.
struct Read {
  int status = 0;
  boost::json::object body;
  std::string text;
  std::string Get(const char* name) const {
    const auto* value = body.if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
  }
  std::string error() const { return Get("error"); }
  std::string reason() const { return Get("reason"); }
  std::string token() const { return Get("access_token"); }
};

using FormFields = std::map<std::string, std::string>;

class ServiceKit {
 public:
  static constexpr char kIssuer[] = "https://id.example";
  static constexpr char kEndpoint[] = "https://id.example/oauth2/token";
  static constexpr char kExchange[] = "urn:ietf:params:oauth:grant-type:token-exchange";
  static constexpr char kAccessToken[] = "urn:ietf:params:oauth:token-type:access_token";

  explicit ServiceKit(World world_in = World()) : world(std::move(world_in)) {
    registry = TokenRegistry::Create(spiffe::TrustDomain::Parse("td").value());
    index = EntryIndex::Create(spiffe::TrustDomain::Parse("td").value());
    applier = FeedApplier::Create(*store, *index, feed_clock, registry.get()).value();
    gate = std::make_unique<IssuanceGate>(*registry);
    revoker = std::make_unique<Revoker>(
        *store, *gate, [this](uint64_t seq, absl::Duration timeout) { return applier->WaitFor(seq, timeout); },
        executor, clock);
    audit = AuditLog::Create({.server_id = "s1"}, *store, signer, clock).value();
    alerts = std::make_unique<Alerts>(clock, metrics);
    keys = std::make_unique<IssuerKeys>(executor, clock);
    clients.registry = registry.get();
    service = MakeTokenService(Deps());
    Fill();
  }
  ~ServiceKit() {
    service.reset();
    audit.reset();
  }

  TokenServiceDeps Deps() {
    return {.issuer = kIssuer,
            .token_endpoint = kEndpoint,
            .clients = clients,
            .registry = *registry,
            .gate = *gate,
            .signer = signer,
            .audit = *audit,
            .uses = *store,
            .revoker = *revoker,
            .issuer_keys = *keys,
            .alerts = *alerts,
            .bundles = {},
            .executor = executor,
            .clock = clock,
            .metrics = metrics};
  }

  void CatchUp() { ASSERT_TRUE(applier->WaitFor(store->LastSeq().value(), absl::Seconds(20))); }
  template <typename Record, typename F>
  Record Write(F start) {
    Record record = testing::Await<Record>(start).value();
    CatchUp();
    return record;
  }
  void Put(const ResourceRecord& record) {
    Write<ResourceRecord>([&](auto done) { store->PutResource(record, std::move(done)); });
  }
  void Put(const IssuerRecord& record) {
    Write<IssuerRecord>([&](auto done) { store->PutIssuer(record, std::move(done)); });
  }
  void Put(const UserRightsRecord& record) {
    Write<UserRightsRecord>([&](auto done) { store->PutUserRights(record, std::move(done)); });
  }
  void Create(const IdentityRecord& record) {
    Write<IdentityRecord>([&](auto done) { store->CreateIdentity(record, clock.Now(), std::move(done)); });
  }
  void Create(const GrantRecord& record) {
    Write<GrantRecord>([&](auto done) { store->CreateGrant(record, clock.Now(), std::move(done)); });
  }
  void Create(const TaskRecord& record) {
    Write<TaskRecord>([&](auto done) { store->CreateTask(record, clock.Now(), std::move(done)); });
  }
  // For good, as an administrator would.
  absl::Status Revoke(oauth::EntityKind kind, const std::string& entity,
                      std::optional<IdentityState> state = std::nullopt) {
    RevokeChange change;
    change.revocation.kind = kind;
    change.revocation.entity = entity;
    change.revocation.not_before = clock.Now();
    change.identity_state = state;
    return testing::Await<uint64_t>([&](auto done) { revoker->Revoke(change, std::move(done)); }).status();
  }

  // Instance 1 of a definition, with a certificate and a DPoP key of its own.
  void AddInstance(const std::string& spiffe_id, const std::string& node = "node-1") {
    Client client;
    client.id = spiffe_id;
    client.definition = oauth::DefinitionOf(spiffe_id);
    client.instance = absl::StrCat("instance-of-", spiffe_id);
    client.node = node;
    client.own_trust_domain = true;
    client.x5t_s256 = absl::StrCat("x5t-", spiffe_id);
    client.not_after = clock.Now() + absl::Hours(1);
    client.planned_rotation = clock.Now() + absl::Minutes(30);
    client.issued_at = clock.Now();
    clients.Add(client);
    if (!dpop_keys.contains(spiffe_id)) {
      dpop_keys.emplace(spiffe_id, crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value());
    }
  }
  std::string Dpop(const std::string& client) {
    return oauth::MakeDpop(dpop_keys.at(client), "POST", kEndpoint, "", "", clock.Now()).value();
  }

  // --- calls -------------------------------------------------------------------------------------------------------
  static Read ReadAnswer(const TokenAnswer& answer) {
    Read read;
    read.status = answer.status;
    read.text = answer.body;
    if (!answer.body.empty()) read.body = boost::json::parse(answer.body).as_object();
    return read;
  }
  TokenRequest RequestOf(const std::string& client, const FormFields& fields, bool dpop = true) {
    TokenRequest request;
    request.form = fields;
    request.form["client_id"] = client;
    request.peer = "192.0.2.7:4242";
    for (const char* name : {"resource", "resource2"}) {
      const auto found = request.form.find(name);
      if (found == request.form.end()) continue;
      request.resources.push_back(found->second);
      request.form.erase(found);
    }
    const bool x5t = fields.contains("token_binding");
    if (dpop && !x5t && dpop_keys.contains(client)) request.dpop = Dpop(client);
    return request;
  }
  Read Send(TokenRequest request) {
    std::promise<TokenAnswer> answer;
    service->Token(std::move(request), [&](TokenAnswer a) { answer.set_value(std::move(a)); });
    return ReadAnswer(answer.get_future().get());
  }
  Read Token(const std::string& client, const FormFields& fields) { return Send(RequestOf(client, fields)); }
  Read Exchange(const std::string& client, const std::string& subject_token, FormFields fields) {
    fields["grant_type"] = kExchange;
    fields["subject_token"] = subject_token;
    fields.emplace("subject_token_type", kAccessToken);
    return Token(client, fields);
  }
  Read Introspect(const std::string& client, const std::string& token, FormFields fields) {
    fields["token"] = token;
    std::promise<TokenAnswer> answer;
    service->Introspect(RequestOf(client, fields, false), [&](TokenAnswer a) { answer.set_value(std::move(a)); });
    return ReadAnswer(answer.get_future().get());
  }
  Read RevokeToken(const std::string& client, const std::string& token) {
    std::promise<TokenAnswer> answer;
    service->Revoke(RequestOf(client, {{"token", token}}, false),
                    [&](TokenAnswer a) { answer.set_value(std::move(a)); });
    return ReadAnswer(answer.get_future().get());
  }
  // What a resource saw of a token presented by `holder` with its DPoP key.
  FormFields Presented(const std::string& holder, const std::string& token, const std::string& uri) {
    return {{"dpop", oauth::MakeDpop(dpop_keys.at(holder), "POST", uri, token, "", clock.Now()).value()},
            {"htm", "POST"},
            {"htu", uri}};
  }
  oauth::AccessToken Parse(const std::string& token) {
    return oauth::Verify(token, *signer.token_keys(), kIssuer, clock.Now()).value();
  }

  // --- users -------------------------------------------------------------------------------------------------------
  boost::json::object UserClaims() {
    const int64_t now = absl::ToUnixSeconds(clock.Now());
    return {{"iss", World::kUserIssuer},
            {"sub", "u-1"},
            {"aud", kIssuer},
            {"iat", now},
            {"exp", now + 3600},
            {"auth_time", now},
            {"scope", "everything"},
            {"jti", absl::StrCat("u", ++user_tokens)}};
  }
  std::string Sign(const boost::json::object& claims, const std::string& type = "at+jwt") {
    return jose::SignCompact(absl::StrCat(R"({"alg":"ES256","kid":"idp","typ":")", type, R"("})"),
                             boost::json::serialize(claims), idp_key.type(), testing::SignerOf(idp_key))
        .value();
  }
  std::string UserToken() { return Sign(UserClaims()); }

  // The planner's first token for the worker, in a task, carrying what the orders server will be asked for.
  FormFields FirstHop() {
    return {{"resource", World::kWorkerUri},
            {"resource2", World::kOrdersUri},
            {"scope", "work:run orders:read"},
            {"task", "task-1"},
            {"session", "s-1"}};
  }
  std::string FirstToken() { return Exchange(planner, UserToken(), FirstHop()).token(); }

  std::vector<boost::json::object> Audit() {
    std::vector<boost::json::object> records;
    const auto chains = store->AuditChains().value();
    for (const auto& [server, epoch] : chains) {
      const std::vector<AuditRecord> page = store->ReadAudit(server, epoch, 0, 100'000).value();
      for (const AuditRecord& record : page) records.push_back(boost::json::parse(record.body).as_object());
    }
    return records;
  }

  // Of the token, first hop first: from inside it, or from the audit where it refers to them.
  std::vector<std::string> Receipts(const oauth::AccessToken& token) {
    if (!token.receipts.empty()) return token.receipts;
    std::map<std::string, std::string> by_hash;
    const std::vector<AuditRecord> records = store->ReadAuditOfChain(token.txn, 1000).value();
    for (const AuditRecord& record : records) {
      const boost::json::object body = boost::json::parse(record.body).as_object();
      if (const auto* receipt = body.if_contains("receipt")) {
        by_hash[oauth::ReceiptHash(receipt->as_string().c_str())] = receipt->as_string().c_str();
      }
    }
    std::vector<std::string> chain;
    for (std::string hash = token.context.receipt_hash; !hash.empty();) {
      chain.insert(chain.begin(), by_hash.at(hash));
      hash = oauth::VerifyReceipt(chain.front(), *signer.receipt_keys()).value().previous;
    }
    return chain;
  }

  const std::string planner = World::Instance(World::kPlanner), worker = World::Instance(World::kWorker),
                    orders = World::Instance(World::kOrders);
  World world;
  fakes::FakeClock clock;
  SystemClock feed_clock;
  testing::TestStore store;
  fakes::FakeTokenSigner signer;
  telemetry::Metrics metric_registry;
  Metrics metrics{metric_registry};
  Executor executor{{.name = "token_test", .threads = 2, .queue_limit = 4096}};
  std::unique_ptr<TokenRegistry> registry;
  std::unique_ptr<EntryIndex> index;
  std::unique_ptr<FeedApplier> applier;
  std::unique_ptr<IssuanceGate> gate;
  std::unique_ptr<Revoker> revoker;
  std::unique_ptr<AuditLog> audit;
  std::unique_ptr<Alerts> alerts;
  std::unique_ptr<IssuerKeys> keys;
  FakeClients clients;
  std::unique_ptr<TokenService> service;
  std::map<std::string, crypto::PrivateKey> dpop_keys;
  const crypto::PrivateKey idp_key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  int user_tokens = 0;

 private:
  void Fill() {
    IssuerRecord issuer;
    issuer.url = World::kUserIssuer;
    issuer.jwks_json = oauth::KeysJson({{"idp", idp_key.public_key()}});
    issuer.audiences = {kIssuer};
    issuer.rights = {{"everything", world.everything}};
    Put(issuer);
    for (IdentityRecord* record : {&world.planner, &world.worker, &world.orders}) Create(*record);
    for (ResourceRecord* record : {&world.worker_resource, &world.orders_resource, &world.other_resource}) Put(*record);
    Create(world.grant);
    Create(world.task);
    AddInstance(planner);
    AddInstance(worker);
    AddInstance(orders);
  }
};

}  // namespace signet::server
