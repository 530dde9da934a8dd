// A YAML document as a plain tree with line numbers: what load.cc turns into a message. JSON is YAML.
// Refused, so that hostile text costs no more than its own size: over `max_bytes`, depth over 32, anchors and aliases,
// tags, a second document.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::config {

struct YamlMember;

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMapping };
  Kind kind = Kind::kNull;
  int line = 1;  // from 1
  std::string scalar;
  bool quoted = false;
  std::vector<YamlNode> items;      // kSequence
  std::vector<YamlMember> members;  // kMapping, in the order of the text
};
struct YamlMember {  // not a std::pair: clang's wants both types complete where the vector stands
  YamlNode first, second;
};

// kInvalidArgument: "name:line: what". Empty text is a kNull node.
absl::StatusOr<YamlNode> ParseYaml(absl::string_view text, absl::string_view name, size_t max_bytes = 1 << 20);

}  // namespace signet::config
