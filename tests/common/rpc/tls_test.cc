// Server and client TLS of common/rpc against each other, and against plain OpenSSL.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/rpc/client_channel.h"
#include "common/rpc/health_service.h"
#include "common/rpc/server_credentials.h"
#include "common/rpc/tls_peer.h"
#include "common/rpc/tls_setup.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/x509_svid.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::rpc {
namespace {

using crypto::Certificate;
using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckResponse;
using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IssuedBy;
using testing::LeafTemplate;
using testing::SelfSigned;
using testing::TestCert;

constexpr char kServerId[] = "spiffe://example.org/spire/server";
constexpr char kAgentId[] = "spiffe://example.org/spire/agent/x/1";

spiffe::Id Id(absl::string_view text) { return spiffe::Id::Parse(text).value(); }

// A root, an intermediate under it, and what they issue.
struct Authority {
  explicit Authority(absl::Time now)
      : root(SelfSigned(testing::CaTemplate("root", now))),
        intermediate(IssuedBy(root, testing::CaTemplate("intermediate", now))) {}

  spiffe::X509Svid Issue(absl::string_view id, absl::Time now) const {
    TestCert leaf = IssuedBy(intermediate, LeafTemplate(id, now));
    return spiffe::X509Svid{Id(id), {leaf.certificate, intermediate.certificate}, leaf.key};
  }
  ServerIdentity ServerIdentityOf(const spiffe::X509Svid& svid) const {
    return {svid.key.Pkcs8Pem(), svid.ChainPem(), root.certificate.Pem()};
  }
  std::shared_ptr<const spiffe::Bundle> Bundle() const {
    auto bundle = std::make_shared<spiffe::Bundle>(spiffe::Bundle{spiffe::TrustDomain::Parse("example.org").value()});
    bundle->x509_authorities.push_back({root.certificate});
    return bundle;
  }
  TestCert root, intermediate;
};

class TlsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { PrepareProcess(); }

  TlsTest() : first_(clock_.Now()), second_(clock_.Now()) {
    identity_.Set(first_.ServerIdentityOf(first_.Issue(kServerId, clock_.Now())));
    service_ = MakeHealthService(
        health_, {}, [this](const grpc::CallbackServerContext& context) { return on_call_(*context.auth_context()); });
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", MakeRotatingServerCredentials(identity_), &port_);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
  }
  ~TlsTest() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::shared_ptr<grpc::Channel> Channel(const Authority& trusted, absl::string_view server_id = kServerId,
                                         std::optional<spiffe::X509Svid> identity = std::nullopt,
                                         bool insecure = false) {
    ClientTls tls{Id(server_id), std::move(identity), [bundle = trusted.Bundle()] { return bundle; }, insecure};
    return MakeTlsChannel(absl::StrCat("127.0.0.1:", port_), std::move(tls), clock_);
  }
  static absl::Status Call(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    HealthCheckResponse response;
    return FromTlsCall(Health::NewStub(channel)->Check(&context, {}, &response));
  }

  fakes::FakeClock clock_;
  Authority first_, second_;
  LatestValue<ServerIdentity> identity_;
  telemetry::Health health_;
  std::function<absl::Status(const grpc::AuthContext&)> on_call_ = [](const grpc::AuthContext&) {
    return absl::OkStatus();
  };
  std::unique_ptr<grpc::Service> service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(TlsTest, ANewCertificateIsLiveOnTheNextConnectionAndOldStreamsGoOn) {
  const auto stub = Health::NewStub(Channel(first_));
  grpc::ClientContext context;
  const auto stream = stub->Watch(&context, {});
  HealthCheckResponse response;
  ASSERT_TRUE(stream->Read(&response));

  EXPECT_THAT(Call(Channel(second_)), StatusIs(absl::StatusCode::kUnauthenticated));
  identity_.Set(second_.ServerIdentityOf(second_.Issue(kServerId, clock_.Now())));
  EXPECT_THAT(Call(Channel(second_)), IsOk());
  EXPECT_THAT(Call(Channel(first_)), StatusIs(absl::StatusCode::kUnauthenticated));

  health_.SetUnready("x", "tell the old stream");
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
}

TEST_F(TlsTest, AClientReadsNoRootsOfTheSystem) {  // P18: 10 ms at each start, for what nobody asks
  const int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (inotify_add_watch(watch, "/etc/ssl/certs/ca-certificates.crt", IN_OPEN) < 0) {
    close(watch);
    GTEST_SKIP() << "NOT RUN: this system has no /etc/ssl/certs/ca-certificates.crt";
  }
  EXPECT_THAT(Call(Channel(first_)), IsOk());
  inotify_event event;
  EXPECT_LT(read(watch, &event, sizeof event), 0) << "it was opened";  // first in its process, as ctest runs it
  close(watch);
}

TEST_F(TlsTest, ABadCertificateLeavesTheOldOneInUse) {
  identity_.Set({"no key", "no certificate", "no roots"});
  EXPECT_THAT(Call(Channel(first_)), IsOk());
  identity_.Set(second_.ServerIdentityOf(second_.Issue(kServerId, clock_.Now())));
  EXPECT_THAT(Call(Channel(second_)), IsOk());
}

TEST_F(TlsTest, RefusesAServerWithAnotherId) {
  EXPECT_THAT(Call(Channel(first_, "spiffe://example.org/spire/other")),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       AllOf(HasSubstr(kServerId), HasSubstr("expected spiffe://example.org/spire/other"))));
}

TEST_F(TlsTest, RefusesAServerOfAnUntrustedRoot) {
  EXPECT_THAT(Call(Channel(second_)), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("server certificate")));
}

TEST_F(TlsTest, RefusesAServerOfATrustDomainWithoutABundle) {
  identity_.Set(first_.ServerIdentityOf(first_.Issue("spiffe://other.org/spire/server", clock_.Now())));
  EXPECT_THAT(Call(Channel(first_, "spiffe://other.org/spire/server")), StatusIs(absl::StatusCode::kUnauthenticated));
  ClientTls none{Id(kServerId), std::nullopt, nullptr};
  EXPECT_THAT(Call(MakeTlsChannel(absl::StrCat("127.0.0.1:", port_), std::move(none), clock_)),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("no trust bundle for example.org")));
}

TEST_F(TlsTest, RefusesAServerWhoseCertificateHasExpired) {
  clock_.Advance(absl::Hours(2));
  EXPECT_THAT(Call(Channel(first_)), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(TlsTest, RefusesAServerWithTwoIds) {  // X509-SVID 2: exactly one URI SAN
  auto two = LeafTemplate(kServerId, clock_.Now());
  two.uri_sans.push_back("spiffe://example.org/second");
  const TestCert leaf = IssuedBy(first_.root, two);
  identity_.Set({leaf.key.Pkcs8Pem(), leaf.certificate.Pem(), first_.root.certificate.Pem()});
  EXPECT_THAT(Call(Channel(first_)), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(TlsTest, InsecureBootstrapStillWantsTheExpectedId) {
  EXPECT_THAT(Call(Channel(second_, kServerId, std::nullopt, /*insecure=*/true)), IsOk());
  EXPECT_THAT(Call(Channel(second_, "spiffe://example.org/spire/other", std::nullopt, /*insecure=*/true)),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(TlsTest, TheServerSeesWhatTheClientPresents) {
  std::optional<std::vector<Certificate>> seen;
  on_call_ = [&](const grpc::AuthContext& context) {
    absl::StatusOr<std::optional<std::vector<Certificate>>> chain = PeerChain(context);
    if (chain.ok()) seen = *chain;
    return chain.status();
  };
  EXPECT_THAT(Call(Channel(first_)), IsOk());
  EXPECT_EQ(seen, std::nullopt);  // none asked for is fine: the caller decides what that may do

  const spiffe::X509Svid agent = first_.Issue(kAgentId, clock_.Now());
  EXPECT_THAT(Call(Channel(first_, kServerId, agent)), IsOk());
  ASSERT_TRUE(seen.has_value());
  EXPECT_THAT(*seen, ElementsAre(agent.chain[0], agent.chain[1]));

  // Nothing was verified on the way: a chain of strangers arrives as well.
  EXPECT_THAT(Call(Channel(first_, kServerId, second_.Issue(kAgentId, clock_.Now()))), IsOk());
}

TEST_F(TlsTest, RefusesAResumedSession) {
  on_call_ = [](const grpc::AuthContext& context) {
    const_cast<grpc::AuthContext&>(context).AddProperty("ssl_session_reused", "true");
    EXPECT_TRUE(RawPeerOf(context).resumed);
    return PeerChain(context).status();
  };
  EXPECT_THAT(Call(Channel(first_)), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("resumed")));
}

// One handshake by OpenSSL alone; offers `session` when given one and returns the one to offer next.
class PlainClient {
 public:
  PlainClient(int port, int version) : port_(port), context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_min_proto_version(context_, version);
    SSL_CTX_set_max_proto_version(context_, version);
    SSL_CTX_clear_options(context_, SSL_OP_NO_TICKET);  // the process's own defaults say no
    static constexpr unsigned char kH2[] = {2, 'h', '2'};
    SSL_CTX_set_alpn_protos(context_, kH2, sizeof kH2);
  }
  ~PlainClient() {
    SSL_SESSION_free(session_);
    SSL_CTX_free(context_);
  }

  struct Result {
    bool connected = false, resumed = false, offered_next = false;
  };
  Result Handshake() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    SSL* ssl = SSL_new(context_);
    SSL_set_fd(ssl, fd);
    if (session_ != nullptr) SSL_set_session(ssl, session_);
    Result result;
    result.connected = SSL_connect(ssl) == 1;
    if (result.connected) {
      char byte = 0;
      SSL_read(ssl, &byte, 1);  // the server's SETTINGS; TLS 1.3 tickets would come before them
      result.resumed = SSL_session_reused(ssl) == 1;
      SSL_SESSION_free(session_);
      session_ = SSL_get1_session(ssl);
      result.offered_next = SSL_SESSION_is_resumable(session_) == 1;
    }
    SSL_free(ssl);
    close(fd);
    return result;
  }

 private:
  int port_;
  SSL_CTX* context_;
  SSL_SESSION* session_ = nullptr;
};

TEST_F(TlsTest, OffersNoSessionToResume) {
  for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    PlainClient client(port_, version);
    const PlainClient::Result first = client.Handshake();
    EXPECT_TRUE(first.connected) << version;
    if (version == TLS1_3_VERSION) {
      EXPECT_FALSE(first.offered_next);
    }
    EXPECT_FALSE(client.Handshake().resumed) << version;
  }
}

TEST_F(TlsTest, RefusesTls11) {
  PlainClient client(port_, TLS1_1_VERSION);
  EXPECT_FALSE(client.Handshake().connected);
}

TEST(TlsCallTest, LeavesOtherErrorsAlone) {
  EXPECT_THAT(FromTlsCall(grpc::Status::OK), IsOk());
  EXPECT_THAT(FromTlsCall({grpc::StatusCode::UNAVAILABLE, "connection refused"}),
              StatusIs(absl::StatusCode::kUnavailable, "connection refused"));
  EXPECT_THAT(FromTlsCall({grpc::StatusCode::NOT_FOUND, "x"}), StatusIs(absl::StatusCode::kNotFound, "x"));
}

}  // namespace
}  // namespace signet::rpc
