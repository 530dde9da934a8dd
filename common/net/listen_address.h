// An address to listen on, for the servers of this folder. Includes Asio: from .cc files alone.
#pragma once

#include <string>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace signet::net {

// A literal ADDRESS:PORT; IPv6 in brackets. kInvalidArgument.
inline absl::StatusOr<boost::asio::ip::tcp::endpoint> ParseListen(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  uint32_t port = 0;
  boost::system::error_code error;
  if (colon != std::string::npos && absl::SimpleAtoi(listen.substr(colon + 1), &port) && port <= 65535) {
    std::string host = listen.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    const boost::asio::ip::address address = boost::asio::ip::make_address(host, error);
    if (!error) return boost::asio::ip::tcp::endpoint(address, static_cast<uint16_t>(port));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", listen, "\" is no address to listen on; write ADDRESS:PORT such as 127.0.0.1:8080"));
}

inline std::string ListenText(const boost::asio::ip::tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  return endpoint.address().is_v6() ? absl::StrCat("[", host, "]:", endpoint.port())
                                    : absl::StrCat(host, ":", endpoint.port());
}

}  // namespace signet::net
