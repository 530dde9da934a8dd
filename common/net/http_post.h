// One blocking POST by libcurl: audit records to whoever collects them. https with the system's roots, or http when the
// host is a literal loopback address. No redirect is followed. Run it on a worker or an Executor. Thread-safe.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::net {

absl::Status CheckPostUrl(const std::string& url);  // kInvalidArgument
// kUnavailable names the URL and what libcurl, or the status of the answer, says; the answer's body is not read.
absl::Status HttpPost(const std::string& url, const std::string& content_type, absl::string_view body,
                      absl::Duration timeout);

}  // namespace signet::net
