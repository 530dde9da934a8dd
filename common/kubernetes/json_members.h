// Reading answers of the API server: a member that is absent or of another type reads as absent.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/json/json.h"

namespace signet::kubernetes {

// An answer of the API server. How many containers, arguments or labels an object has is its maker's choice, and one
// that is large must not hide the rest of a list; deep it cannot be. managedFields, who set which field, is
// much of it and nobody's concern here.
inline absl::StatusOr<boost::json::value> ParseAnswer(absl::string_view text, size_t max_bytes) {
  return json::Parse(text, {.max_bytes = max_bytes, .max_depth = 64, .any_size = true, .skip_member = "managedFields"});
}

inline const boost::json::value* Member(const boost::json::value* value, absl::string_view key) {
  if (value == nullptr || !value->is_object()) return nullptr;
  return value->get_object().if_contains({key.data(), key.size()});
}
inline std::string Text(const boost::json::value* value) {
  if (value == nullptr || !value->is_string()) return {};
  return std::string(value->get_string().data(), value->get_string().size());
}
inline std::string TextMember(const boost::json::value* value, absl::string_view key) {
  return Text(Member(value, key));
}
// Empty when there is no array.
inline const boost::json::array& Items(const boost::json::value* value) {
  static const boost::json::array kNone;
  return value != nullptr && value->is_array() ? value->get_array() : kNone;
}
// An object of texts: labels, annotations.
inline std::vector<std::pair<std::string, std::string>> TextPairs(const boost::json::value* value) {
  std::vector<std::pair<std::string, std::string>> pairs;
  if (value == nullptr || !value->is_object()) return pairs;
  for (const auto& [key, text] : value->get_object()) {
    if (text.is_string()) pairs.emplace_back(std::string(key.data(), key.size()), Text(&text));
  }
  return pairs;
}

}  // namespace signet::kubernetes
