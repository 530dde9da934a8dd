// A small plain HTTP/1.1 server for health and metrics, on a loopback address as a rule. One thread; GET and HEAD only.
// Against slow or greedy clients: 8 KiB of headers, no body, 10 s for a request, 64 connections.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::net {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};
using HttpHandler =
    std::function<HttpResponse(absl::string_view path)>;  // called on the server's thread; must be quick

class HttpServer {
 public:
  virtual ~HttpServer() = default;  // closes and joins
  // `listen`: literal ADDRESS:PORT, port 0 picks one. kUnavailable names the address.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Create(const std::string& listen, HttpHandler handler);
  virtual std::string address() const = 0;  // ADDRESS:PORT really bound
};

}  // namespace signet::net
