// Strict JSON (RFC 8259): duplicate keys, non-finite numbers, bad UTF-8, trailing bytes and depth over `max_depth` are
// refused.
// boost::json values inside; only .cc files that need the tree include <boost/json.hpp>.
#pragma once

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::json {

// kInvalidArgument with position. `max_bytes` is checked before parsing.
absl::StatusOr<boost::json::value> Parse(absl::string_view text, size_t max_bytes, size_t max_depth = 16);

}  // namespace signet::json
