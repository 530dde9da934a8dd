#include "common/net/http_server.h"

#include <pthread.h>

#include <atomic>
#include <thread>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "absl/strings/str_cat.h"
#include "common/log/log.h"
#include "common/net/listen_address.h"
#include "common/status/macros.h"

// Beast's headers cost half a minute of compilation: they are included here and in web_server.cc alone.

namespace signet::net {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr uint32_t kMaxHeaderBytes = 8 << 10;
constexpr size_t kMaxConnections = 64;
constexpr std::chrono::seconds kRequestLimit{10};  // of one request, idle time before it included
constexpr std::chrono::seconds kWriteLimit{10};

class BeastServer final : public HttpServer {
 public:
  BeastServer(HttpHandler handler) : handler_(std::move(handler)), acceptor_(context_) {}
  ~BeastServer() override {
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Bind(const std::string& listen) {
    SIGNET_ASSIGN_OR_RETURN(const tcp::endpoint endpoint, ParseListen(listen));
    boost::system::error_code error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return absl::UnavailableError(absl::StrCat("listen on ", listen, ": ", error.message()));
    address_ = ListenText(acceptor_.local_endpoint(error));
    asio::co_spawn(context_, Accept(), asio::detached);
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "http");
      context_.run();
    });
    return absl::OkStatus();
  }
  std::string address() const override { return address_; }

 private:
  asio::awaitable<void> Accept() {
    for (;;) {
      auto [error, socket] = co_await acceptor_.async_accept(kToken);
      if (error == asio::error::operation_aborted) co_return;
      if (error) {  // out of descriptors: wait for some to be closed
        asio::steady_timer pause(context_, std::chrono::milliseconds(100));
        co_await pause.async_wait(kToken);
        continue;
      }
      if (connections_ >= kMaxConnections) continue;  // closes it
      asio::co_spawn(context_, Serve(std::move(socket)), asio::detached);
    }
  }

  asio::awaitable<void> Serve(tcp::socket socket) {
    ++connections_;
    co_await Converse(beast::tcp_stream(std::move(socket)));
    --connections_;
  }

  asio::awaitable<void> Converse(beast::tcp_stream stream) {
    beast::flat_buffer buffer(2 * kMaxHeaderBytes);
    for (bool keep = true; keep;) {
      http::request_parser<http::empty_body> parser;
      parser.header_limit(kMaxHeaderBytes);
      parser.body_limit(0);
      stream.expires_after(kRequestLimit);
      const auto [error, read] = co_await http::async_read(stream, buffer, parser, kToken);
      if (error == http::error::header_limit || error == http::error::body_limit ||
          error == http::error::unexpected_body || error == http::error::buffer_overflow) {
        const bool body = error == http::error::body_limit || error == http::error::unexpected_body;
        co_await Refuse(stream, body ? http::status::payload_too_large : http::status::request_header_fields_too_large);
        co_return;
      }
      if (error) co_return;
      http::response<http::string_body> response = Answer(parser.get());
      keep = response.keep_alive();
      stream.expires_after(kWriteLimit);
      const auto [write_error, written] = co_await http::async_write(stream, response, kToken);
      if (write_error) co_return;
    }
    boost::system::error_code ignored;
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  }

  asio::awaitable<void> Refuse(beast::tcp_stream& stream, http::status status) {
    http::response<http::empty_body> response(status, 11);
    response.keep_alive(false);
    response.prepare_payload();
    stream.expires_after(kWriteLimit);
    co_await http::async_write(stream, response, kToken);
  }

  http::response<http::string_body> Answer(const http::request<http::empty_body>& request) {
    http::response<http::string_body> response;
    response.version(request.version());
    response.keep_alive(request.keep_alive());
    const bool head = request.method() == http::verb::head;
    if (!head && request.method() != http::verb::get) {
      response.result(http::status::method_not_allowed);
      response.set(http::field::allow, "GET, HEAD");
      response.prepare_payload();
      return response;
    }
    const absl::string_view target(request.target().data(), request.target().size());
    HttpResponse answer = handler_(target.substr(0, target.find('?')));
    response.result(static_cast<unsigned>(answer.status));
    response.set(http::field::content_type, answer.content_type);
    response.set(http::field::cache_control, "no-store");
    response.set("X-Content-Type-Options", "nosniff");
    if (head) {
      response.content_length(answer.body.size());
    } else {
      response.body() = std::move(answer.body);
      response.prepare_payload();
    }
    return response;
  }

  const HttpHandler handler_;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  size_t connections_ = 0;  // of the server's own thread
  std::string address_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Create(const std::string& listen, HttpHandler handler) {
  auto server = std::make_unique<BeastServer>(std::move(handler));
  SIGNET_RETURN_IF_ERROR(server->Bind(listen));
  return server;
}

}  // namespace signet::net
