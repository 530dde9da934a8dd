// PEM armour. Parsing is capped at 1 MiB of input and 256 blocks.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::crypto {

struct PemBlock {
  std::string label;  // such as "CERTIFICATE"
  std::string der;
};

// All blocks in order; text around them is ignored. kInvalidArgument when there is none or one is damaged.
absl::StatusOr<std::vector<PemBlock>> ParsePem(absl::string_view text);
std::string ToPem(absl::string_view label, absl::string_view der);

}  // namespace signet::crypto
