// YAML (JSON is YAML) into a configuration message. Every error at once, each with file, line and advice: unknown key
// (with the nearest known one), wrong type, two members of a oneof, duplicate key, no mapping.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <google/protobuf/message.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::config {

// `name` stands before each line number in the messages. kInvalidArgument, one message a line. Capped at 1 MiB,
// depth 32; anchors and aliases are refused (a billion laughs).
absl::Status LoadYaml(absl::string_view text, absl::string_view name, google::protobuf::Message& into);

// Where each key stands, "file:line", so that what is found wrong with a value later can still be shown there.
class Places {
 public:
  void Add(absl::string_view key, std::string place) { places_.emplace(key, std::move(place)); }
  // Puts its place before each line "key: problem" of a kInvalidArgument; a key the file does not have (one that is
  // missing, say) gets that of the nearest key above it.
  absl::Status Locate(const absl::Status& status) const;

 private:
  std::map<std::string, std::string, std::less<>> places_;
};

// Fills `into` as far as it can even when it fails, so that its values can be checked in the same go.
absl::Status LoadFile(const std::string& path, google::protobuf::Message& into, Places* places = nullptr);
// The errors of reading and those of checking what was read, as one status; OK when both are.
absl::Status AllErrors(const absl::Status& reading, const absl::Status& checking, const Places& places);
// For a message whose one field is a list of messages: the text may also be a bare list, or one bare item of it.
absl::Status LoadYamlList(absl::string_view text, absl::string_view name, size_t max_bytes,
                          google::protobuf::Message& into);

// Collects the errors of a whole configuration, to be told all at once.
class Errors {
 public:
  void Add(absl::string_view key, absl::string_view problem_and_advice);
  bool empty() const { return lines_.empty(); }
  absl::Status ToStatus() const;  // kInvalidArgument, a line each; OK when empty

 private:
  std::vector<std::string> lines_;
};

// "90s", "5m", "1h30m"; positive. An empty text gives `fallback`.
absl::Duration ParseDuration(absl::string_view key, absl::string_view text, absl::Duration fallback, Errors& errors);
// "64KiB", "1MiB", "4096". An empty text gives `fallback`.
uint64_t ParseSize(absl::string_view key, absl::string_view text, uint64_t fallback, Errors& errors);
// Relative paths are under `base`.
std::string ResolvePath(absl::string_view base, absl::string_view path);

}  // namespace signet::config
