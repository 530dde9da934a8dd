// One blocking HTTPS GET by libcurl: the bundle of a bootstrap URL. https only, the system's roots, at most 3 redirects
// (https again), `max_bytes` of body, `timeout` for all of it. Run it on an Executor or before serving.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace signet::net {

// `ca_file`: PEM roots instead of the system's. kUnavailable names the URL and what libcurl says; kFailedPrecondition
// when the answer is larger than `max_bytes`; kInvalidArgument for another scheme.
absl::StatusOr<std::string> HttpsGet(const std::string& url, size_t max_bytes, absl::Duration timeout,
                                     const std::string& ca_file = "");

}  // namespace signet::net
