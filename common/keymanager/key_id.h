// The form of a key id in every KeyManager: it is safe as a file name and in a log.
#pragma once

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"

namespace signet {

inline absl::Status CheckKeyId(absl::string_view id) {
  const auto allowed = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  };
  if (id.empty() || id.size() > 64 || id.front() == '.' || !std::all_of(id.begin(), id.end(), allowed)) {
    return absl::InvalidArgumentError("a key id has 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot");
  }
  return absl::OkStatus();
}

}  // namespace signet
