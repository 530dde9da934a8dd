// Strict JSON (RFC 8259): duplicate keys, non-finite numbers, bad UTF-8, trailing bytes and depth over 16 are refused.
// boost::json values inside; only .cc files that need the tree include <boost/json.hpp>.
#pragma once

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::json {

// kInvalidArgument with position. `max_bytes` is checked before parsing.
absl::StatusOr<boost::json::value> Parse(absl::string_view text, size_t max_bytes);

}  // namespace signet::json
