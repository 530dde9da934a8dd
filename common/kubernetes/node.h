// What is read of a node. Pure. kInvalidArgument names what is malformed.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::kubernetes {

struct Node {
  std::string name, uid;
  std::vector<std::pair<std::string, std::string>> labels;
};

absl::StatusOr<Node> ParseNode(absl::string_view text);

}  // namespace signet::kubernetes
