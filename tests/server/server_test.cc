// The whole server over its real sockets: who may call, attestation, signing, what an operator does.
#include "server/server.h"

#include <atomic>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

#include "common/crypto/csr.h"
#include "common/fs/atomic_file.h"
#include "common/nodeattestor/k8s_psat.h"
#include "common/nodeattestor/x509_pop.h"
#include "common/rpc/client_channel.h"
#include "common/rpc/tls_setup.h"
#include "common/spiffe/wire.h"
#include "common/spiffe/x509_svid.h"
#include "common/status/grpc_status.h"
#include "server/api/authorizer.h"
#include "server/api/methods.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "spire/api/server/bundle/v1/bundle.grpc.pb.h"
#include "spire/api/server/debug/v1/debug.grpc.pb.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"
#include "spire/api/server/svid/v1/svid.grpc.pb.h"
#include "tests/fakes/fake_api_server.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

namespace agentv1 = ::spire::api::server::agent::v1;
namespace bundlev1 = ::spire::api::server::bundle::v1;
namespace debugv1 = ::spire::api::server::debug::v1;
namespace entryv1 = ::spire::api::server::entry::v1;
namespace svidv1 = ::spire::api::server::svid::v1;
namespace types = ::spire::api::types;

// A whole signet-server in this process, on a free port and in a folder of its own, and what is needed to call it.
class ServerKit {
 public:
  explicit ServerKit(const config::Server& base = {}, Clock* clock = nullptr) : config_(base) {
    if (clock != nullptr) clock_ = clock;
    rpc::PrepareProcess();
    config_.set_trust_domain("example.org");
    config_.set_data_dir(dir_.file("data"));
    config_.set_listen("127.0.0.1:0");
    config_.set_admin_socket(dir_.file("admin/admin.sock"));
    config_.mutable_http()->set_listen("127.0.0.1:0");
    Start();
  }
  void Start() {
    absl::StatusOr<std::unique_ptr<Server>> made =
        Server::Create(OptionsFromConfig(config_).value(), {.clock = clock_});
    Must(made.status());
    server_ = *std::move(made);
    admin_ = rpc::MakeUnixChannel(server_->addresses().admin);
  }
  void Stop() { server_.reset(); }
  Server& server() { return *server_; }
  config::Server config() const { return config_; }
  const std::string data_dir() const { return config_.data_dir(); }

  std::shared_ptr<grpc::Channel> admin() { return admin_; }
  std::shared_ptr<grpc::Channel> Tls(std::optional<spiffe::X509Svid> identity = std::nullopt) {
    return rpc::MakeTlsChannel(
        server_->addresses().grpc,
        {.server_id = spiffe::ServerId(Own()),
         .identity = std::move(identity),
         .bundle = [bundle = std::make_shared<const spiffe::Bundle>(Bundle())] { return bundle; }},
        *clock_);
  }
  static spiffe::TrustDomain Own() { return spiffe::TrustDomain::Parse("example.org").value(); }

  spiffe::Bundle Bundle() {
    types::Bundle out;
    Must(
        Call(bundlev1::Bundle::NewStub(admin_), &bundlev1::Bundle::Stub::GetBundle, bundlev1::GetBundleRequest(), out));
    return spiffe::BundleFromWire(out).value();
  }

  // Any unary method of any service, with a deadline.
  template <typename Stub, typename Request, typename Response>
  static absl::Status Call(const std::unique_ptr<Stub>& stub,
                           grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                           const Request& request, Response& response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    return FromGrpc((stub.get()->*method)(&context, request, &response));
  }

  std::string NewToken(const std::string& alias_path = "", const std::string& value = "") {
    agentv1::CreateJoinTokenRequest request;
    request.set_ttl(600);
    request.set_token(value);
    if (!alias_path.empty()) *request.mutable_agent_id() = WireId(alias_path);
    types::JoinToken token;
    Must(Call(agentv1::Agent::NewStub(admin_), &agentv1::Agent::Stub::CreateJoinToken, request, token));
    return token.value();
  }

  static types::SPIFFEID WireId(absl::string_view path) {
    types::SPIFFEID id;
    id.set_trust_domain("example.org");
    id.set_path(std::string(path));
    return id;
  }

  static absl::StatusOr<spiffe::X509Svid> SvidOf(const types::X509SVID& wire, crypto::PrivateKey key) {
    std::vector<crypto::Certificate> chain;
    for (const std::string& der : wire.cert_chain()) chain.push_back(crypto::Certificate::Parse(der).value());
    return spiffe::X509Svid::Create(std::move(chain), std::move(key));
  }

  absl::StatusOr<spiffe::X509Svid> Attest(const std::string& token, std::shared_ptr<grpc::Channel> channel = nullptr) {
    return Attest(token, crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value(), std::move(channel));
  }
  absl::StatusOr<spiffe::X509Svid> Attest(const std::string& token, crypto::PrivateKey key,
                                          std::shared_ptr<grpc::Channel> channel = nullptr) {
    agentv1::AttestAgentRequest request;
    request.mutable_params()->mutable_data()->set_type("join_token");
    request.mutable_params()->mutable_data()->set_payload(token);
    request.mutable_params()->mutable_params()->set_csr(crypto::CertificateRequest::Create(key, {}).value());
    auto stub = agentv1::Agent::NewStub(channel != nullptr ? channel : Tls());
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    auto stream = stub->AttestAgent(&context);
    agentv1::AttestAgentResponse response;
    stream->Write(request);
    const bool answered = stream->Read(&response);
    const grpc::Status status = stream->Finish();
    if (!status.ok()) return FromGrpc(status);
    if (!answered || !response.has_result()) return absl::InternalError("no result");
    return SvidOf(response.result().svid(), std::move(key));
  }

  types::Entry CreateEntry(const std::string& path, const spiffe::Id& parent, void (*edit)(types::Entry&) = nullptr) {
    entryv1::BatchCreateEntryRequest request;
    types::Entry& entry = *request.add_entries();
    *entry.mutable_spiffe_id() = WireId(path);
    spiffe::ToWire(parent, entry.mutable_parent_id());
    types::Selector& selector = *entry.add_selectors();
    selector.set_type("unix");
    selector.set_value("uid:1000");
    if (edit != nullptr) edit(entry);
    entryv1::BatchCreateEntryResponse response;
    Must(Call(entryv1::Entry::NewStub(admin_), &entryv1::Entry::Stub::BatchCreateEntry, request, response));
    const types::Status& status = response.results(0).status();
    Must(absl::Status(static_cast<absl::StatusCode>(status.code()), status.message()));
    return response.results(0).entry();
  }

 private:
  static void Must(const absl::Status& status) {
    if (status.ok()) return;
    std::cerr << status << std::endl;
    abort();
  }

  testing::TempDir dir_;
  SystemClock system_clock_;
  Clock* clock_ = &system_clock_;
  config::Server config_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> admin_;
};

using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

class ServerTest : public ::testing::Test {
 protected:
  ServerKit kit_;
};

// Memory follows the database by a moment: the condition holds soon, or the test fails.
template <typename Condition>
void Soon(Condition condition) {
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (!condition()) ASSERT_LT(absl::Now(), end);
}

// One call with an empty request, of whatever kind; how it ended.
absl::Status CallEmpty(const std::shared_ptr<grpc::Channel>& channel, absl::string_view path) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  grpc::CompletionQueue queue;
  const grpc::Slice nothing("");
  auto call = stub.PrepareUnaryCall(&context, std::string(path), grpc::ByteBuffer(&nothing, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  return FromGrpc(status);
}

TEST_F(ServerTest, EveryMethodAsksTheAuthoriser) {
  const auto stranger = kit_.Tls();
  const auto agent = kit_.Tls(kit_.Attest(kit_.NewToken()).value());
  for (const MethodRow& row : kMethodTable) {
    const absl::StatusCode anonymous = CallEmpty(stranger, row.path).code();
    if (row.grants & kAny) {
      EXPECT_NE(anonymous, absl::StatusCode::kUnauthenticated) << row.path;
      continue;
    }
    EXPECT_EQ(anonymous, absl::StatusCode::kUnauthenticated) << row.path;
    const absl::StatusCode known = CallEmpty(agent, row.path).code();
    EXPECT_NE(known, absl::StatusCode::kUnauthenticated) << row.path;
    if (!(row.grants & kAgent)) {
      EXPECT_EQ(known, absl::StatusCode::kPermissionDenied) << row.path;
    }
    if (!(row.grants & kLocal)) {
      EXPECT_EQ(CallEmpty(kit_.admin(), row.path).code(), absl::StatusCode::kPermissionDenied) << row.path;
    }
  }
}

TEST_F(ServerTest, AttestsByJoinTokenOnce) {
  const std::string token = kit_.NewToken();
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid svid, kit_.Attest(token));
  EXPECT_EQ(svid.id.string(), "spiffe://example.org/spire/agent/join_token/" + token);
  EXPECT_THAT(kit_.Attest(token), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_FALSE(kit_.Attest("no-such-token").ok());
}

// The reply to an attestation may be lost with the server that sent it (F1).
TEST_F(ServerTest, ASpentTokenIsGoodForTheKeyThatSpentItAndNoOther) {
  const std::string token = kit_.NewToken("/node-alias");
  const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid lost, kit_.Attest(token, key));
  EXPECT_THAT(kit_.Attest(token), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("used already")));
  kit_.Stop();
  kit_.Start();
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid svid, kit_.Attest(token, key));
  EXPECT_EQ(svid.id, lost.id);
  EXPECT_NE(svid.leaf().serial(), lost.leaf().serial());
  Soon([&] {  // it is the agent's one SVID now
    entryv1::GetAuthorizedEntriesResponse entries;
    return kit_.Call(entryv1::Entry::NewStub(kit_.Tls(svid)), &entryv1::Entry::Stub::GetAuthorizedEntries, {}, entries)
               .ok() &&
           entries.entries_size() == 1;
  });

  agentv1::DeleteAgentRequest evict;
  *evict.mutable_id() = kit_.WireId(svid.id.path());
  google::protobuf::Empty nothing;
  SIGNET_ASSERT_OK(
      kit_.Call(agentv1::Agent::NewStub(kit_.admin()), &agentv1::Agent::Stub::DeleteAgent, evict, nothing));
  EXPECT_THAT(kit_.Attest(token, key), StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(ServerTest, OfRacersForOneTokenExactlyOneWins) {
  const std::string token = kit_.NewToken();
  const auto channel = kit_.Tls();
  std::atomic<int> winners = 0;
  std::vector<std::thread> racers;
  for (int i = 0; i < 64; ++i) {
    racers.emplace_back([&] { winners += kit_.Attest(token, channel).ok() ? 1 : 0; });
  }
  for (std::thread& racer : racers) racer.join();
  EXPECT_EQ(winners, 1);
}

TEST_F(ServerTest, TokenIsKeptAsHashAndAliasMadeAtAttestation) {
  const std::string token = kit_.NewToken("/node-alias");
  for (const char* file : {"server.db", "server.db-wal"}) {
    const auto content = fs::ReadFile(kit_.data_dir() + "/" + file, 64 << 20);
    if (content.ok()) {
      EXPECT_THAT(*content, ::testing::Not(HasSubstr(token))) << file;
    }
  }
  const auto entries = [&] {
    entryv1::ListEntriesResponse response;
    EXPECT_THAT(kit_.Call(entryv1::Entry::NewStub(kit_.admin()), &entryv1::Entry::Stub::ListEntries,
                          entryv1::ListEntriesRequest(), response),
                IsOk());
    return response;
  };
  EXPECT_EQ(entries().entries_size(), 0);
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid svid, kit_.Attest(token));
  ASSERT_EQ(entries().entries_size(), 1);
  EXPECT_EQ(entries().entries(0).spiffe_id().path(), "/node-alias");
  EXPECT_EQ(entries().entries(0).parent_id().path(), svid.id.path());
  // What stands under the alias is the agent's.
  const types::Entry below = kit_.CreateEntry("/below", spiffe::Id::Parse("spiffe://example.org/node-alias").value());
  entryv1::GetAuthorizedEntriesResponse authorized;
  Soon([&] {
    EXPECT_THAT(kit_.Call(entryv1::Entry::NewStub(kit_.Tls(svid)), &entryv1::Entry::Stub::GetAuthorizedEntries,
                          entryv1::GetAuthorizedEntriesRequest(), authorized),
                IsOk());
    return authorized.entries_size() == 2;
  });
}

TEST_F(ServerTest, AttestationRefusesNonsense) {
  auto stub = agentv1::Agent::NewStub(kit_.Tls());
  const auto attest = [&](void (*edit)(agentv1::AttestAgentRequest&)) {
    const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
    agentv1::AttestAgentRequest request;
    request.mutable_params()->mutable_data()->set_type("join_token");
    request.mutable_params()->mutable_data()->set_payload("x");
    request.mutable_params()->mutable_params()->set_csr(crypto::CertificateRequest::Create(key, {}).value());
    edit(request);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    auto stream = stub->AttestAgent(&context);
    stream->Write(request);
    stream->WritesDone();
    agentv1::AttestAgentResponse response;
    while (stream->Read(&response)) {
    }
    return FromGrpc(stream->Finish());
  };
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(attest([](auto& r) { r.Clear(); }), StatusIs(kInvalid, HasSubstr("params")));
  EXPECT_THAT(attest([](auto& r) { r.set_challenge_response("x"); }), StatusIs(kInvalid, HasSubstr("params")));
  EXPECT_THAT(attest([](auto& r) { r.mutable_params()->mutable_data()->clear_type(); }),
              StatusIs(kInvalid, HasSubstr("type")));
  EXPECT_THAT(attest([](auto& r) { r.mutable_params()->mutable_data()->clear_payload(); }),
              StatusIs(kInvalid, HasSubstr("payload")));
  EXPECT_THAT(attest([](auto& r) { r.mutable_params()->mutable_params()->clear_csr(); }),
              StatusIs(kInvalid, HasSubstr("csr")));
  EXPECT_THAT(attest([](auto& r) { r.mutable_params()->mutable_params()->set_csr("junk"); }),
              StatusIs(kInvalid, HasSubstr("csr")));
  EXPECT_THAT(attest([](auto& r) { r.mutable_params()->mutable_data()->set_payload(std::string(300 << 10, 'x')); }),
              StatusIs(kInvalid, HasSubstr("256 KiB")));
  EXPECT_THAT(attest([](auto& r) { r.mutable_params()->mutable_data()->set_type("aws_iid"); }),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("aws_iid")));
}

TEST_F(ServerTest, SignsWhatTheEntrySaysForItsAgentAlone) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid agent, kit_.Attest(kit_.NewToken()));
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid other, kit_.Attest(kit_.NewToken()));
  const types::Entry entry = kit_.CreateEntry("/app", agent.id, [](types::Entry& e) {
    e.add_dns_names("app.example.org");
    e.set_hint("main");
  });
  const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  svidv1::BatchNewX509SVIDRequest request;
  svidv1::NewX509SVIDParams& params = *request.add_params();
  params.set_entry_id(entry.id());
  // A CSR that asks for more than the entry gives (CVE-2021-27098): nothing but the key is taken from it.
  params.set_csr(crypto::CertificateRequest::Create(key, {"spiffe://example.org/root"}, {"evil.example.org"}).value());
  svidv1::BatchNewX509SVIDResponse response;
  SIGNET_ASSERT_OK(
      kit_.Call(svidv1::SVID::NewStub(kit_.Tls(agent)), &svidv1::SVID::Stub::BatchNewX509SVID, request, response));
  ASSERT_EQ(response.results(0).status().code(), 0) << response.ShortDebugString();
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid svid, kit_.SvidOf(response.results(0).svid(), key));
  EXPECT_EQ(svid.id.string(), "spiffe://example.org/app");
  EXPECT_THAT(svid.leaf().dns_sans(), ::testing::ElementsAre("app.example.org"));
  EXPECT_EQ(response.results(0).svid().hint(), "main");

  SIGNET_ASSERT_OK(
      kit_.Call(svidv1::SVID::NewStub(kit_.Tls(other)), &svidv1::SVID::Stub::BatchNewX509SVID, request, response));
  EXPECT_EQ(response.results(0).status().code(), static_cast<int>(absl::StatusCode::kNotFound));

  svidv1::NewJWTSVIDRequest jwt;
  jwt.set_entry_id(entry.id());
  jwt.add_audience("db");
  svidv1::NewJWTSVIDResponse token;
  SIGNET_ASSERT_OK(kit_.Call(svidv1::SVID::NewStub(kit_.Tls(agent)), &svidv1::SVID::Stub::NewJWTSVID, jwt, token));
  EXPECT_EQ(token.svid().id().path(), "/app");
  EXPECT_THAT(kit_.Call(svidv1::SVID::NewStub(kit_.Tls(other)), &svidv1::SVID::Stub::NewJWTSVID, jwt, token),
              StatusIs(absl::StatusCode::kNotFound));
  jwt.clear_audience();
  EXPECT_THAT(kit_.Call(svidv1::SVID::NewStub(kit_.Tls(agent)), &svidv1::SVID::Stub::NewJWTSVID, jwt, token),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ServerTest, RenewalKeepsTheOldSerialUntilTheNewIsUsed) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid old, kit_.Attest(kit_.NewToken()));
  const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  agentv1::RenewAgentRequest request;
  request.mutable_params()->set_csr(crypto::CertificateRequest::Create(key, {}).value());
  agentv1::RenewAgentResponse response;
  SIGNET_ASSERT_OK(
      kit_.Call(agentv1::Agent::NewStub(kit_.Tls(old)), &agentv1::Agent::Stub::RenewAgent, request, response));
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid fresh, kit_.SvidOf(response.svid(), key));
  EXPECT_EQ(fresh.id, old.id);
  const auto entries = [&](const spiffe::X509Svid& by) {
    entryv1::GetAuthorizedEntriesResponse out;
    return kit_.Call(entryv1::Entry::NewStub(kit_.Tls(by)), &entryv1::Entry::Stub::GetAuthorizedEntries,
                     entryv1::GetAuthorizedEntriesRequest(), out);
  };
  EXPECT_THAT(entries(old), IsOk());
  EXPECT_THAT(entries(fresh), IsOk());
  absl::Status refused;
  Soon([&] { return !(refused = entries(old)).ok(); });
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(entries(fresh), IsOk());
}

TEST_F(ServerTest, BanRefusesAndEndsStreamsEvictionLetsAttestAgain) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid agent, kit_.Attest(kit_.NewToken()));
  auto stub = entryv1::Entry::NewStub(kit_.Tls(agent));
  grpc::ClientContext context;
  auto stream = stub->SyncAuthorizedEntries(&context);  // open and silent
  types::Agent shown;
  agentv1::GetAgentRequest get;
  *get.mutable_id() = kit_.WireId(agent.id.path());
  SIGNET_ASSERT_OK(kit_.Call(agentv1::Agent::NewStub(kit_.admin()), &agentv1::Agent::Stub::GetAgent, get, shown));
  EXPECT_EQ(shown.x509svid_serial_number(), agent.leaf().SerialDecimal());

  agentv1::BanAgentRequest ban;
  *ban.mutable_id() = get.id();
  google::protobuf::Empty empty;
  SIGNET_ASSERT_OK(kit_.Call(agentv1::Agent::NewStub(kit_.admin()), &agentv1::Agent::Stub::BanAgent, ban, empty));
  EXPECT_THAT(FromGrpc(stream->Finish()), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("banned")));
  entryv1::GetAuthorizedEntriesResponse out;
  const absl::Status refused =
      kit_.Call(stub, &entryv1::Entry::Stub::GetAuthorizedEntries, entryv1::GetAuthorizedEntriesRequest(), out);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_TRUE(refused.GetPayload(kPermissionDeniedDetails).has_value());

  agentv1::DeleteAgentRequest evict;
  *evict.mutable_id() = get.id();
  SIGNET_ASSERT_OK(kit_.Call(agentv1::Agent::NewStub(kit_.admin()), &agentv1::Agent::Stub::DeleteAgent, evict, empty));
  EXPECT_THAT(kit_.Call(agentv1::Agent::NewStub(kit_.admin()), &agentv1::Agent::Stub::DeleteAgent, evict, empty),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ServerTest, EntriesComeInPagesByFilterAndMask) {
  const spiffe::Id parent = spiffe::Id::Parse("spiffe://example.org/spire/agent/join_token/x").value();
  for (int i = 0; i < 7; ++i) kit_.CreateEntry("/app-" + std::to_string(i), parent);
  auto stub = entryv1::Entry::NewStub(kit_.admin());
  entryv1::ListEntriesRequest request;
  request.set_page_size(3);
  request.mutable_output_mask()->set_spiffe_id(true);
  std::set<std::string> seen;
  int pages = 0;
  do {
    entryv1::ListEntriesResponse response;
    SIGNET_ASSERT_OK(kit_.Call(stub, &entryv1::Entry::Stub::ListEntries, request, response));
    for (const types::Entry& entry : response.entries()) {
      EXPECT_TRUE(seen.insert(entry.spiffe_id().path()).second);
      EXPECT_FALSE(entry.id().empty());
      EXPECT_FALSE(entry.has_parent_id());
      EXPECT_EQ(entry.selectors_size(), 0);
    }
    request.set_page_token(response.next_page_token());
    ++pages;
  } while (!request.page_token().empty());
  EXPECT_EQ(seen.size(), 7u);
  EXPECT_EQ(pages, 3);

  entryv1::CountEntriesRequest count;
  *count.mutable_filter()->mutable_by_spiffe_id() = kit_.WireId("/app-3");
  entryv1::CountEntriesResponse counted;
  SIGNET_ASSERT_OK(kit_.Call(stub, &entryv1::Entry::Stub::CountEntries, count, counted));
  EXPECT_EQ(counted.count(), 1);
  count.mutable_filter()->mutable_by_spiffe_id()->set_trust_domain("partner.org");
  EXPECT_THAT(kit_.Call(stub, &entryv1::Entry::Stub::CountEntries, count, counted),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(ServerTest, BatchesAnswerItemByItem) {
  const spiffe::Id parent = spiffe::Id::Parse("spiffe://example.org/spire/agent/join_token/x").value();
  const types::Entry first = kit_.CreateEntry("/app", parent);
  auto stub = entryv1::Entry::NewStub(kit_.admin());
  entryv1::BatchCreateEntryRequest create;
  *create.add_entries() = first;  // there already
  create.mutable_entries(0)->clear_id();
  *create.add_entries() = first;  // reserved
  create.mutable_entries(1)->clear_id();
  create.mutable_entries(1)->mutable_spiffe_id()->set_path("/spire/server");
  *create.add_entries() = first;  // foreign
  create.mutable_entries(2)->clear_id();
  create.mutable_entries(2)->mutable_spiffe_id()->set_trust_domain("partner.org");
  *create.add_entries() = first;  // good
  create.mutable_entries(3)->clear_id();
  create.mutable_entries(3)->mutable_spiffe_id()->set_path("/app2");
  entryv1::BatchCreateEntryResponse created;
  SIGNET_ASSERT_OK(kit_.Call(stub, &entryv1::Entry::Stub::BatchCreateEntry, create, created));
  ASSERT_EQ(created.results_size(), 4);
  EXPECT_EQ(created.results(0).status().code(), static_cast<int>(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(created.results(0).entry().id(), first.id());
  EXPECT_EQ(created.results(1).status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(created.results(2).status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(created.results(3).status().code(), 0) << created.results(3).status().message();

  entryv1::BatchUpdateEntryRequest update;
  update.add_entries()->set_id(first.id());
  update.mutable_entries(0)->set_hint("changed");
  update.mutable_entries(0)->set_admin(true);  // not in the mask
  update.add_entries()->set_hint("no id");
  update.add_entries()->set_id("unknown");
  update.mutable_input_mask()->set_hint(true);
  entryv1::BatchUpdateEntryResponse updated;
  SIGNET_ASSERT_OK(kit_.Call(stub, &entryv1::Entry::Stub::BatchUpdateEntry, update, updated));
  EXPECT_EQ(updated.results(0).status().code(), 0) << updated.results(0).status().message();
  EXPECT_EQ(updated.results(0).entry().hint(), "changed");
  EXPECT_FALSE(updated.results(0).entry().admin());
  EXPECT_EQ(updated.results(0).entry().spiffe_id().path(), "/app");
  EXPECT_EQ(updated.results(0).entry().revision_number(), first.revision_number() + 1);
  EXPECT_EQ(updated.results(1).status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(updated.results(2).status().code(), static_cast<int>(absl::StatusCode::kNotFound));

  entryv1::BatchDeleteEntryRequest remove;
  remove.add_ids(first.id());
  remove.add_ids("unknown");
  remove.add_ids("");
  entryv1::BatchDeleteEntryResponse removed;
  SIGNET_ASSERT_OK(kit_.Call(stub, &entryv1::Entry::Stub::BatchDeleteEntry, remove, removed));
  EXPECT_EQ(removed.results(0).status().code(), 0);
  EXPECT_EQ(removed.results(1).status().code(), static_cast<int>(absl::StatusCode::kNotFound));
  EXPECT_EQ(removed.results(2).status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(removed.results(1).id(), "unknown");
}

TEST(ServerIssuanceTest, WhatIsRegisteredCanBeIssued) {
  config::Server base;  // the largest signatures there are
  base.mutable_ca()->set_key_type("rsa-4096");
  base.mutable_ca()->set_jwt_key_type("ec-p256");
  ServerKit kit(base);
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid agent, kit.Attest(kit.NewToken()));
  entryv1::BatchCreateEntryRequest create;
  types::Entry& entry = *create.add_entries();
  const size_t path_bytes = 2048 - std::string("spiffe://example.org").size();  // ID-9
  *entry.mutable_spiffe_id() = kit.WireId("/" + std::string(path_bytes - 1, 'p'));
  spiffe::ToWire(agent.id, entry.mutable_parent_id());
  entry.add_selectors()->set_type("unix");
  entry.mutable_selectors(0)->set_value("uid:1");
  for (int i = 0; i < 64; ++i) {  // 160 bytes each
    entry.add_dns_names(absl::StrCat("n", absl::Dec(i, absl::kZeroPad2), std::string(57, 'a'), ".",
                                     std::string(60, 'b'), ".", std::string(38, 'c')));
  }
  *create.add_entries() = entry;
  create.mutable_entries(1)->mutable_dns_names(7)->append("d");
  entryv1::BatchCreateEntryResponse created;
  const auto admin = entryv1::Entry::NewStub(kit.admin());
  SIGNET_ASSERT_OK(kit.Call(admin, &entryv1::Entry::Stub::BatchCreateEntry, create, created));
  ASSERT_EQ(created.results(0).status().code(), 0) << created.results(0).status().message();
  EXPECT_EQ(created.results(1).status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(created.results(1).status().message(), HasSubstr("dns_names: 10241 bytes together, more than the 10240"));

  entryv1::BatchUpdateEntryRequest update;
  *update.add_entries() = create.entries(1);
  update.mutable_entries(0)->set_id(created.results(0).entry().id());
  update.mutable_input_mask()->set_dns_names(true);
  entryv1::BatchUpdateEntryResponse updated;
  SIGNET_ASSERT_OK(kit.Call(admin, &entryv1::Entry::Stub::BatchUpdateEntry, update, updated));
  EXPECT_EQ(updated.results(0).status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));

  svidv1::BatchNewX509SVIDRequest request;
  svidv1::NewX509SVIDParams& params = *request.add_params();
  params.set_entry_id(created.results(0).entry().id());
  const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kRsa4096).value();
  params.set_csr(crypto::CertificateRequest::Create(key, {}).value());
  svidv1::BatchNewX509SVIDResponse response;
  SIGNET_ASSERT_OK(
      kit.Call(svidv1::SVID::NewStub(kit.Tls(agent)), &svidv1::SVID::Stub::BatchNewX509SVID, request, response));
  EXPECT_EQ(response.results(0).status().code(), 0) << response.results(0).status().message();
}

// SPIRE's way of syncing: over 500 entries come as revisions in pages, and whole on demand.
TEST_F(ServerTest, SyncsLargeSetsByRevisions) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid agent, kit_.Attest(kit_.NewToken()));
  auto admin = entryv1::Entry::NewStub(kit_.admin());
  entryv1::BatchCreateEntryRequest create;
  for (int i = 0; i < 1203; ++i) {
    types::Entry& entry = *create.add_entries();
    *entry.mutable_spiffe_id() = kit_.WireId("/app-" + std::to_string(i));
    spiffe::ToWire(agent.id, entry.mutable_parent_id());
    entry.add_selectors()->set_type("unix");
    entry.mutable_selectors(0)->set_value("uid:1");
  }
  entryv1::BatchCreateEntryResponse created;
  SIGNET_ASSERT_OK(kit_.Call(admin, &entryv1::Entry::Stub::BatchCreateEntry, create, created));
  auto stub = entryv1::Entry::NewStub(kit_.Tls(agent));
  entryv1::GetAuthorizedEntriesResponse all;
  Soon([&] {
    EXPECT_THAT(
        kit_.Call(stub, &entryv1::Entry::Stub::GetAuthorizedEntries, entryv1::GetAuthorizedEntriesRequest(), all),
        IsOk());
    return all.entries_size() == 1203;
  });

  grpc::ClientContext context;
  auto stream = stub->SyncAuthorizedEntries(&context);
  entryv1::SyncAuthorizedEntriesRequest request;
  request.mutable_output_mask()->set_spiffe_id(true);
  request.mutable_output_mask()->set_revision_number(true);
  ASSERT_TRUE(stream->Write(request));
  std::vector<std::string> ids;
  std::vector<int> pages;
  entryv1::SyncAuthorizedEntriesResponse page;
  do {
    ASSERT_TRUE(stream->Read(&page));
    pages.push_back(page.entry_revisions_size());
    for (const auto& revision : page.entry_revisions()) {
      EXPECT_GT(revision.created_at(), 0);
      ids.push_back(revision.id());
    }
  } while (page.more());
  EXPECT_THAT(pages, ::testing::ElementsAre(500, 500, 203));
  request.Clear();
  for (int i = 0; i < 600; ++i) request.add_ids(ids[static_cast<size_t>(i)]);
  request.add_ids("unknown");
  ASSERT_TRUE(stream->Write(request));
  pages.clear();
  do {
    ASSERT_TRUE(stream->Read(&page));
    pages.push_back(page.entries_size());
  } while (page.more());
  EXPECT_THAT(pages, ::testing::ElementsAre(500, 100));
  EXPECT_FALSE(page.entries(0).has_parent_id());  // the mask of the first message holds
  stream->WritesDone();
  EXPECT_FALSE(stream->Read(&page));
  EXPECT_THAT(FromGrpc(stream->Finish()), IsOk());
}

TEST_F(ServerTest, MintsForOperatorsWhatTheCsrSaysAndNothingElse) {
  auto stub = svidv1::SVID::NewStub(kit_.admin());
  const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const auto mint = [&](std::vector<std::string> ids, std::vector<std::string> dns = {}) {
    svidv1::MintX509SVIDRequest request;
    request.set_csr(crypto::CertificateRequest::Create(key, std::move(ids), std::move(dns)).value());
    svidv1::MintX509SVIDResponse response;
    return kit_.Call(stub, &svidv1::SVID::Stub::MintX509SVID, request, response);
  };
  EXPECT_THAT(mint({"spiffe://example.org/db"}, {"db.example.org"}), IsOk());
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(mint({}), StatusIs(kInvalid));
  EXPECT_THAT(mint({"spiffe://example.org/a", "spiffe://example.org/b"}), StatusIs(kInvalid));
  EXPECT_THAT(mint({"spiffe://partner.org/a"}), StatusIs(kInvalid));
  EXPECT_THAT(mint({"spiffe://example.org"}), StatusIs(kInvalid));
  EXPECT_THAT(mint({"spiffe://example.org/spire/server"}), StatusIs(kInvalid));
  EXPECT_THAT(mint({"spiffe://example.org/a/../b"}), StatusIs(kInvalid));
  EXPECT_THAT(mint({"spiffe://example.org/a"}, {"not a name"}), StatusIs(kInvalid));

  svidv1::MintJWTSVIDRequest jwt;
  *jwt.mutable_id() = kit_.WireId("/db");
  jwt.add_audience("x");
  svidv1::MintJWTSVIDResponse token;
  EXPECT_THAT(kit_.Call(stub, &svidv1::SVID::Stub::MintJWTSVID, jwt, token), IsOk());
  jwt.set_ttl(-1);
  EXPECT_THAT(kit_.Call(stub, &svidv1::SVID::Stub::MintJWTSVID, jwt, token), StatusIs(kInvalid));
}

TEST_F(ServerTest, AdminBySvidOfAnEntryWithTheFlag) {
  const spiffe::Id parent = spiffe::Id::Parse("spiffe://example.org/spire/agent/join_token/x").value();
  kit_.CreateEntry("/ops", parent, [](types::Entry& entry) { entry.set_admin(true); });
  const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  svidv1::MintX509SVIDRequest request;
  request.set_csr(crypto::CertificateRequest::Create(key, {"spiffe://example.org/ops"}).value());
  svidv1::MintX509SVIDResponse response;
  SIGNET_ASSERT_OK(
      kit_.Call(svidv1::SVID::NewStub(kit_.admin()), &svidv1::SVID::Stub::MintX509SVID, request, response));
  const auto channel = kit_.Tls(kit_.SvidOf(response.svid(), key).value());
  agentv1::ListAgentsResponse agents;
  EXPECT_THAT(kit_.Call(agentv1::Agent::NewStub(channel), &agentv1::Agent::Stub::ListAgents,
                        agentv1::ListAgentsRequest(), agents),
              IsOk());
  EXPECT_THAT(CallEmpty(channel, "/spire.api.server.logger.v1.Logger/GetLogger"),
              StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(ServerTest, KeepsEverythingOverARestart) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid agent, kit_.Attest(kit_.NewToken()));
  const types::Entry entry = kit_.CreateEntry("/app", agent.id);
  const std::string before = kit_.Bundle().Revision();
  kit_.Stop();
  kit_.Start();
  EXPECT_EQ(kit_.Bundle().Revision(), before);  // the same authorities
  entryv1::GetAuthorizedEntriesResponse out;
  SIGNET_ASSERT_OK(kit_.Call(entryv1::Entry::NewStub(kit_.Tls(agent)), &entryv1::Entry::Stub::GetAuthorizedEntries,
                             entryv1::GetAuthorizedEntriesRequest(), out));
  ASSERT_EQ(out.entries_size(), 1);
  EXPECT_EQ(out.entries(0).id(), entry.id());
}

TEST_F(ServerTest, SecondServerOnTheSameFolderIsRefused) {
  config::Server config;
  config.set_trust_domain("example.org");
  config.set_data_dir(kit_.data_dir());
  config.set_listen("127.0.0.1:0");
  config.mutable_http()->set_listen("off");
  EXPECT_THAT(Server::Create(OptionsFromConfig(config).value()),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(kit_.data_dir())));
}

// The server's own certificate is replaced under way: new connections see the new one, an open stream goes on.
TEST(ServerRotationTest, CertificateRotatesWithoutDroppingStreams) {
  fakes::FakeClock clock(absl::Now());
  config::Server config;
  config.mutable_svid()->set_agent_ttl("3h");  // outlives the server's own SVID
  ServerKit kit(config, &clock);
  const auto expires_at = [&] {
    debugv1::GetInfoResponse info;
    EXPECT_THAT(ServerKit::Call(debugv1::Debug::NewStub(kit.admin()), &debugv1::Debug::Stub::GetInfo,
                                debugv1::GetInfoRequest(), info),
                IsOk());
    return info.svid_chain(0).expires_at();
  };
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid agent, kit.Attest(kit.NewToken()));
  auto entries = entryv1::Entry::NewStub(kit.Tls(agent));
  grpc::ClientContext context;
  auto stream = entries->SyncAuthorizedEntries(&context);
  const int64_t before = expires_at();
  // The stream is open when the certificate changes: the server has seen its call once this returns.
  entryv1::GetAuthorizedEntriesResponse out;
  SIGNET_ASSERT_OK(ServerKit::Call(entries, &entryv1::Entry::Stub::GetAuthorizedEntries,
                                   entryv1::GetAuthorizedEntriesRequest(), out));
  const absl::Time half_life = clock.Now() + absl::Minutes(35);
  Soon([&] {
    if (clock.Now() < half_life) clock.Advance(absl::Seconds(30));
    return expires_at() > before;
  });
  entryv1::GetAuthorizedEntriesResponse again;
  EXPECT_THAT(ServerKit::Call(entryv1::Entry::NewStub(kit.Tls(agent)), &entryv1::Entry::Stub::GetAuthorizedEntries,
                              entryv1::GetAuthorizedEntriesRequest(), again),
              IsOk());
  entryv1::SyncAuthorizedEntriesResponse response;
  ASSERT_TRUE(stream->Write(entryv1::SyncAuthorizedEntriesRequest()));
  EXPECT_TRUE(stream->Read(&response));
  EXPECT_THAT(FromGrpc(stream->Finish()), IsOk());
}

TEST(ServerReloadTest, AnAttestationUnderWayFinishesWithTheAttestorItBeganWith) {
  const testing::TempDir files;
  const testing::TestCert root = testing::SelfSigned(testing::CaTemplate("root", absl::Now()));
  const testing::TestCert node = testing::IssuedBy(root, testing::LeafTemplate("spiffe://x/y", absl::Now()));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(files.file("roots.pem"), root.certificate.Pem()));
  config::Server base;
  base.mutable_node_attestors()->mutable_x509_pop()->add_ca_bundle_paths(files.file("roots.pem"));
  ServerKit kit(base);

  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  agentv1::AttestAgentRequest evidence, answer;
  evidence.mutable_params()->mutable_data()->set_type("x509pop");
  evidence.mutable_params()->mutable_data()->set_payload(x509pop::EncodeEvidence({&node.certificate, 1}));
  evidence.mutable_params()->mutable_params()->set_csr(crypto::CertificateRequest::Create(key, {}).value());
  const auto stub = agentv1::Agent::NewStub(kit.Tls());
  const absl::Time end = absl::Now() + absl::Seconds(20);
  agentv1::AttestAgentResponse response;
  const auto begin = [&](grpc::ClientContext& context) {
    context.set_deadline(absl::ToChronoTime(end));
    auto stream = stub->AttestAgent(&context);
    stream->Write(evidence);
    return stream;
  };
  grpc::ClientContext running;
  const auto stream = begin(running);
  ASSERT_TRUE(stream->Read(&response)) << stream->Finish().error_message();

  // A file that is none changes nothing ...
  config::Server wanted = kit.config();
  wanted.mutable_node_attestors()->mutable_x509_pop()->set_ca_bundle_paths(0, files.file("gone.pem"));
  wanted.mutable_node_attestors()->mutable_join_token();
  EXPECT_THAT(kit.server().Reload(OptionsFromConfig(wanted).value()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("gone.pem")));
  EXPECT_THAT(kit.Attest(kit.NewToken()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("join_token")));
  // ... and what is good is in force for whoever comes.
  wanted.mutable_node_attestors()->clear_x509_pop();
  SIGNET_ASSERT_OK(kit.server().Reload(OptionsFromConfig(wanted).value()));
  SIGNET_EXPECT_OK(kit.Attest(kit.NewToken()));
  grpc::ClientContext late;
  const auto refused = begin(late);
  agentv1::AttestAgentResponse none;
  EXPECT_FALSE(refused->Read(&none));
  EXPECT_THAT(FromGrpc(refused->Finish()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("x509pop")));

  answer.set_challenge_response(x509pop::Respond(node.key, response.challenge()).value());
  stream->Write(answer);
  EXPECT_TRUE(stream->Read(&response));
  EXPECT_TRUE(response.has_result());
  SIGNET_EXPECT_OK(FromGrpc(stream->Finish()));
}

// Both of Kubernetes, over the wire: a node is attested and the bundle written as soon as a reload names the cluster.
TEST(ServerReloadTest, AClusterIsTakenUpAndLetGo) {
  std::promise<std::string> published;
  std::atomic<int> patches{0};
  const fakes::FakeApiServer cluster([&](const fakes::FakeApiServer::Request& request) -> fakes::FakeApiServer::Answer {
    EXPECT_EQ(request.headers.at("authorization"), "Bearer server-token");
    if (request.method == "PATCH") {
      if (patches++ == 0) published.set_value(request.body);
      return {.body = "{}"};
    }
    if (request.path == "/apis/authentication.k8s.io/v1/tokenreviews") {
      return {.status = 201, .body = R"({"status":{"authenticated":true,"audiences":["spire-server"],"user":{
        "username":"system:serviceaccount:signet:agent","extra":{"authentication.kubernetes.io/pod-name":["p"],
        "authentication.kubernetes.io/pod-uid":["pu"]}}}})"};
    }
    if (request.path == "/api/v1/namespaces/signet/pods/p") {
      return {.body = R"({"metadata":{"namespace":"signet","name":"p","uid":"pu"},"spec":{"nodeName":"n",
        "serviceAccountName":"agent"},"status":{"phase":"Running"}})"};
    }
    return {.body = R"({"metadata":{"name":"n","uid":"nu"}})"};
  });
  const testing::TempDir files;
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(files.file("config"), cluster.KubeConfig("{token: server-token}")));
  ServerKit kit{config::Server()};
  config::Server wanted = kit.config();
  config::ServerK8sCluster& nodes = (*wanted.mutable_node_attestors()->mutable_k8s_psat()->mutable_clusters())["prod"];
  nodes.add_service_account_allow_list("signet:agent");
  nodes.set_kube_config_file(files.file("config"));
  (*wanted.mutable_bundle_publishers()->mutable_k8s_configmap()->mutable_clusters())["prod"].set_kube_config_file(
      files.file("missing"));
  EXPECT_THAT(kit.server().Reload(OptionsFromConfig(wanted).value()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("clusters.prod.kube_config_file")));
  (*wanted.mutable_bundle_publishers()->mutable_k8s_configmap()->mutable_clusters())["prod"].set_kube_config_file(
      files.file("config"));
  SIGNET_ASSERT_OK(kit.server().Reload(OptionsFromConfig(wanted).value()));
  EXPECT_THAT(published.get_future().get(), HasSubstr("BEGIN CERTIFICATE"));

  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  agentv1::AttestAgentRequest evidence;
  evidence.mutable_params()->mutable_data()->set_type("k8s_psat");
  evidence.mutable_params()->mutable_data()->set_payload(k8spsat::Encode({"prod", "agent-token"}));
  evidence.mutable_params()->mutable_params()->set_csr(crypto::CertificateRequest::Create(key, {}).value());
  const auto stub = agentv1::Agent::NewStub(kit.Tls());
  const auto attest = [&](agentv1::AttestAgentResponse& response) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
    const auto stream = stub->AttestAgent(&context);
    stream->Write(evidence);
    stream->Read(&response);
    return FromGrpc(stream->Finish());
  };
  for (int again = 0; again < 2; ++again) {
    agentv1::AttestAgentResponse response;
    SIGNET_ASSERT_OK(attest(response));
    EXPECT_EQ(response.result().svid().id().path(), "/spire/agent/k8s_psat/prod/nu");
    EXPECT_TRUE(response.result().reattestable());
  }
  SIGNET_ASSERT_OK(kit.server().Reload(OptionsFromConfig(kit.config()).value()));
  agentv1::AttestAgentResponse none;
  EXPECT_THAT(attest(none), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("k8s_psat")));
}

TEST_F(ServerTest, ShutdownEndsOpenStreams) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::X509Svid agent, kit_.Attest(kit_.NewToken()));
  auto stub = entryv1::Entry::NewStub(kit_.Tls(agent));
  grpc::ClientContext context;
  auto stream = stub->SyncAuthorizedEntries(&context);
  entryv1::SyncAuthorizedEntriesRequest request;
  ASSERT_TRUE(stream->Write(request));
  const absl::Time start = absl::Now();
  kit_.server().Shutdown(absl::Seconds(10));
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

}  // namespace
}  // namespace signet::server
