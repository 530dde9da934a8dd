// The agent's calls over real TLS, against small servers that behave and misbehave.
#include "agent/sync/server_client.h"

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "common/concurrency/latest_value.h"
#include "common/crypto/csr.h"
#include "common/rpc/server_credentials.h"
#include "common/spiffe/wire.h"
#include "common/status/grpc_status.h"
#include "signet/server/v1/agent_sync.grpc.pb.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "spire/api/server/bundle/v1/bundle.grpc.pb.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"
#include "spire/api/server/svid/v1/svid.grpc.pb.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using testing::StatusIs;
namespace agent_v1 = spire::api::server::agent::v1;
namespace bundle_v1 = spire::api::server::bundle::v1;
namespace entry_v1 = spire::api::server::entry::v1;
namespace sync_v1 = signet::server::v1;
namespace svid_v1 = spire::api::server::svid::v1;

// What a test wants of the server.
struct Script {
  TestAuthority authority{absl::Now()};
  std::vector<std::string> challenges;
  absl::Status refusal;  // of every call that needs an identity
  std::vector<spiffe::Entry> entries;
  bool endless_challenges = false;
  int results_too_few = 0;
};

class FakeAgentService final : public agent_v1::Agent::Service {
 public:
  explicit FakeAgentService(Script& script) : script_(script) {}
  grpc::Status AttestAgent(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<agent_v1::AttestAgentResponse, agent_v1::AttestAgentRequest>* stream) override {
    agent_v1::AttestAgentRequest request;
    stream->Read(&request);
    const std::string csr = request.params().params().csr();
    answers.push_back(request.params().data().payload());
    for (size_t i = 0; i < script_.challenges.size() || script_.endless_challenges; ++i) {
      agent_v1::AttestAgentResponse challenge;
      challenge.set_challenge(script_.endless_challenges ? "again" : script_.challenges[i]);
      stream->Write(challenge);
      if (!stream->Read(&request)) return grpc::Status::CANCELLED;
      answers.push_back(request.challenge_response());
    }
    agent_v1::AttestAgentResponse response;
    Fill(*response.mutable_result()->mutable_svid(), csr);
    response.mutable_result()->set_reattestable(true);
    stream->Write(response);
    return grpc::Status::OK;
  }
  grpc::Status RenewAgent(grpc::ServerContext* context, const agent_v1::RenewAgentRequest* request,
                          agent_v1::RenewAgentResponse* response) override {
    if (!script_.refusal.ok()) return ToGrpc(script_.refusal);
    client_chain = !context->auth_context()->FindPropertyValues("x509_pem_cert").empty();
    Fill(*response->mutable_svid(), request->params().csr());
    return grpc::Status::OK;
  }
  std::vector<std::string> answers;
  bool client_chain = false;

 private:
  void Fill(spire::api::types::X509SVID& svid, const std::string& csr) {
    const auto chain = script_.authority.Sign(crypto::CertificateRequest::ParseAndVerify(csr)->public_key(),
                                              IdOf("/spire/agent/test/node"), absl::Now());
    for (const crypto::Certificate& certificate : chain) svid.add_cert_chain(certificate.der());
  }
  Script& script_;
};

class FakeBundleService final : public bundle_v1::Bundle::Service {
 public:
  explicit FakeBundleService(Script& script) : script_(script) {}
  grpc::Status GetBundle(grpc::ServerContext*, const bundle_v1::GetBundleRequest*,
                         spire::api::types::Bundle* out) override {
    spiffe::ToWire(script_.authority.bundle(), out);
    return grpc::Status::OK;
  }

 private:
  Script& script_;
};

class FakeSvidService final : public svid_v1::SVID::Service {
 public:
  explicit FakeSvidService(Script& script) : script_(script) {}
  grpc::Status BatchNewX509SVID(grpc::ServerContext*, const svid_v1::BatchNewX509SVIDRequest* request,
                                svid_v1::BatchNewX509SVIDResponse* response) override {
    if (!script_.refusal.ok()) return ToGrpc(script_.refusal);
    for (int i = 0; i < request->params_size() - script_.results_too_few; ++i) {
      auto& result = *response->add_results();
      if (request->params(i).entry_id() == "unknown") {
        result.mutable_status()->set_code(5);
        result.mutable_status()->set_message("no such entry");
        continue;
      }
      const auto csr = crypto::CertificateRequest::ParseAndVerify(request->params(i).csr());
      for (const auto& certificate : script_.authority.Sign(csr->public_key(), IdOf("/w"), absl::Now())) {
        result.mutable_svid()->add_cert_chain(certificate.der());
      }
    }
    return grpc::Status::OK;
  }

 private:
  Script& script_;
};

// SPIRE's protocol: revisions first, in pages; then what was asked for, in pages.
class FakeEntryService final : public entry_v1::Entry::Service {
 public:
  explicit FakeEntryService(Script& script) : script_(script) {}
  grpc::Status SyncAuthorizedEntries(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<entry_v1::SyncAuthorizedEntriesResponse, entry_v1::SyncAuthorizedEntriesRequest>* stream)
      override {
    entry_v1::SyncAuthorizedEntriesRequest request;
    stream->Read(&request);
    constexpr size_t kPage = 7;
    for (size_t i = 0; i < script_.entries.size(); i += kPage) {
      entry_v1::SyncAuthorizedEntriesResponse response;
      for (size_t j = i; j < std::min(i + kPage, script_.entries.size()); ++j) {
        auto& revision = *response.add_entry_revisions();
        revision.set_id(script_.entries[j].id);
        revision.set_revision_number(script_.entries[j].revision);
        revision.set_created_at(absl::ToUnixSeconds(script_.entries[j].created_at));
      }
      response.set_more(i + kPage < script_.entries.size());
      stream->Write(response);
    }
    while (stream->Read(&request)) {
      for (int i = 0; i < request.ids_size(); ++i) {
        asked.push_back(request.ids(i));
        entry_v1::SyncAuthorizedEntriesResponse response;
        for (const spiffe::Entry& entry : script_.entries) {
          if (entry.id == request.ids(i)) spiffe::ToWire(entry, response.add_entries());
        }
        response.set_more(i + 1 < request.ids_size());
        stream->Write(response);
      }
    }
    return grpc::Status::OK;
  }
  std::vector<std::string> asked;

 private:
  Script& script_;
};

class FakeSyncService final : public sync_v1::AgentSync::Service {
 public:
  grpc::Status Sync(grpc::ServerContext*,
                    grpc::ServerReaderWriter<sync_v1::ServerMessage, sync_v1::AgentMessage>* stream) override {
    sync_v1::AgentMessage message;
    stream->Read(&message);
    hello = message.hello();
    sync_v1::ServerMessage delta;
    delta.set_seq(1);
    spiffe::ToWire(EntryOf("good", {"a:b"}), delta.mutable_delta()->add_upserts());
    delta.mutable_delta()->add_upserts()->set_id("broken");  // no SPIFFE ID
    stream->Write(delta);
    sync_v1::ServerMessage complete;
    complete.set_seq(2);
    complete.mutable_complete()->set_epoch("e1");
    stream->Write(complete);
    while (stream->Read(&message)) {
      std::lock_guard lock(mutex);
      received.push_back(message);
      changed.notify_all();
      if (message.has_ack()) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "rolling");
    }
    return grpc::Status::OK;
  }
  sync_v1::Hello hello;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<sync_v1::AgentMessage> received;
};

class Evidence final : public NodeAttestor {
 public:
  absl::string_view type() const override { return "test"; }
  absl::StatusOr<std::string> Payload() override { return "evidence"; }
  absl::StatusOr<std::string> Respond(absl::string_view challenge) override {
    if (challenge == "impossible") return absl::FailedPreconditionError("cannot");
    return absl::StrCat("re:", challenge);
  }
};

class ServerClientTest : public ::testing::Test {
 protected:
  ServerClientTest() {
    crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
    const auto chain = script_.authority.Sign(key.public_key(), spiffe::ServerId(Td()), absl::Now());
    identity_.Set({key.Pkcs8Pem(), chain[0].Pem(), script_.authority.bundle().ToPem()});
    bundle_ = std::make_shared<const spiffe::Bundle>(script_.authority.bundle());
  }
  ~ServerClientTest() override {
    client_.reset();
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }
  void Serve(bool with_sync = false) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", rpc::MakeRotatingServerCredentials(identity_), &port_);
    builder.RegisterService(&agent_);
    builder.RegisterService(&bundles_);
    builder.RegisterService(&svids_);
    builder.RegisterService(&entries_);
    if (with_sync) builder.RegisterService(&sync_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }
  ServerClient& Client(std::vector<std::string> addresses = {}) {
    if (addresses.empty()) addresses = {absl::StrCat("127.0.0.1:", port_)};
    client_ = ServerClient::Create({.addresses = std::move(addresses), .trust_domain = Td(), .version = "0.0-test"},
                                   {[this] { return svid_; }, [this] { return bundle_; }, insecure_}, clock_);
    return *client_;
  }
  std::string Csr() { return crypto::CertificateRequest::Create(key_, {}).value(); }
  void GiveIdentity() {
    svid_ = std::make_shared<const spiffe::X509Svid>(
        spiffe::X509Svid::Create(script_.authority.Sign(key_.public_key(), IdOf("/spire/agent/test/node"), absl::Now()),
                                 key_)
            .value());
  }

  Script script_;
  SystemClock clock_;
  LatestValue<rpc::ServerIdentity> identity_;
  FakeAgentService agent_{script_};
  FakeBundleService bundles_{script_};
  FakeSvidService svids_{script_};
  FakeEntryService entries_{script_};
  FakeSyncService sync_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  const crypto::PrivateKey key_ = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  std::shared_ptr<const spiffe::X509Svid> svid_;
  std::shared_ptr<const spiffe::Bundle> bundle_;
  bool insecure_ = false;
  std::unique_ptr<ServerClient> client_;
};

TEST_F(ServerClientTest, AttestsThroughChallenges) {
  script_.challenges = {"one", "two"};
  Serve();
  Evidence evidence;
  SIGNET_ASSERT_OK_AND_ASSIGN(const Attested attested, Client().Attest(evidence, Csr()));
  EXPECT_THAT(agent_.answers, ElementsAre("evidence", "re:one", "re:two"));
  EXPECT_TRUE(attested.reattestable);
  EXPECT_EQ(*spiffe::IdFromLeaf(attested.chain[0]), IdOf("/spire/agent/test/node"));
}

TEST_F(ServerClientTest, ChallengesHaveAnEnd) {
  script_.endless_challenges = true;
  Serve();
  Evidence evidence;
  EXPECT_THAT(Client().Attest(evidence, Csr()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("too many")));
}

TEST_F(ServerClientTest, AChallengeThatCannotBeAnsweredEndsTheCall) {
  script_.challenges = {"impossible"};
  Serve();
  Evidence evidence;
  EXPECT_THAT(Client().Attest(evidence, Csr()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cannot")));
}

TEST_F(ServerClientTest, EvidenceIsNotShownToAServerThatIsNotTrusted) {
  Serve();
  bundle_ = std::make_shared<const spiffe::Bundle>(TestAuthority(absl::Now()).bundle());
  Evidence evidence;
  EXPECT_THAT(Client().Attest(evidence, Csr()), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_TRUE(agent_.answers.empty());
}

TEST_F(ServerClientTest, InsecureHoldsOnlyUntilThereIsABundle) {
  Serve();
  insecure_ = true;
  bundle_ = nullptr;
  SIGNET_EXPECT_OK(Client().GetBundle().status());
  bundle_ = std::make_shared<const spiffe::Bundle>(TestAuthority(absl::Now()).bundle());
  client_->Reconnect();
  EXPECT_THAT(client_->GetBundle(), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(ServerClientTest, ShowsItsIdentityAndReadsARefusal) {
  Serve();
  GiveIdentity();
  SIGNET_EXPECT_OK(Client().Renew(Csr()).status());
  EXPECT_TRUE(agent_.client_chain);
  for (const Refusal refusal :
       {Refusal::kBanned, Refusal::kNotAttested, Refusal::kExpired, Refusal::kNotActive, Refusal::kMustReattest}) {
    script_.refusal = RefusalStatus(refusal, "no");
    EXPECT_EQ(RefusalOf(client_->Renew(Csr()).status()), refusal);
  }
  script_.refusal = absl::PermissionDeniedError("no");
  EXPECT_EQ(RefusalOf(client_->Renew(Csr()).status()), Refusal::kNone);
}

TEST_F(ServerClientTest, EachItemOfABatchHasItsOwnStatus) {
  Serve();
  GiveIdentity();
  const auto chains = Client().NewX509Svids({{"a", Csr()}, {"unknown", Csr()}, {"b", Csr()}});
  SIGNET_ASSERT_OK(chains.status());
  ASSERT_THAT(*chains, SizeIs(3));
  SIGNET_EXPECT_OK((*chains)[0].status());
  EXPECT_THAT((*chains)[1], StatusIs(absl::StatusCode::kNotFound, "no such entry"));
  SIGNET_EXPECT_OK((*chains)[2].status());
  script_.results_too_few = 1;
  EXPECT_THAT(client_->NewX509Svids({{"a", Csr()}, {"b", Csr()}}),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("1 results for 2")));
}

TEST_F(ServerClientTest, SparseSyncAsksOnlyForWhatItLacks) {
  for (int i = 0; i < 30; ++i) script_.entries.push_back(EntryOf(absl::StrCat("e", i), {"a:b"}));
  Serve();
  GiveIdentity();
  std::vector<std::shared_ptr<const spiffe::Entry>> held;
  for (int i = 0; i < 28; ++i) held.push_back(std::make_shared<const spiffe::Entry>(script_.entries[i]));
  spiffe::Entry stale = script_.entries[28];
  stale.revision = 7;
  held.push_back(std::make_shared<const spiffe::Entry>(stale));
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::vector<spiffe::Entry> entries, Client().AuthorizedEntries(held));
  EXPECT_THAT(entries, SizeIs(30));
  EXPECT_THAT(entries_.asked, ElementsAre("e28", "e29"));
}

// What a stream calls on_event for. Await() holds no lock while it looks at the stream.
class Events {
 public:
  void Add() {
    std::lock_guard lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  // The first value of look(), which is asked again after each event.
  template <typename Look>
  auto Await(Look look) {
    for (;;) {
      const int seen = count();
      if (auto found = look()) return *std::move(found);
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return count_ != seen; });
    }
  }

 private:
  int count() {
    std::lock_guard lock(mutex_);
    return count_;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

TEST_F(ServerClientTest, StreamSpeaksAgentSync) {
  Serve(/*with_sync=*/true);
  GiveIdentity();
  Events events;
  std::unique_ptr<SyncStream> stream = Client().OpenSync(
      {.epoch = "e0", .digest = "d", .bundle_revisions = {{"example.org", "5"}}}, [&] { events.Add(); });
  const auto next = [&] { return events.Await([&] { return stream->Next(); }); };
  const SyncMessage delta = next();
  ASSERT_THAT(delta.upserts, SizeIs(1));
  EXPECT_EQ(delta.upserts[0].id, "good");
  EXPECT_THAT(delta.removed_ids, ElementsAre("broken"));
  const SyncMessage complete = next();
  EXPECT_EQ(complete.kind, SyncMessage::Kind::kComplete);
  EXPECT_EQ(complete.epoch, "e1");
  EXPECT_EQ(sync_.hello.bundle_revisions().at("example.org"), "5");
  EXPECT_EQ(sync_.hello.agent_version(), "0.0-test");

  std::vector<std::string> many;
  for (int i = 0; i < 1100; ++i) many.push_back(absl::StrCat(i));
  EXPECT_TRUE(stream->Want(many));
  EXPECT_TRUE(stream->Ack(2, {{"abcd", 3}}));
  EXPECT_THAT(events.Await([&] { return stream->end(); }), StatusIs(absl::StatusCode::kUnavailable, "rolling"));
  EXPECT_FALSE(stream->Ack(3, {}));
  ASSERT_THAT(sync_.received, SizeIs(4));
  EXPECT_EQ(sync_.received[0].want().entry_ids_size(), 500);
  EXPECT_FALSE(sync_.received[1].want().last());
  EXPECT_TRUE(sync_.received[2].want().last());
  EXPECT_EQ(sync_.received[3].ack().svids_by_authority().at("abcd"), 3u);
}

TEST_F(ServerClientTest, ServerWithoutAgentSyncIsUnimplemented) {
  Serve();
  GiveIdentity();
  Events events;
  auto stream = Client().OpenSync({}, [&] { events.Add(); });
  EXPECT_THAT(events.Await([&] { return stream->end(); }), StatusIs(absl::StatusCode::kUnimplemented));
}

TEST_F(ServerClientTest, MovesOnToTheNextAddress) {
  Serve();
  GiveIdentity();
  ServerClient& client = Client({"127.0.0.1:1", absl::StrCat("127.0.0.1:", port_)});
  EXPECT_THAT(client.Renew(Csr()), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(client.MoveOn());
  SIGNET_EXPECT_OK(client.Renew(Csr()).status());
  EXPECT_TRUE(client.MoveOn());  // all have been tried
}

TEST_F(ServerClientTest, AServerOfAnotherTrustDomainIsRefused) {
  Serve();
  client_ = ServerClient::Create(
      {.addresses = {absl::StrCat("127.0.0.1:", port_)}, .trust_domain = Td("other.org"), .version = ""},
      {[this] { return svid_; }, [this] { return bundle_; }, false}, clock_);
  EXPECT_THAT(client_->GetBundle(), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(ServerClientTest, AfterShutdownNothingIsCalled) {
  Serve();
  GiveIdentity();
  ServerClient& client = Client();
  client.Shutdown();
  EXPECT_THAT(client.Renew(Csr()), StatusIs(absl::StatusCode::kCancelled));
  bool done = false;
  client.NewJwt("a", {"x"}, [&](absl::StatusOr<MintedJwt> minted) {
    EXPECT_THAT(minted, StatusIs(absl::StatusCode::kCancelled));
    done = true;
  });
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace signet::agent
