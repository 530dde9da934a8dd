#include "tests/fakes/fake_api_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace signet::fakes {
namespace {

crypto::CertificateTemplate ServerTemplate(const std::string& dns_name) {
  crypto::CertificateTemplate t = testing::LeafTemplate("", absl::Now());
  t.uri_sans.clear();
  t.dns_sans = {dns_name};
  return t;
}

}  // namespace

struct FakeApiServer::State {
  State(Handler h, const std::string& dns_name)
      : handler(std::move(h)),
        root(testing::SelfSigned(testing::CaTemplate("kubernetes", absl::Now()))),
        leaf(testing::IssuedBy(root, ServerTemplate(dns_name))) {}

  const Handler handler;
  const testing::TestCert root, leaf;
  SSL_CTX* context = nullptr;
  int listener = -1, port = 0;
  std::thread acceptor;
  std::atomic<int> accepted{0};
  std::mutex mutex;
  std::set<int> open;
  std::vector<std::thread> threads;

  void Accept();
  void Serve(int fd);
};

namespace {

// One connection. Plain blocking OpenSSL.
class Connection final : public FakeApiServer::Stream {
 public:
  Connection(SSL_CTX* context, int fd) : fd_(fd), ssl_(SSL_new(context)) { SSL_set_fd(ssl_, fd); }
  ~Connection() override { SSL_free(ssl_); }

  bool Handshake() { return SSL_accept(ssl_) == 1; }
  bool client_certificate() const {
    X509* shown = SSL_get1_peer_certificate(ssl_);
    X509_free(shown);
    return shown != nullptr;
  }

  bool Read(FakeApiServer::Request& request) {
    size_t end;
    while ((end = in_.find("\r\n\r\n")) == std::string::npos) {
      if (!More()) return false;
    }
    const std::vector<std::string> lines = absl::StrSplit(in_.substr(0, end), "\r\n");
    in_.erase(0, end + 4);
    const std::vector<std::string> first = absl::StrSplit(lines[0], ' ');
    request.method = first.at(0);
    request.path = first.at(1);
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::pair<std::string, std::string> header = absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
      request.headers[absl::AsciiStrToLower(header.first)] = header.second;
    }
    size_t length = 0;
    (void)absl::SimpleAtoi(request.headers["content-length"], &length);
    while (in_.size() < length) {
      if (!More()) return false;
    }
    request.body = in_.substr(0, length);
    in_.erase(0, length);
    request.client_certificate = client_certificate();
    return true;
  }

  bool Write(absl::string_view data) {
    while (!data.empty()) {
      const size_t piece = std::min<size_t>(data.size(), 1 << 20);
      if (SSL_write(ssl_, data.data(), static_cast<int>(piece)) <= 0) return false;
      data.remove_prefix(piece);
    }
    return true;
  }
  bool Send(absl::string_view data) override {
    return Write(absl::StrCat(absl::Hex(data.size()), "\r\n", data, "\r\n"));
  }
  void AwaitClosed() override {
    while (More()) {
    }
  }

 private:
  bool More() {
    char buffer[16384];
    const int n = SSL_read(ssl_, buffer, sizeof buffer);
    if (n <= 0) return false;
    in_.append(buffer, static_cast<size_t>(n));
    return true;
  }

  const int fd_;
  SSL* const ssl_;
  std::string in_;
};

}  // namespace

void FakeApiServer::State::Serve(int fd) {
  {
    Connection connection(context, fd);
    Request request;
    while (connection.Handshake() && connection.Read(request)) {
      bool keep = true;
      do {
        const Answer answer = handler(request);
        if (answer.hang) {
          connection.AwaitClosed();
          keep = false;
        } else if (answer.stream) {
          keep = connection.Write(absl::StrCat("HTTP/1.1 ", answer.status, " OK\r\n", answer.headers,
                                               "Transfer-Encoding: chunked\r\n\r\n"));
          answer.stream(connection);
          keep = keep && connection.Write("0\r\n\r\n");
        } else {
          keep = connection.Write(absl::StrCat("HTTP/1.1 ", answer.status, " OK\r\n", answer.headers,
                                               "Content-Length: ", answer.body.size(), "\r\n\r\n", answer.body));
        }
        request = Request();
      } while (keep && connection.Read(request));
      break;
    }
  }
  std::lock_guard lock(mutex);
  open.erase(fd);
  close(fd);
}

void FakeApiServer::State::Accept() {
  for (;;) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    ++accepted;
    std::lock_guard lock(mutex);
    open.insert(fd);
    threads.emplace_back([this, fd] { Serve(fd); });
  }
}

FakeApiServer::FakeApiServer(Handler handler, const std::string& dns_name)
    : state_(std::make_shared<State>(std::move(handler), dns_name)) {
  signal(SIGPIPE, SIG_IGN);  // a client may be gone while an answer is written
  state_->context = SSL_CTX_new(TLS_server_method());
  const std::string certificate = state_->leaf.certificate.der();
  const std::string key = state_->leaf.key.Pkcs8Der();
  const auto* in = reinterpret_cast<const unsigned char*>(key.data());
  EVP_PKEY* pkey = d2i_AutoPrivateKey(nullptr, &in, static_cast<long>(key.size()));
  SSL_CTX_use_certificate_ASN1(state_->context, static_cast<int>(certificate.size()),
                               reinterpret_cast<const unsigned char*>(certificate.data()));
  SSL_CTX_use_PrivateKey(state_->context, pkey);
  EVP_PKEY_free(pkey);
  SSL_CTX_set_verify(state_->context, SSL_VERIFY_PEER,
                     [](int, X509_STORE_CTX*) { return 1; });  // asked for, any will do
  SSL_CTX_set_session_cache_mode(state_->context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(state_->context, SSL_OP_NO_TICKET);
  state_->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(state_->listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(state_->listener, 64) != 0 ||
      getsockname(state_->listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    abort();
  }
  state_->port = ntohs(address.sin_port);
  state_->acceptor = std::thread([state = state_.get()] { state->Accept(); });
}

FakeApiServer::~FakeApiServer() {
  shutdown(state_->listener, SHUT_RDWR);
  state_->acceptor.join();
  close(state_->listener);
  CloseConnections();
  for (std::thread& thread : state_->threads) thread.join();
  SSL_CTX_free(state_->context);
}

int FakeApiServer::port() const { return state_->port; }
std::string FakeApiServer::url() const { return absl::StrCat("https://localhost:", state_->port); }
std::string FakeApiServer::ca_pem() const { return state_->root.certificate.Pem(); }
const testing::TestCert& FakeApiServer::ca() const { return state_->root; }
int FakeApiServer::connections() const { return state_->accepted; }

void FakeApiServer::CloseConnections() {
  std::lock_guard lock(state_->mutex);
  for (const int fd : state_->open) shutdown(fd, SHUT_RDWR);
}

std::string FakeApiServer::KubeConfig(const std::string& user, const std::string& more_of_cluster) const {
  return absl::StrCat(
      "{apiVersion: v1, kind: Config, current-context: here,\n contexts: [{name: here, context: "
      "{cluster: c, user: u}}],\n clusters: [{name: c, cluster: {server: \"",
      url(), "\", certificate-authority-data: ", absl::Base64Escape(ca_pem()), more_of_cluster,
      "}}],\n users: [{name: u, user: ", user, "}]}\n");
}

}  // namespace signet::fakes
