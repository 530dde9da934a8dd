// The version of this build, from the project() line of the top CMakeLists.txt.
#pragma once

#include "absl/strings/string_view.h"

namespace signet {

absl::string_view Version();  // "0.1.0"

}  // namespace signet
