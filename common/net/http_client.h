// One blocking HTTPS GET by libcurl: the bundle of a bootstrap URL. https only, the system's roots, at most 3 redirects
// (https again), `max_bytes` of body, `timeout` for all of it. Run it on an Executor or before serving.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace signet::net {

absl::StatusOr<std::string> HttpsGet(const std::string& url, size_t max_bytes, absl::Duration timeout);

}  // namespace signet::net
