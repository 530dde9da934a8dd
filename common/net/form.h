// application/x-www-form-urlencoded bodies (RFC 6749 appendix B), read strictly and written canonically. Pure.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::net {

// Names and values decoded, in the order received. Repeats are kept: which may repeat is the caller's to say.
using Form = std::vector<std::pair<std::string, std::string>>;

inline constexpr size_t kMaxFormFields = 128;

// kInvalidArgument, without a part of the body in the message: a '%' that two hex digits do not follow, a byte outside
// printable ASCII, a value that is not UTF-8 or holds a NUL, a field without '=' or without a name, too many fields.
absl::StatusOr<Form> ParseForm(absl::string_view body);
// Everything but unreserved characters (RFC 3986 2.3) percent-encoded; ParseForm reads it back.
std::string FormatForm(const Form& form);

}  // namespace signet::net
