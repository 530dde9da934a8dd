#include "common/net/web_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <mutex>
#include <optional>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::net {
namespace {

using ::signet::testing::CaTemplate;
using ::signet::testing::IssuedBy;
using ::signet::testing::LeafTemplate;
using ::signet::testing::SelfSigned;
using ::signet::testing::StatusIs;
using ::signet::testing::TempDir;
using ::signet::testing::TestCert;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A client that does what it is told, over TCP or a Unix socket, with TLS or without.
class RawClient {
 public:
  static RawClient ToUnix(const std::string& path) {
    RawClient client;
    client.fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(connect(client.fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << strerror(errno);
    return client;
  }
  static RawClient ToTcp(const std::string& address) {
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port));
    RawClient client;
    client.fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(client.fd_, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return client;
  }
  RawClient(RawClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        ctx_(std::exchange(other.ctx_, nullptr)),
        ssl_(std::exchange(other.ssl_, nullptr)) {}
  ~RawClient() {
    SSL_free(ssl_);
    SSL_CTX_free(ctx_);
    if (fd_ >= 0) close(fd_);
  }

  struct Tls {
    const TestCert* leaf = nullptr;
    std::vector<const TestCert*> issuers;
    int max_version = 0;
    std::string alpn;  // wire form
    SSL_SESSION* session = nullptr;
    std::string server_name;
  };
  bool StartTls(const Tls& tls) {
    ctx_ = SSL_CTX_new(TLS_client_method());
    if (tls.max_version != 0) SSL_CTX_set_max_proto_version(ctx_, tls.max_version);
    SSL_CTX_set_session_cache_mode(ctx_, SSL_SESS_CACHE_CLIENT);
    ssl_ = SSL_new(ctx_);
    SSL_set_mode(ssl_, SSL_MODE_AUTO_RETRY);
    if (tls.leaf != nullptr) {
      const std::string key = tls.leaf->key.Pkcs8Der();
      const auto* in = reinterpret_cast<const unsigned char*>(key.data());
      EVP_PKEY* pkey = d2i_AutoPrivateKey(nullptr, &in, static_cast<long>(key.size()));
      X509* leaf = ToX509(tls.leaf->certificate);
      EXPECT_EQ(SSL_use_cert_and_key(ssl_, leaf, pkey, nullptr, 1), 1);
      X509_free(leaf);
      EVP_PKEY_free(pkey);
      for (const TestCert* issuer : tls.issuers) SSL_add0_chain_cert(ssl_, ToX509(issuer->certificate));
    }
    if (!tls.alpn.empty()) {
      SSL_set_alpn_protos(ssl_, reinterpret_cast<const unsigned char*>(tls.alpn.data()),
                          static_cast<unsigned>(tls.alpn.size()));
    }
    if (!tls.server_name.empty()) SSL_set_tlsext_host_name(ssl_, tls.server_name.c_str());
    if (tls.session != nullptr) SSL_set_session(ssl_, tls.session);
    SSL_set_fd(ssl_, fd_);
    return SSL_connect(ssl_) == 1;
  }
  SSL* ssl() { return ssl_; }

  bool Send(absl::string_view data) {
    if (ssl_ != nullptr) return SSL_write(ssl_, data.data(), static_cast<int>(data.size())) > 0;
    return send(fd_, data.data(), data.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(data.size());
  }
  // One piece of what comes; empty: the end.
  std::string Receive() {
    char buffer[8192];
    const auto size = ssl_ != nullptr ? SSL_read(ssl_, buffer, sizeof buffer) : read(fd_, buffer, sizeof buffer);
    return size > 0 ? std::string(buffer, static_cast<size_t>(size)) : std::string();
  }
  std::string ReceiveAll() {
    std::string all;
    for (std::string piece; !(piece = Receive()).empty();) all += piece;
    return all;
  }
  // One answer with Content-Length.
  std::string ReceiveAnswer() {
    for (;;) {
      const size_t end = pending_.find("\r\n\r\n");
      if (end != std::string::npos) {
        const size_t field = pending_.find("Content-Length: ");
        const size_t length = field < end ? static_cast<size_t>(atoi(pending_.c_str() + field + 16)) : 0;
        if (pending_.size() >= end + 4 + length) {
          const std::string answer = pending_.substr(0, end + 4 + length);
          pending_.erase(0, answer.size());
          return answer;
        }
      }
      const std::string piece = Receive();
      if (piece.empty()) return std::exchange(pending_, "");
      pending_ += piece;
    }
  }
  std::string Ask(absl::string_view request) {
    EXPECT_TRUE(Send(request));
    return ReceiveAnswer();
  }

 private:
  RawClient() = default;
  static X509* ToX509(const crypto::Certificate& certificate) {
    const auto* in = reinterpret_cast<const unsigned char*>(certificate.der().data());
    return d2i_X509(nullptr, &in, static_cast<long>(certificate.der().size()));
  }

  int fd_ = -1;
  SSL_CTX* ctx_ = nullptr;
  SSL* ssl_ = nullptr;
  std::string pending_;
};

std::string Get(absl::string_view path, absl::string_view more = "") {
  return absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: a\r\n", more, "\r\n");
}
std::string Post(absl::string_view path, absl::string_view body) {
  return absl::StrCat("POST ", path, " HTTP/1.1\r\nHost: a\r\nContent-Length: ", body.size(), "\r\n\r\n", body);
}

// Says what it was asked.
void Echo(WebRequest request, Respond respond) {
  WebResponse response;
  response.content_type = "text/plain";
  response.body = absl::StrCat(request.method, " ", request.path, "|", request.query, "|", request.body, "|");
  for (const crypto::Certificate& c : request.client_chain) {
    absl::StrAppend(&response.body, c.uri_sans().empty() ? c.common_name() : c.uri_sans()[0], ",");
  }
  respond(std::move(response));
}

class WebServerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { signal(SIGPIPE, SIG_IGN); }  // these clients write to servers that have hung up
  absl::Status ListenUnix(WebHandler handler, WebServer::Limits limits = {}, rpc::UnixFront::OnAccept on_accept = {}) {
    rpc::UnixFront::Options socket;
    socket.path = dir_.file("web.sock");
    if (on_accept == nullptr) {
      on_accept = [](int, const rpc::UnixConnection& credentials) {
        return std::make_shared<const rpc::UnixConnection>(credentials);
      };
    }
    auto server = WebServer::ListenUnix(socket, limits, std::move(on_accept), std::move(handler));
    if (server.ok()) server_ = *std::move(server);
    return server.status();
  }
  absl::Status ListenTls(WebHandler handler, WebServer::Limits limits = {}) {
    Show(SelfSigned(LeafTemplate("spiffe://td/server/1", absl::Now())));
    auto server = WebServer::ListenTls(
        "127.0.0.1:0", limits,
        [this](absl::string_view server_name) {
          const std::lock_guard lock(mutex_);
          asked_for_ = std::string(server_name);
          return shown_;
        },
        std::move(handler));
    if (server.ok()) server_ = *std::move(server);
    return server.status();
  }
  void Show(TestCert cert) {
    const std::lock_guard lock(mutex_);
    shown_ = std::make_shared<const WebCertificate>(WebCertificate{{cert.certificate}, cert.key});
  }
  RawClient Unix() { return RawClient::ToUnix(dir_.file("web.sock")); }
  RawClient Tls(const RawClient::Tls& tls = {}) {
    RawClient client = RawClient::ToTcp(server_->address());
    EXPECT_TRUE(client.StartTls(tls));
    return client;
  }
  void WaitForConnections(size_t count) {
    for (int i = 0; i < 500 && server_->connections() != count; ++i) absl::SleepFor(absl::Milliseconds(10));
    EXPECT_EQ(server_->connections(), count);
  }

  TempDir dir_;
  std::mutex mutex_;
  std::shared_ptr<const WebCertificate> shown_;
  std::string asked_for_;
  std::unique_ptr<WebServer> server_;
};

TEST_F(WebServerTest, AnswersOneRequestAfterTheOtherOnAConnection) {
  SIGNET_ASSERT_OK(ListenUnix(Echo));
  EXPECT_EQ(server_->address(), dir_.file("web.sock"));
  RawClient client = Unix();
  EXPECT_THAT(client.Ask(Get("/a?b=c&d")),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\nDate: "),
                    HasSubstr("X-Content-Type-Options: nosniff"), EndsWith("\r\n\r\nGET /a|b=c&d||")));
  EXPECT_THAT(client.Ask(Post("/p", "hello")), EndsWith("\r\n\r\nPOST /p||hello|"));
  // Two at once: answered in order.
  ASSERT_TRUE(client.Send(absl::StrCat(Post("/1", "x"), Get("/2"))));
  EXPECT_THAT(client.ReceiveAnswer(), EndsWith("POST /1||x|"));
  EXPECT_THAT(client.ReceiveAnswer(), EndsWith("GET /2|||"));
  EXPECT_THAT(client.Ask("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
              EndsWith("POST /c||abc|"));
  EXPECT_THAT(client.Ask(Get("https://a/abs?x")), EndsWith("GET /abs|x||"));
  EXPECT_THAT(client.Ask(Get("/bye", "Connection: close\r\n")), HasSubstr("Connection: close"));
  EXPECT_EQ(client.Receive(), "");
  WaitForConnections(0);
}

TEST_F(WebServerTest, AnswersHeadWithoutABodyAndHttp10WithAnEnd) {
  SIGNET_ASSERT_OK(ListenUnix(Echo));
  RawClient head = Unix();
  ASSERT_TRUE(head.Send("HEAD /h HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
  EXPECT_THAT(head.ReceiveAll(), AllOf(HasSubstr("Content-Length: 10\r\n"), EndsWith("\r\n\r\n")));
  RawClient old = Unix();
  ASSERT_TRUE(old.Send("GET /o HTTP/1.0\r\n\r\n"));
  EXPECT_THAT(old.ReceiveAll(), AllOf(StartsWith("HTTP/1.0 200"), EndsWith("GET /o|||")));
}

TEST_F(WebServerTest, GoesOnAfter100Continue) {
  SIGNET_ASSERT_OK(ListenUnix(Echo));
  RawClient client = Unix();
  ASSERT_TRUE(client.Send("POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(client.Receive(), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_THAT(client.Ask("ok"), EndsWith("POST /e||ok|"));
}

TEST_F(WebServerTest, RefusesWhatTwoReadersCouldFrameDifferently) {
  std::atomic<int> handled = 0;
  SIGNET_ASSERT_OK(ListenUnix([&](WebRequest request, Respond respond) {
    ++handled;
    Echo(std::move(request), std::move(respond));
  }));
  const std::string chunked = "\r\n\r\n1\r\nx\r\n0\r\n\r\n";
  const std::vector<std::string> requests = {
      // Both length headers, in either order.
      absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", chunked),
      absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", chunked),
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nx",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
      absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", chunked),
      absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked", chunked),
      absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", chunked),
      absl::StrCat("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked", chunked),
      absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked", chunked),
      "GET / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
      "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
      "\x16\x03\x01 no HTTP\r\n\r\n",
  };
  for (const std::string& request : requests) {
    RawClient client = Unix();
    ASSERT_TRUE(client.Send(request));
    const std::string answer = client.ReceiveAll();
    if (!answer.empty()) {
      EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("Connection: close"),
                                HasSubstr("\"error\":\"invalid_request\"")))
          << request;
    }
  }
  EXPECT_EQ(handled, 0);
}

TEST_F(WebServerTest, RefusesLongHeadersAndBodiesBeforeReadingThem) {
  WebServer::Limits limits;
  limits.max_body_bytes = 1000;
  limits.max_header_bytes = 2000;
  limits.error_id = [](const std::string& peer) { return absl::StrCat("e-", peer); };
  SIGNET_ASSERT_OK(ListenUnix(Echo, limits));
  {
    RawClient client = Unix();
    client.Send(Get("/", absl::StrCat("X: ", std::string(2100, 'x'), "\r\n")));
    EXPECT_THAT(client.ReceiveAll(), StartsWith("HTTP/1.1 431"));
  }
  {
    RawClient client = Unix();  // endless: no end of line is ever sent
    client.Send(absl::StrCat("GET /", std::string(8000, 'x')));
    EXPECT_THAT(client.ReceiveAll(), StartsWith("HTTP/1.1 431"));
  }
  {
    RawClient client = Unix();  // said to be long: not a byte of it is awaited
    client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    EXPECT_THAT(client.ReceiveAll(),
                AllOf(StartsWith("HTTP/1.1 413"), HasSubstr("1000 bytes"), EndsWith("\"error_id\":\"e-unix\"}")));
  }
  {
    RawClient client = Unix();
    client.Send(absl::StrCat("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n",
                             std::string(1001, 'x'), "\r\n0\r\n\r\n"));
    EXPECT_THAT(client.ReceiveAll(), StartsWith("HTTP/1.1 413"));
  }
  RawClient client = Unix();
  EXPECT_THAT(client.Ask(Post("/fits", std::string(1000, 'x'))), StartsWith("HTTP/1.1 200"));
}

TEST_F(WebServerTest, CutsOffSlowClients) {
  WebServer::Limits limits;
  limits.handshake = limits.header = limits.body = limits.idle = absl::Milliseconds(300);
  std::atomic<int> handled = 0;
  const WebHandler handler = [&](WebRequest request, Respond respond) {
    ++handled;
    Echo(std::move(request), std::move(respond));
  };
  SIGNET_ASSERT_OK(ListenUnix(handler, limits));
  // A byte at a time, each well within any limit of its own: the whole header has one deadline, so has the body.
  const auto drip = [](RawClient& client, absl::string_view text) {
    const absl::Time start = absl::Now();
    for (size_t i = 0; absl::Now() - start < absl::Seconds(20); ++i) {
      if (!client.Send(text.substr(i % text.size(), 1))) return true;
      absl::SleepFor(absl::Milliseconds(50));
    }
    return false;
  };
  RawClient silent = Unix();
  EXPECT_EQ(silent.Receive(), "");
  RawClient header = Unix();
  EXPECT_TRUE(header.Send("GET / HTTP/1.1\r\nX: "));
  EXPECT_TRUE(drip(header, "slow"));
  RawClient body = Unix();
  EXPECT_TRUE(body.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"));
  EXPECT_TRUE(drip(body, "slow"));
  RawClient idle = Unix();
  EXPECT_THAT(idle.Ask(Get("/")), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(idle.Receive(), "");
  WaitForConnections(0);
  EXPECT_EQ(handled, 1);

  SIGNET_ASSERT_OK(ListenTls(handler, limits));
  RawClient handshake = RawClient::ToTcp(server_->address());
  EXPECT_EQ(handshake.Receive(), "");
  WaitForConnections(0);
}

TEST_F(WebServerTest, BoundsConnectionsInAllAndPerPeer) {
  WebServer::Limits limits;
  limits.max_connections_per_peer = 2;
  SIGNET_ASSERT_OK(ListenUnix(Echo, limits));
  {
    RawClient first = Unix(), second = Unix();
    EXPECT_THAT(first.Ask(Get("/1")), StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(second.Ask(Get("/2")), StartsWith("HTTP/1.1 200"));
    RawClient third = Unix();
    EXPECT_EQ(third.Receive(), "");
    EXPECT_EQ(server_->refused(), 1);
  }
  WaitForConnections(0);
  RawClient again = Unix();
  EXPECT_THAT(again.Ask(Get("/3")), StartsWith("HTTP/1.1 200"));

  limits.max_connections_per_peer = 10;
  limits.max_connections = 1;
  SIGNET_ASSERT_OK(ListenTls(Echo, limits));
  RawClient first = Tls();
  EXPECT_THAT(first.Ask(Get("/1")), StartsWith("HTTP/1.1 200"));
  RawClient second = RawClient::ToTcp(server_->address());
  EXPECT_FALSE(second.StartTls({}));
}

TEST_F(WebServerTest, GivesHandlersTheCallersCredentials) {
  struct Known : rpc::UnixConnection {
    int number = 0;
  };
  SIGNET_ASSERT_OK(ListenUnix(
      [](WebRequest request, Respond respond) {
        WebResponse response;
        const auto* known = dynamic_cast<const Known*>(request.unix_peer.get());
        response.body = absl::StrCat(request.peer, " ", known->pid, " ", known->uid, " ", known->number);
        respond(std::move(response));
      },
      {},
      [n = 0](int fd, const rpc::UnixConnection& credentials) mutable
      -> absl::StatusOr<std::shared_ptr<const rpc::UnixConnection>> {
        EXPECT_GE(fd, 0);
        if (++n == 3) return absl::PermissionDeniedError("not you");
        auto known = std::make_shared<Known>();
        static_cast<rpc::UnixConnection&>(*known) = credentials;
        known->number = n;
        return known;
      }));
  RawClient first = Unix(), second = Unix();
  const std::string me = absl::StrCat("unix ", getpid(), " ", getuid(), " ");
  EXPECT_THAT(first.Ask(Get("/")), EndsWith(absl::StrCat(me, "1")));
  EXPECT_THAT(second.Ask(Get("/")), EndsWith(absl::StrCat(me, "2")));
  RawClient third = Unix();
  EXPECT_EQ(third.Receive(), "");
  EXPECT_THAT(first.Ask(Get("/")), EndsWith(absl::StrCat(me, "1")));
}

TEST_F(WebServerTest, TakesAnswersFromOtherThreadsLateNeverOrAfterTheEnd) {
  WebServer::Limits limits;
  limits.answer = absl::Milliseconds(200);
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::vector<Respond> kept;
  SIGNET_ASSERT_OK(ListenUnix(
      [&](WebRequest request, Respond respond) {
        if (request.path == "/thread") {
          threads.emplace_back([respond = std::move(respond)]() mutable {
            WebResponse response;
            response.body = "from a thread";
            respond(std::move(response));
          });
        } else if (request.path == "/late") {
          const std::lock_guard lock(mutex);
          kept.push_back(std::move(respond));
        }  // else: dropped
      },
      limits));
  RawClient client = Unix();
  EXPECT_THAT(client.Ask(Get("/thread")), EndsWith("from a thread"));
  EXPECT_THAT(client.Ask(Get("/dropped")), StartsWith("HTTP/1.1 500"));
  EXPECT_THAT(client.Ask(Get("/late")), StartsWith("HTTP/1.1 503"));
  EXPECT_EQ(client.Receive(), "");
  {
    const std::lock_guard lock(mutex);
    kept[0](WebResponse{});  // too late: nobody hears it
  }
  RawClient second = Unix();
  ASSERT_TRUE(second.Send(Get("/late")));
  for (bool there = false; !there; absl::SleepFor(absl::Milliseconds(1))) {
    const std::lock_guard lock(mutex);
    there = kept.size() == 2;
  }
  for (std::thread& thread : threads) thread.join();
  server_.reset();
  kept[1](WebResponse{});
  EXPECT_NE(access(dir_.file("web.sock").c_str(), F_OK), 0);
}

TEST_F(WebServerTest, DrainAnswersWhatCameInAndClosesTheRest) {
  std::mutex mutex;
  std::optional<Respond> kept;
  SIGNET_ASSERT_OK(ListenUnix([&](WebRequest, Respond respond) {
    const std::lock_guard lock(mutex);
    kept = std::move(respond);
  }));
  RawClient idle = Unix(), busy = Unix();
  ASSERT_TRUE(busy.Send(Get("/")));
  for (bool there = false; !there; absl::SleepFor(absl::Milliseconds(1))) {
    const std::lock_guard lock(mutex);
    there = kept.has_value();
  }
  std::thread drain([this] { server_->Drain(absl::Seconds(20)); });
  EXPECT_EQ(idle.Receive(), "");
  WebResponse response;
  response.body = "late but there";
  (*kept)(std::move(response));
  EXPECT_THAT(busy.ReceiveAnswer(), AllOf(HasSubstr("Connection: close"), EndsWith("late but there")));
  drain.join();
  EXPECT_EQ(server_->connections(), 0u);
}

TEST_F(WebServerTest, HandsTheClientsChainUpUnverified) {
  SIGNET_ASSERT_OK(ListenTls(Echo));
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    RawClient::Tls none;
    none.max_version = version;
    EXPECT_THAT(Tls(none).Ask(Get("/")), EndsWith("GET /|||"));

    const TestCert root = SelfSigned(CaTemplate("nobody trusts me", absl::Now()));
    const TestCert issuer = IssuedBy(root, CaTemplate("issuer", absl::Now()));
    const TestCert leaf = IssuedBy(issuer, LeafTemplate("spiffe://td/w", absl::Now() - absl::Hours(5)));  // expired too
    RawClient::Tls tls;
    tls.leaf = &leaf;
    tls.issuers = {&issuer};
    tls.max_version = version;
    RawClient client = Tls(tls);
    for (int i = 0; i < 2; ++i) EXPECT_THAT(client.Ask(Get("/")), EndsWith("GET /|||spiffe://td/w,issuer,"));
  }
  RawClient old = RawClient::ToTcp(server_->address());
  RawClient::Tls tls11;
  tls11.max_version = TLS1_1_VERSION;
  EXPECT_FALSE(old.StartTls(tls11));
}

TEST_F(WebServerTest, ShowsANewCertificateOnTheNextConnection) {
  SIGNET_ASSERT_OK(ListenTls(Echo));
  const auto shown = [](RawClient& client) {
    X509* x509 = SSL_get1_peer_certificate(client.ssl());
    unsigned char* der = nullptr;
    const int size = i2d_X509(x509, &der);
    std::string text(reinterpret_cast<char*>(der), static_cast<size_t>(size));
    OPENSSL_free(der);
    X509_free(x509);
    return text;
  };
  RawClient before = Tls();
  EXPECT_EQ(shown(before), shown_->chain[0].der());
  Show(SelfSigned(LeafTemplate("spiffe://td/server/2", absl::Now()), crypto::KeyType::kRsa2048));
  RawClient after = Tls();
  EXPECT_EQ(shown(after), shown_->chain[0].der());
  EXPECT_NE(shown(before), shown(after));
  EXPECT_THAT(before.Ask(Get("/")), StartsWith("HTTP/1.1 200"));  // goes on
  {
    const std::lock_guard lock(mutex_);
    shown_ = nullptr;
  }
  RawClient none = RawClient::ToTcp(server_->address());
  EXPECT_FALSE(none.StartTls({}));
}

TEST_F(WebServerTest, TellsTheSourceWhatNameWasAskedFor) {
  SIGNET_ASSERT_OK(ListenTls(Echo));
  RawClient::Tls tls;
  tls.server_name = "id.example.org";
  RawClient named = Tls(tls);
  EXPECT_EQ(asked_for_, "id.example.org");
  RawClient unnamed = Tls();
  EXPECT_EQ(asked_for_, "");
}

TEST_F(WebServerTest, ResumesNoSession) {
  SIGNET_ASSERT_OK(ListenTls(Echo));
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    RawClient::Tls tls;
    tls.max_version = version;
    RawClient first = Tls(tls);
    EXPECT_THAT(first.Ask(Get("/")), StartsWith("HTTP/1.1 200"));
    SSL_SESSION* session = SSL_get1_session(first.ssl());
    EXPECT_FALSE(SSL_SESSION_has_ticket(session));
    EXPECT_TRUE(version == TLS1_2_VERSION || SSL_SESSION_is_resumable(session) == 0);
    tls.session = session;
    RawClient second = Tls(tls);
    EXPECT_FALSE(SSL_session_reused(second.ssl()));
    EXPECT_THAT(second.Ask(Get("/")), StartsWith("HTTP/1.1 200"));
    SSL_SESSION_free(session);
  }
}

TEST_F(WebServerTest, SpeaksHttp11ByAlpnAlone) {
  SIGNET_ASSERT_OK(ListenTls(Echo));
  RawClient::Tls both;
  both.alpn = std::string("\x02h2\x08http/1.1");
  EXPECT_THAT(Tls(both).Ask(Get("/")), StartsWith("HTTP/1.1 200"));
  RawClient::Tls h2;
  h2.alpn = std::string("\x02h2");
  RawClient client = RawClient::ToTcp(server_->address());
  EXPECT_FALSE(client.StartTls(h2));
}

TEST_F(WebServerTest, NamesAnAddressItCannotListenOn) {
  const auto source = [](absl::string_view) { return std::shared_ptr<const WebCertificate>(); };
  EXPECT_THAT(WebServer::ListenTls("localhost:1", {}, source, Echo).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("localhost:1")));
  SIGNET_ASSERT_OK(ListenTls(Echo));
  EXPECT_THAT(WebServer::ListenTls(server_->address(), {}, source, Echo).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(server_->address())));
  rpc::UnixFront::Options socket;
  socket.path = "relative";
  EXPECT_THAT(WebServer::ListenUnix(socket, {}, nullptr, Echo).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("relative")));
}

}  // namespace
}  // namespace signet::net
