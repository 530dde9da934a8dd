// One blocking HTTPS GET by libcurl: the bundle of a bootstrap URL, the keys of an issuer. https only, the system's
// roots, at most 3 redirects (https again), 64 KiB of headers, `max_bytes` of body as it comes (nothing is inflated),
// `timeout` for all of it however slowly it drips. Run it on an Executor or
// before serving.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/crypto/tls_client.h"

namespace signet::net {

// `ca_file`: PEM roots instead of the system's. kUnavailable names the URL and what libcurl says; kFailedPrecondition
// when the answer or its headers are larger than `max_bytes`; kInvalidArgument for another scheme.
absl::StatusOr<std::string> HttpsGet(const std::string& url, size_t max_bytes, absl::Duration timeout,
                                     const std::string& ca_file = "");

// The same, and `judge` alone says whether the server is who it should be: no roots, no host name.
absl::StatusOr<std::string> HttpsGetJudged(const std::string& url, size_t max_bytes, absl::Duration timeout,
                                           const crypto::JudgeServer& judge);

// The same for a URL that others chose: no redirect, no proxy (nor one of the environment), and the address that is
// connected to, after the name was resolved, must be public. kPermissionDenied names the URL when it is not.
struct GuardedGet {
  size_t max_bytes = 0;
  absl::Duration timeout;
  std::string ca_file;
  bool allow_private_address = false;
};
absl::StatusOr<std::string> HttpsGetGuarded(const std::string& url, const GuardedGet& options);

// Whether an address may be that of a public server: global unicast, IPv4 or IPv6 (RFC 6890). `address`: a sockaddr_in
// or sockaddr_in6.
bool IsPublicAddress(const void* address, size_t bytes);

}  // namespace signet::net
