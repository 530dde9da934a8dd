// An HTTP/1.1 server by Boost.Beast: over TLS on a TCP address, or plain on a Unix socket. One io thread; handlers are
// called on it and must be quick, and answer from any thread, at once or later. Thread-safe.
// Against slow or greedy clients: headers 16 KiB, body `max_body_bytes` (checked before it is read: 413), a deadline
// for each of handshake, header and body, idle keep-alive cut, connections in all and per peer bounded. HTTP/1.1
// and 1.0 only; a request with both Content-Length and Transfer-Encoding is refused, as is one without exactly one Host
// in HTTP/1.1; requests of one connection are answered one after the other. What is refused before it reaches the
// handler gets the JSON error of RFC 6749 5.2 and the connection is closed. Beast's headers cost 30 s of compile: they
// are included in the .cc alone.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/crypto/certificate.h"
#include "common/crypto/tls_server.h"
#include "common/rpc/unix_front.h"

namespace signet::net {

struct WebRequest {
  std::string method;  // GET, POST, ...
  std::string path;    // begins with "/"; percent-decoded never; without query
  std::string query;
  std::vector<std::pair<std::string, std::string>> headers;  // as received, in order; names lower case
  std::string body;

  std::string peer;                                      // ADDRESS:PORT; "unix"
  std::vector<crypto::Certificate> client_chain;         // TLS: as shown, leaf first, NOT verified; empty: none shown
  std::shared_ptr<const rpc::UnixConnection> unix_peer;  // Unix: what on_accept returned

  // The only value of a header; null when absent or there more than once (`repeated` set then).
  const std::string* Header(absl::string_view name, bool* repeated = nullptr) const;
};

struct WebResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

using Respond = absl::AnyInvocable<void(WebResponse)>;  // exactly once; dropped unsent: 500
using WebHandler = std::function<void(WebRequest, Respond)>;

// What the next handshake is made with.
using WebCertificate = crypto::TlsIdentity;
using WebCertificateSource = crypto::TlsServerContext::Source;  // null: handshakes fail

class WebServer {
 public:
  struct Limits {
    size_t max_body_bytes = 64 * 1024;
    size_t max_header_bytes = 16 * 1024;
    size_t max_connections = 4096, max_connections_per_peer = 512;  // peer: address, or uid
    // `header` runs from the first byte of a request, of a connection's first request from the handshake; `answer` is
    // the handler's (503 when it is over), `write` the client's to take the answer.
    absl::Duration handshake = absl::Seconds(10), header = absl::Seconds(10), body = absl::Seconds(20),
                   idle = absl::Seconds(75), answer = absl::Seconds(60), write = absl::Seconds(20);
    // Called for each request that is refused before it reaches the handler; what it returns becomes the `error_id` of
    // the answer. On the server's thread; must be quick. Null: no error_id.
    std::function<std::string(const std::string& peer)> error_id;
  };
  virtual ~WebServer() = default;  // closes and joins; waiting Responds become no-ops

  // `listen`: literal ADDRESS:PORT, port 0 picks one. The client's certificate is asked for and taken as it comes: who
  // it is, the handler judges from client_chain. TLS 1.2 and 1.3, no session resumption, no renegotiation.
  static absl::StatusOr<std::unique_ptr<WebServer>> ListenTls(const std::string& listen, Limits limits,
                                                              WebCertificateSource certificate, WebHandler handler);
  // Plain HTTP on a Unix socket, mode and folder as rpc::UnixFront does; on_accept sees the descriptor at once.
  static absl::StatusOr<std::unique_ptr<WebServer>> ListenUnix(rpc::UnixFront::Options socket, Limits limits,
                                                               rpc::UnixFront::OnAccept on_accept, WebHandler handler);
  virtual std::string address() const = 0;  // really bound; of a Unix socket its path
  // Accepts no more and closes idle connections; requests that came in are answered, and their connections closed.
  // Returns when none is left, or after `grace`. Not from a handler.
  virtual void Drain(absl::Duration grace) = 0;
  virtual size_t connections() const = 0;
  virtual size_t refused() const = 0;  // over a limit or refused by on_accept, since the start
};

}  // namespace signet::net
