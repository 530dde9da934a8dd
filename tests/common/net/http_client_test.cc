#include "common/net/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::net {
namespace {

using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;
using testing::TestCert;

// An HTTPS server on 127.0.0.1 that answers each path with prepared bytes and closes; /drip without end, a byte at a
// time.
class TlsServer {
 public:
  explicit TlsServer(const TestCert& certificate) : context_(SSL_CTX_new(TLS_server_method())) {
    signal(SIGPIPE, SIG_IGN);  // a client that refuses the certificate is gone while the handshake still writes
    const std::string chain_pem = certificate.certificate.Pem();
    BIO* chain = BIO_new_mem_buf(chain_pem.c_str(), -1);
    X509* x509 = PEM_read_bio_X509(chain, nullptr, nullptr, nullptr);
    const std::string key_pem = certificate.key.Pkcs8Pem();
    BIO* key = BIO_new_mem_buf(key_pem.c_str(), -1);
    EVP_PKEY* pkey = PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(context_, x509);
    SSL_CTX_use_PrivateKey(context_, pkey);
    X509_free(x509);
    EVP_PKEY_free(pkey);
    BIO_free(chain);
    BIO_free(key);
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~TlsServer() {
    shutdown(listener_, SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
    close(listener_);
    SSL_CTX_free(context_);
  }
  std::string Url(const std::string& host, const std::string& path) const {
    return absl::StrCat("https://", host, ":", port_, path);
  }
  void Serve(std::map<std::string, std::string> answers) {
    answers_ = std::move(answers);
    thread_ = std::thread([this] { Run(); });
  }

 private:
  static void Drip(SSL* ssl, int fd) {
    const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n";
    SSL_write(ssl, head.data(), static_cast<int>(head.size()));
    pollfd gone{.fd = fd, .events = POLLIN, .revents = 0};
    for (int i = 0; i < 600 && poll(&gone, 1, 100) == 0; ++i) SSL_write(ssl, "x", 1);
  }
  void Run() {
    for (;;) {
      const int fd = accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      SSL* ssl = SSL_new(context_);
      SSL_set_fd(ssl, fd);
      char request[4096];
      if (SSL_accept(ssl) == 1) {
        const int n = SSL_read(ssl, request, sizeof request);
        const std::string text(request, n > 0 ? static_cast<size_t>(n) : 0);
        if (text.rfind("GET /drip ", 0) == 0) Drip(ssl, fd);
        for (const auto& [path, answer] : answers_) {
          if (text.rfind("GET " + path + " ", 0) == 0) SSL_write(ssl, answer.data(), static_cast<int>(answer.size()));
        }
        SSL_shutdown(ssl);
      }
      SSL_free(ssl);
      close(fd);
    }
  }

  SSL_CTX* context_;
  int listener_ = -1;
  int port_ = 0;
  std::map<std::string, std::string> answers_;
  std::thread thread_;
};

std::string Answer(const std::string& body) {
  return absl::StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", body.size(), "\r\nConnection: close\r\n\r\n", body);
}
std::string Redirect(const std::string& to) {
  return absl::StrCat("HTTP/1.1 302 Found\r\nLocation: ", to, "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

class HttpClientTest : public ::testing::Test {
 protected:
  HttpClientTest()
      : root_(testing::SelfSigned(testing::CaTemplate("root", absl::Now()))),
        other_root_(testing::SelfSigned(testing::CaTemplate("other", absl::Now()))) {
    auto leaf = testing::LeafTemplate("spiffe://example.org/web", absl::Now());
    leaf.dns_sans = {"localhost"};
    server_ = std::make_unique<TlsServer>(testing::IssuedBy(root_, leaf));
    EXPECT_TRUE(fs::WriteFileAtomically(ca_, root_.certificate.Pem()).ok());
    EXPECT_TRUE(fs::WriteFileAtomically(other_ca_, other_root_.certificate.Pem()).ok());
  }
  absl::StatusOr<std::string> Get(const std::string& path, const std::string& host = "localhost") {
    return HttpsGet(server_->Url(host, path), 100, absl::Seconds(20), ca_);
  }
  absl::StatusOr<std::string> Guarded(const std::string& path, absl::Duration timeout = absl::Seconds(20),
                                      bool allow_private = true, const std::string& host = "localhost") {
    return HttpsGetGuarded(
        server_->Url(host, path),
        {.max_bytes = 100, .timeout = timeout, .ca_file = ca_, .allow_private_address = allow_private});
  }

  testing::TempDir dir_;
  const std::string ca_ = dir_.file("ca.pem"), other_ca_ = dir_.file("other.pem");
  TestCert root_, other_root_;
  std::unique_ptr<TlsServer> server_;
};

TEST_F(HttpClientTest, FetchesFromAServerOfTheGivenRoots) {
  server_->Serve({{"/bundle", Answer("content")}});
  EXPECT_THAT(Get("/bundle"), IsOkAndHolds("content"));
}

TEST_F(HttpClientTest, RefusesAnUntrustedRootAndAnotherHost) {
  server_->Serve({{"/bundle", Answer("content")}});
  EXPECT_THAT(HttpsGet(server_->Url("localhost", "/bundle"), 100, absl::Seconds(20), other_ca_),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("certificate")));
  EXPECT_THAT(HttpsGet(server_->Url("localhost", "/bundle"), 100, absl::Seconds(20)),  // the system's roots
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Get("/bundle", "127.0.0.1"), StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(HttpClientTest, RefusesMoreThanTheCap) {
  server_->Serve({{"/exact", Answer(std::string(100, 'x'))}, {"/more", Answer(std::string(101, 'x'))}});
  EXPECT_THAT(Get("/exact"), IsOkAndHolds(std::string(100, 'x')));
  EXPECT_THAT(Get("/more"), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("100 bytes")));
}

TEST_F(HttpClientTest, FollowsFewRedirectsAndNoneAwayFromHttps) {
  server_->Serve({{"/1", Redirect("/2")},
                  {"/2", Redirect("/3")},
                  {"/3", Redirect("/bundle")},
                  {"/0", Redirect("/1")},
                  {"/plain", Redirect("http://127.0.0.1:1/bundle")},
                  {"/file", Redirect("file:///etc/passwd")},
                  {"/bundle", Answer("content")}});
  EXPECT_THAT(Get("/1"), IsOkAndHolds("content"));
  EXPECT_THAT(Get("/0"), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("redirects")));
  EXPECT_THAT(Get("/plain"), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("not supported")));
  EXPECT_THAT(Get("/file"), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("not supported")));
}

// --- the guarded fetch, of a URL that others chose (D.2 item 12)
// ---------------------------------------------------------

TEST_F(HttpClientTest, TheGuardedFetchFollowsNoRedirect) {
  server_->Serve({{"/to", Redirect("/keys")}, {"/away", Redirect("https://169.254.169.254/")}, {"/keys", Answer("k")}});
  EXPECT_THAT(Guarded("/keys"), IsOkAndHolds("k"));
  EXPECT_THAT(Guarded("/to"), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("302")));
  EXPECT_THAT(Guarded("/away"), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("302")));
}

TEST_F(HttpClientTest, TheGuardedFetchAsksNoProxyOfTheEnvironment) {
  server_->Serve({{"/keys", Answer("k")}});
  for (const char* name : {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"}) {
    setenv(name, "http://127.0.0.1:1", 1);  // nobody listens there
    EXPECT_THAT(Guarded("/keys"), IsOkAndHolds("k")) << name;
    unsetenv(name);
  }
}

TEST_F(HttpClientTest, NothingIsInflated) {
  const std::string bomb = absl::StrCat("\x1f\x8b", std::string(98, 'z'));  // whatever it would become
  server_->Serve(
      {{"/bomb", absl::StrCat("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n", bomb)}});
  EXPECT_THAT(Guarded("/bomb"), IsOkAndHolds(bomb));
}

TEST_F(HttpClientTest, AFloodOfHeadersIsEnded) {
  std::string flood = "HTTP/1.1 200 OK\r\n";
  while (flood.size() < 100 * 1024) absl::StrAppend(&flood, "X-Padding: ", std::string(1000, 'x'), "\r\n");
  server_->Serve({{"/flood", absl::StrCat(flood, "Content-Length: 1\r\n\r\nk")}});
  EXPECT_THAT(Guarded("/flood"), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("headers")));
}

TEST_F(HttpClientTest, AnAnswerThatDripsIsEnded) {
  server_->Serve({});
  const absl::Time start = absl::Now();
  EXPECT_THAT(Guarded("/drip", absl::Milliseconds(500)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("timed out")));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST_F(HttpClientTest, TheGuardedFetchConnectsToNoPrivateAddress) {
  server_->Serve({{"/keys", Answer("k")}});
  for (const char* host : {"localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "2130706433", "0x7f.1", "127.1"}) {
    EXPECT_THAT(Guarded("/keys", absl::Seconds(20), false, host), StatusIs(absl::StatusCode::kPermissionDenied))
        << host;
  }
}

TEST_F(HttpClientTest, RefusesOtherSchemesAndErrorPages) {
  server_->Serve({{"/gone", "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope"}});
  EXPECT_THAT(Get("/gone"), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("404")));
  for (const char* url : {"http://localhost/bundle", "file:///etc/passwd", "ftp://localhost/x", ""}) {
    EXPECT_THAT(HttpsGet(url, 100, absl::Seconds(5)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("https")));
  }
}

}  // namespace
}  // namespace signet::net
