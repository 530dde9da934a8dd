// Strict JSON (RFC 8259): duplicate keys, non-finite numbers, bad UTF-8, trailing bytes and depth over 16 are refused,
// as are objects of more than 10 000 members, arrays of more than 100 000 items and keys of more than 4096 bytes.
// boost::json values inside; only .cc files that need the tree include <boost/json.hpp>.
#pragma once

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::json {

// kInvalidArgument with position. `max_bytes` is checked before parsing.
absl::StatusOr<boost::json::value> Parse(absl::string_view text, size_t max_bytes);

// For documents of others whose shape is not ours to choose.
struct Limits {
  size_t max_bytes = 0;
  size_t max_depth = 16;
  bool any_size = false;          // of objects, arrays and keys: the whole text's is what bounds them
  absl::string_view skip_member;  // an array by this name is left out, read for its syntax alone; empty: none
};
absl::StatusOr<boost::json::value> Parse(absl::string_view text, const Limits& limits);

}  // namespace signet::json
