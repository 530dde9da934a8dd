// An HTTP/1.1 server by Boost.Beast: over TLS on a TCP address, or plain on a Unix socket. One io thread; handlers are
// called on it and must be quick, and answer from any thread, at once or later. Thread-safe.
// Against slow or greedy clients: headers 16 KiB, body `max_body_bytes` (checked before it is read: 413), a deadline for
// each of handshake, header and body, idle keep-alive cut, connections in all and per peer bounded. HTTP/1.1 and 1.0
// only; a request with both Content-Length and Transfer-Encoding is refused, no pipelining beyond one waiting request.
// Beast's headers cost 30 s of compile: they are included in the .cc alone.
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
#include "common/crypto/key.h"
#include "common/rpc/unix_front.h"

namespace signet::net {

struct WebRequest {
  std::string method;  // GET, POST, ...
  std::string path;    // percent-decoded never; without query
  std::string query;
  std::vector<std::pair<std::string, std::string>> headers;  // as received, in order; names lower case
  std::string body;

  std::string peer;                                    // ADDRESS:PORT; "unix"
  std::vector<crypto::Certificate> client_chain;       // TLS: as shown, leaf first, NOT verified; empty: none shown
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
struct WebCertificate {
  std::vector<crypto::Certificate> chain;  // leaf first
  crypto::PrivateKey key;
};
using WebCertificateSource = std::function<std::shared_ptr<const WebCertificate>()>;  // null: handshakes fail

class WebServer {
 public:
  struct Limits {
    size_t max_body_bytes = 64 * 1024;
    size_t max_header_bytes = 16 * 1024;
    size_t max_connections = 4096, max_connections_per_peer = 512;  // peer: address, or uid
    absl::Duration handshake = absl::Seconds(10), header = absl::Seconds(10), body = absl::Seconds(20),
                   idle = absl::Seconds(75), answer = absl::Seconds(60);
  };
  virtual ~WebServer() = default;  // closes and joins; waiting Responds become no-ops

  // `listen`: literal ADDRESS:PORT, port 0 picks one. The client's certificate is asked for and taken as it comes: who it
  // is, the handler judges from client_chain. TLS 1.2 and 1.3, no session resumption, no renegotiation.
  static absl::StatusOr<std::unique_ptr<WebServer>> ListenTls(const std::string& listen, Limits limits,
                                                              WebCertificateSource certificate, WebHandler handler);
  // Plain HTTP on a Unix socket, mode and folder as rpc::UnixFront does; on_accept sees the descriptor at once.
  static absl::StatusOr<std::unique_ptr<WebServer>> ListenUnix(rpc::UnixFront::Options socket, Limits limits,
                                                               rpc::UnixFront::OnAccept on_accept, WebHandler handler);
  virtual std::string address() const = 0;  // really bound
};

}  // namespace signet::net
