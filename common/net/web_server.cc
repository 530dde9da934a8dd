#include "common/net/web_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/concurrency/mutex.h"
#include "common/log/log.h"
#include "common/net/listen_address.h"
#include "common/rpc/unix_listener.h"
#include "common/status/macros.h"

// Beast's headers cost half a minute of compilation: they are included here and in http_server.cc alone.

namespace signet::net {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::generic::stream_protocol;
using PlainStream = beast::basic_stream<stream_protocol, asio::io_context::executor_type>;
using TlsStream = beast::ssl_stream<PlainStream>;
using Parser = http::request_parser<http::string_body>;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr int kAcceptBurst = 64;  // then others have their turn
constexpr std::chrono::milliseconds kExhaustedPause{100};
constexpr std::chrono::seconds kShutdownLimit{2};
constexpr absl::Duration kLogEvery = absl::Seconds(10);

std::chrono::nanoseconds Chrono(absl::Duration duration) { return absl::ToChronoNanoseconds(duration); }
absl::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

// The way from a Respond, which may outlive the server, to the server's thread.
struct Gate {
  Mutex mutex;
  asio::io_context* context ABSL_GUARDED_BY(mutex) = nullptr;  // null: closed
};

// One request's answer. Of the io thread.
struct Exchange {
  std::optional<WebResponse> answer;
  asio::steady_timer* wake = nullptr;  // while the session waits for the answer
};

// What a handler gets as its Respond.
class Responder {
 public:
  Responder(std::shared_ptr<Gate> gate, std::shared_ptr<Exchange> exchange)
      : gate_(std::move(gate)), exchange_(std::move(exchange)) {}
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&&) = delete;
  ~Responder() {
    if (exchange_ == nullptr) return;
    WebResponse dropped;
    dropped.status = 500;
    dropped.body = R"({"error":"server_error"})";
    Deliver(std::move(dropped));
  }
  void operator()(WebResponse response) {
    if (exchange_ != nullptr) Deliver(std::move(response));
  }

 private:
  void Deliver(WebResponse response) {
    MutexLock lock(gate_->mutex);
    std::shared_ptr<Exchange> exchange = std::move(exchange_);
    if (gate_->context == nullptr) return;
    asio::dispatch(*gate_->context, [exchange = std::move(exchange), response = std::move(response)]() mutable {
      exchange->answer = std::move(response);
      if (exchange->wake != nullptr) exchange->wake->cancel();
    });
  }

  std::shared_ptr<Gate> gate_;
  std::shared_ptr<Exchange> exchange_;
};

// A connection as the handlers see it.
struct Peer {
  std::string text;   // ADDRESS:PORT or "unix"
  std::string count;  // what connections are counted by
  std::shared_ptr<const rpc::UnixConnection> unix_peer;
  std::vector<crypto::Certificate> chain;
};

// IPv4 by address, IPv6 by the /64 a customer has, Unix by uid.
std::string CountKey(const asio::ip::address& address) {
  if (address.is_v4()) return address.to_string();
  if (address.to_v6().is_v4_mapped()) {
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
  }
  const auto bytes = address.to_v6().to_bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), 8);
}

// RFC 9110 5.6.7.
const std::string& Date() {
  static thread_local std::pair<int64_t, std::string> last{0, ""};
  const absl::Time now = absl::Now();
  if (const int64_t seconds = absl::ToUnixSeconds(now); seconds != last.first) {
    last = {seconds, absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", now, absl::UTCTimeZone())};
  }
  return last.second;
}

bool IsTimeout(const boost::system::error_code& error) { return error == beast::error::timeout; }

// How a request that could not be read is answered; nothing: the connection is closed without a word.
std::optional<http::status> StatusOf(const boost::system::error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return http::status::request_header_fields_too_large;
  }
  if (error == http::error::body_limit) return http::status::payload_too_large;
  if (IsTimeout(error)) return std::nullopt;
  if (error == http::error::end_of_stream || error == http::error::partial_message) return std::nullopt;
  if (error.category() == http::make_error_code(http::error::bad_method).category()) return http::status::bad_request;
  return std::nullopt;
}

// Rules of RFC 9112 that Beast leaves to us; empty: fine.
absl::string_view FaultOf(const Parser::value_type& message) {
  const auto count = [&](http::field field) {
    const auto range = message.equal_range(field);
    return std::distance(range.first, range.second);
  };
  const auto hosts = count(http::field::host);
  if (hosts > 1 || (hosts == 0 && message.version() >= 11)) return "exactly one Host header is needed";
  const auto codings = count(http::field::transfer_encoding);
  if (codings > 0) {
    // 6.1, 6.3: what two readers could frame differently.
    if (count(http::field::content_length) > 0) return "both Content-Length and Transfer-Encoding";
    if (codings > 1 || !absl::EqualsIgnoreCase(View(message[http::field::transfer_encoding]), "chunked") ||
        message.version() < 11) {
      return "the only Transfer-Encoding is chunked";
    }
  }
  if (count(http::field::content_length) > 1 || absl::StrContains(View(message[http::field::content_length]), ",")) {
    return "more than one Content-Length";
  }
  return "";
}

// The path and query of a request target: origin-form, or absolute-form (RFC 9112 3.2). False: neither.
bool SplitTarget(absl::string_view target, std::string& path, std::string& query) {
  for (absl::string_view scheme : {"https://", "http://"}) {
    if (!absl::StartsWithIgnoreCase(target, scheme)) continue;
    const size_t slash = target.find('/', scheme.size());
    target = slash == absl::string_view::npos ? "/" : target.substr(slash);
    break;
  }
  if (target.empty() || target[0] != '/' || target.find('#') != absl::string_view::npos) return false;
  const size_t mark = target.find('?');
  path = std::string(target.substr(0, mark));
  query = mark == absl::string_view::npos ? "" : std::string(target.substr(mark + 1));
  return true;
}

class BeastServer final : public WebServer {
 public:
  BeastServer(Limits limits, WebHandler handler)
      : limits_(std::move(limits)), handler_(std::move(handler)), listener_(context_) {
    MutexLock lock(gate_->mutex);
    gate_->context = &context_;
  }
  ~BeastServer() override {
    {
      MutexLock lock(gate_->mutex);
      gate_->context = nullptr;
    }
    context_.stop();
    if (thread_.joinable()) thread_.join();
    if (unix_listener_.has_value()) {
      (void)listener_.release();  // its owner is unix_listener_
      unix_listener_->RemoveFile();
    }
  }

  absl::Status BindTls(const std::string& listen, WebCertificateSource certificate) {
    SIGNET_ASSIGN_OR_RETURN(tls_, crypto::TlsServerContext::Create(std::move(certificate)));
    ssl_.emplace(tls_->Share());
    SIGNET_ASSIGN_OR_RETURN(const asio::ip::tcp::endpoint endpoint, ParseListen(listen));
    rpc::Fd fd(socket(endpoint.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    if (fd.get() < 0 || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd.get(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0 ||
        ::listen(fd.get(), SOMAXCONN) != 0) {
      return absl::UnavailableError(absl::StrCat("listen on ", listen, ": ", strerror(errno)));
    }
    asio::ip::tcp::endpoint bound;
    socklen_t size = static_cast<socklen_t>(bound.capacity());
    if (getsockname(fd.get(), bound.data(), &size) != 0) return absl::ErrnoToStatus(errno, "getsockname");
    bound.resize(size);
    address_ = ListenText(bound);
    Run(fd.release());
    return absl::OkStatus();
  }

  absl::Status BindUnix(const rpc::UnixFront::Options& socket, rpc::UnixFront::OnAccept on_accept) {
    SIGNET_ASSIGN_OR_RETURN(unix_listener_,
                            rpc::UnixListener::Create(socket.path, socket.socket_mode, socket.directory_mode));
    on_accept_ = std::move(on_accept);
    address_ = socket.path;
    Run(unix_listener_->fd.get());
    return absl::OkStatus();
  }

  void Drain(absl::Duration grace) override {
    asio::post(context_, [this] {
      draining_ = true;
      boost::system::error_code ignored;
      listener_.cancel(ignored);
      for (PlainStream* stream : idle_) stream->cancel();
    });
    std::unique_lock lock(drain_mutex_);
    drained_.wait_for(lock, absl::ToChronoMilliseconds(grace), [this] { return connections_ == 0; });
  }

  std::string address() const override { return address_; }
  size_t connections() const override { return connections_; }
  size_t refused() const override { return refused_; }

 private:
  void Run(int listener) {
    listener_.assign(listener);
    asio::co_spawn(context_, Accept(), asio::detached);
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), tls_ == nullptr ? "web-unix" : "web-tls");
      context_.run();
    });
  }

  // --- accepting
  // -------------------------------------------------------------------------------------------------------
  asio::awaitable<void> Accept() {
    for (;;) {
      if (draining_) co_return;
      const auto [error] = co_await listener_.async_wait(asio::posix::stream_descriptor::wait_read, kToken);
      if (error) co_return;
      bool exhausted = false;
      for (int i = 0; i < kAcceptBurst && !exhausted; ++i) {
        sockaddr_storage address = {};
        socklen_t size = sizeof address;
        rpc::Fd fd(accept4(listener_.native_handle(), reinterpret_cast<sockaddr*>(&address), &size,
                           SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (fd.get() < 0) {
          exhausted = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
          if (exhausted) LogRefusal(strerror(errno));
          if (errno == EAGAIN) break;
          continue;
        }
        if (const absl::Status admitted = Admit(fd, address, size); !admitted.ok()) {
          ++refused_;
          LogRefusal(admitted.message());
        }
      }
      if (exhausted) {  // wait for some to be closed; the callers wait in the backlog meanwhile
        asio::steady_timer pause(context_, kExhaustedPause);
        co_await pause.async_wait(kToken);
      }
    }
  }

  absl::Status Admit(rpc::Fd& fd, const sockaddr_storage& address, socklen_t size) {
    if (connections_ >= limits_.max_connections) {
      return absl::ResourceExhaustedError(absl::StrCat(limits_.max_connections, " connections are open"));
    }
    Peer peer;
    rpc::UnixConnection plain;
    if (unix_listener_.has_value()) {
      ucred credentials = {};
      socklen_t length = sizeof credentials;
      if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
        return absl::ErrnoToStatus(errno, "SO_PEERCRED");
      }
      plain.pid = credentials.pid;
      plain.uid = credentials.uid;
      plain.gid = credentials.gid;
      peer.text = "unix";
      peer.count = absl::StrCat("uid ", plain.uid);
    } else {
      asio::ip::tcp::endpoint remote;
      if (size > remote.capacity()) return absl::InternalError("address of an unknown family");
      std::copy_n(reinterpret_cast<const char*>(&address), size, reinterpret_cast<char*>(remote.data()));
      remote.resize(size);
      peer.text = ListenText(remote);
      peer.count = CountKey(remote.address());
      const int on = 1;
      setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    // The limit comes before anything that costs.
    if (auto it = per_peer_.find(peer.count); it != per_peer_.end() && it->second >= limits_.max_connections_per_peer) {
      return absl::ResourceExhaustedError(
          absl::StrCat(peer.text, " has ", limits_.max_connections_per_peer, " connections open"));
    }
    if (unix_listener_.has_value()) {
      SIGNET_ASSIGN_OR_RETURN(peer.unix_peer, on_accept_(fd.get(), plain),
                              absl::StrCat("pid ", plain.pid, " uid ", plain.uid));
      if (peer.unix_peer == nullptr) return absl::InternalError("on_accept returned nothing");
    }
    PlainStream stream(context_.get_executor());
    boost::system::error_code error;
    const int family = unix_listener_.has_value() ? AF_UNIX : reinterpret_cast<const sockaddr*>(&address)->sa_family;
    stream.socket().assign(stream_protocol(family, 0), fd.get(), error);
    if (error) return absl::InternalError(error.message());
    (void)fd.release();  // the stream's now
    ++connections_;
    ++per_peer_[peer.count];
    asio::co_spawn(context_, Serve(std::move(stream), std::move(peer)), asio::detached);
    return absl::OkStatus();
  }

  void LogRefusal(absl::string_view reason) {
    ++unlogged_;
    const absl::Time now = absl::Now();
    if (now - last_log_ < kLogEvery) return;
    SIGNET_LOG(warn, "connection refused", {{"listener", address_}, {"reason", reason}, {"times", unlogged_}});
    last_log_ = now;
    unlogged_ = 0;
  }

  // --- one connection
  // --------------------------------------------------------------------------------------------------
  asio::awaitable<void> Serve(PlainStream plain, Peer peer) {
    const std::string count = peer.count;
    if (tls_ == nullptr) {
      co_await Converse(plain, peer);
      boost::system::error_code ignored;
      plain.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    } else {
      co_await ServeTls(std::move(plain), peer);
    }
    if (--connections_ == 0) {
      { const std::lock_guard lock(drain_mutex_); }  // whoever looked before waits by now
      drained_.notify_all();
    }
    if (auto it = per_peer_.find(count); it != per_peer_.end() && --it->second == 0) per_peer_.erase(it);
  }

  asio::awaitable<void> ServeTls(PlainStream plain, Peer& peer) {
    TlsStream stream(std::move(plain), *ssl_);
    beast::get_lowest_layer(stream).expires_after(Chrono(limits_.handshake));
    const auto [error] = co_await stream.async_handshake(asio::ssl::stream_base::server, kToken);
    if (error) {
      SIGNET_LOG(debug, "TLS handshake failed", {{"peer", peer.text}, {"error", error.message()}});
      co_return;
    }
    peer.chain = crypto::ShownChain(stream.native_handle());
    if (!co_await Converse(stream, peer)) co_return;
    beast::get_lowest_layer(stream).expires_after(kShutdownLimit);
    co_await stream.async_shutdown(kToken);
  }

  // False: the stream is broken.
  template <class Stream>
  asio::awaitable<bool> Converse(Stream& stream, const Peer& peer) {
    auto& lowest = beast::get_lowest_layer(stream);
    beast::flat_buffer buffer(limits_.max_header_bytes + 4096);
    for (bool first = true;; first = false) {
      // Idle until the first byte, then the header within its time.
      if (buffer.size() == 0) {
        if (draining_) co_return true;
        lowest.expires_after(Chrono(first ? limits_.header : limits_.idle));
        idle_.insert(&lowest);
        const auto [error, size] = co_await stream.async_read_some(buffer.prepare(4096), kToken);
        idle_.erase(&lowest);
        if (error) co_return !IsTimeout(error);
        buffer.commit(size);
      }
      Parser parser;
      parser.header_limit(static_cast<uint32_t>(limits_.max_header_bytes));
      parser.body_limit(limits_.max_body_bytes);
      lowest.expires_after(Chrono(limits_.header));
      auto [error, read] = co_await http::async_read_header(stream, buffer, parser, kToken);
      if (error) co_return co_await Refuse(stream, peer, error);
      if (const absl::string_view fault = FaultOf(parser.get()); !fault.empty()) {
        co_return co_await Refuse(stream, peer, http::status::bad_request, fault);
      }
      if (!parser.is_done()) {
        lowest.expires_after(Chrono(limits_.body));
        if (parser.get().version() >= 11 &&
            absl::EqualsIgnoreCase(View(parser.get()[http::field::expect]), "100-continue")) {
          static constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";
          const auto [sent, size] =
              co_await asio::async_write(stream, asio::buffer(kContinue, sizeof kContinue - 1), kToken);
          if (sent) co_return false;
        }
        std::tie(error, read) = co_await http::async_read(stream, buffer, parser, kToken);
        if (error) co_return co_await Refuse(stream, peer, error);
      }
      WebRequest request;
      if (!SplitTarget(View(parser.get().target()), request.path, request.query)) {
        co_return co_await Refuse(stream, peer, http::status::bad_request, "the target is no path");
      }
      const bool keep = parser.get().keep_alive(), head = parser.get().method() == http::verb::head;
      const unsigned version = parser.get().version();
      Fill(parser, peer, request);
      http::response<http::string_body> response = Wrap(co_await Ask(std::move(request)), version, head);
      response.keep_alive(keep && response.keep_alive() && !draining_);
      lowest.expires_after(Chrono(limits_.write));
      const auto [write_error, written] = co_await http::async_write(stream, response, kToken);
      if (write_error) co_return false;
      if (!response.keep_alive()) co_return true;
    }
  }

  static void Fill(Parser& parser, const Peer& peer, WebRequest& request) {
    auto& message = parser.get();
    request.method = std::string(View(message.method_string()));
    for (const auto& field : message) {
      request.headers.emplace_back(absl::AsciiStrToLower(View(field.name_string())), std::string(View(field.value())));
    }
    request.body = std::move(message.body());
    request.peer = peer.text;
    request.client_chain = peer.chain;
    request.unix_peer = peer.unix_peer;
  }

  // Hands the request to the handler and waits for its answer.
  asio::awaitable<WebResponse> Ask(WebRequest request) {
    auto exchange = std::make_shared<Exchange>();
    asio::steady_timer timer(context_, Chrono(limits_.answer));
    handler_(std::move(request), Respond(Responder(gate_, exchange)));
    if (!exchange->answer.has_value()) {
      exchange->wake = &timer;
      co_await timer.async_wait(kToken);
      exchange->wake = nullptr;
    }
    if (!exchange->answer.has_value()) {
      WebResponse late;
      late.status = 503;
      late.body = R"({"error":"temporarily_unavailable"})";
      late.headers.emplace_back("Connection", "close");
      co_return late;
    }
    co_return *std::move(exchange->answer);
  }

  static http::response<http::string_body> Wrap(WebResponse answer, unsigned version, bool head) {
    http::response<http::string_body> response(http::int_to_status(static_cast<unsigned>(answer.status)), version);
    response.set(http::field::date, Date());
    if (!answer.body.empty()) response.set(http::field::content_type, answer.content_type);
    response.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : answer.headers) response.insert(name, value);
    if (head) {
      response.content_length(answer.body.size());
    } else {
      response.body() = std::move(answer.body);
      response.prepare_payload();
    }
    return response;
  }

  template <class Stream>
  asio::awaitable<bool> Refuse(Stream& stream, const Peer& peer, boost::system::error_code error) {
    const std::optional<http::status> status = StatusOf(error);
    if (!status.has_value()) co_return !IsTimeout(error) && error == http::error::end_of_stream;
    const bool body = *status == http::status::payload_too_large;
    const std::string what = body ? absl::StrCat("the body is larger than ", limits_.max_body_bytes, " bytes")
                             : *status == http::status::bad_request
                                 ? std::string("not an HTTP request")
                                 : absl::StrCat("the headers are larger than ", limits_.max_header_bytes, " bytes");
    co_return co_await Refuse(stream, peer, *status, what);
  }

  template <class Stream>
  asio::awaitable<bool> Refuse(Stream& stream, const Peer& peer, http::status status, absl::string_view what) {
    WebResponse answer;
    answer.status = static_cast<int>(status);
    const std::string error_id = limits_.error_id == nullptr ? "" : limits_.error_id(peer.text);
    answer.body = absl::StrCat(R"({"error":"invalid_request","error_description":")", what, "\"",
                               error_id.empty() ? "" : absl::StrCat(R"(,"error_id":")", error_id, "\""), "}");
    answer.headers.emplace_back("Cache-Control", "no-store");
    http::response<http::string_body> response = Wrap(std::move(answer), 11, false);
    response.keep_alive(false);
    auto& lowest = beast::get_lowest_layer(stream);
    lowest.expires_after(Chrono(limits_.write));
    const auto [error, size] = co_await http::async_write(stream, response, kToken);
    if (error) co_return false;
    // What the client is still sending is read for a moment, or the kernel would take our answer back with a reset.
    boost::system::error_code ignored;
    lowest.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    lowest.expires_after(kShutdownLimit);
    char discarded[4096];
    for (size_t left = 16; left > 0; --left) {
      const auto [end, bytes] = co_await lowest.async_read_some(asio::buffer(discarded), kToken);
      if (end) break;
    }
    co_return false;
  }

  const Limits limits_;
  const WebHandler handler_;
  rpc::UnixFront::OnAccept on_accept_;
  std::unique_ptr<crypto::TlsServerContext> tls_;
  std::optional<asio::ssl::context> ssl_;
  std::optional<rpc::UnixListener> unix_listener_;
  std::string address_;
  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::atomic<size_t> connections_ = 0, refused_ = 0;

  std::mutex drain_mutex_;
  std::condition_variable drained_;

  // Of the server's own thread alone.
  bool draining_ = false;
  absl::flat_hash_set<PlainStream*> idle_;  // between two requests
  absl::flat_hash_map<std::string, size_t> per_peer_;
  size_t unlogged_ = 0;
  absl::Time last_log_ = absl::InfinitePast();

  // Last: the sessions that end with it refer to the rest.
  asio::io_context context_{1};
  asio::posix::stream_descriptor listener_;
  std::thread thread_;
};

}  // namespace

const std::string* WebRequest::Header(absl::string_view name, bool* repeated) const {
  const std::string* found = nullptr;
  if (repeated != nullptr) *repeated = false;
  for (const auto& [key, value] : headers) {
    if (key != name) continue;
    if (found != nullptr) {
      if (repeated != nullptr) *repeated = true;
      return nullptr;
    }
    found = &value;
  }
  return found;
}

absl::StatusOr<std::unique_ptr<WebServer>> WebServer::ListenTls(const std::string& listen, Limits limits,
                                                                WebCertificateSource certificate, WebHandler handler) {
  auto server = std::make_unique<BeastServer>(std::move(limits), std::move(handler));
  SIGNET_RETURN_IF_ERROR(server->BindTls(listen, std::move(certificate)));
  return server;
}

absl::StatusOr<std::unique_ptr<WebServer>> WebServer::ListenUnix(rpc::UnixFront::Options socket, Limits limits,
                                                                 rpc::UnixFront::OnAccept on_accept,
                                                                 WebHandler handler) {
  auto server = std::make_unique<BeastServer>(std::move(limits), std::move(handler));
  SIGNET_RETURN_IF_ERROR(server->BindUnix(socket, std::move(on_accept)));
  return server;
}

}  // namespace signet::net
