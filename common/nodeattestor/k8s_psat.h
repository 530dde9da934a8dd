// The message of the node attestor "k8s_psat", as SPIRE's server and agent exchange it: {"cluster": ..., "token": ...}.
// Pure functions. Errors never repeat the token.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::k8spsat {

inline constexpr absl::string_view kType = "k8s_psat";
inline constexpr size_t kMaxTokenBytes = 16 * 1024;  // a real one has about 1 KiB

struct Evidence {
  std::string cluster;
  std::string token;
};

std::string Encode(const Evidence& evidence);
// kInvalidArgument; capped at 32 KiB before it is parsed.
absl::StatusOr<Evidence> Parse(absl::string_view json);

// What may be a bearer token: 1 to kMaxTokenBytes of printable ASCII without a space. Not that it is genuine.
bool IsToken(absl::string_view text);

}  // namespace signet::k8spsat
