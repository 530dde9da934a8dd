// Reads the members of one JSON object strictly: each is asked for by name, the first thing wrong is kept, and what
// nobody asked for can be refused. After an error every reader answers with an empty value. Not for use outside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::oauth {

inline constexpr size_t kMaxMemberBytes = 4096;          // of one text
inline constexpr int64_t kMaxSeconds = 253'402'300'799;  // 9999-12-31T23:59:59Z
inline absl::string_view View(const boost::json::string& text) { return {text.data(), text.size()}; }
inline boost::json::string_view JsonView(absl::string_view text) { return {text.data(), text.size()}; }

class Members {
 public:
  // `what` names the object in errors and must outlive this.
  Members(const boost::json::object& object, absl::string_view what) : object_(object), what_(what) {}

  // Null: absent.
  const boost::json::value* Find(absl::string_view name) {
    const boost::json::value* value = object_.if_contains(JsonView(name));
    if (value != nullptr) ++seen_;
    return value;
  }
  std::string Text(absl::string_view name) {  // required, not empty
    std::string text = TextOr(name);
    if (text.empty()) Fail(name, "missing or empty");
    return text;
  }
  std::string TextOr(absl::string_view name) {  // absent: empty
    const boost::json::value* value = Find(name);
    if (value == nullptr) return "";
    const boost::json::string* text = value->if_string();
    if (text == nullptr) return Fail(name, "not a string"), "";
    if (text->size() > kMaxMemberBytes) return Fail(name, "too long"), "";
    return std::string(View(*text));
  }
  std::optional<int64_t> Integer(absl::string_view name, int64_t min, int64_t max) {
    const boost::json::value* value = Find(name);
    if (value == nullptr) return std::nullopt;
    const int64_t* number = value->if_int64();
    if (number == nullptr) return Fail(name, "not an integer"), std::nullopt;
    if (*number < min || *number > max) return Fail(name, "out of range"), std::nullopt;
    return *number;
  }
  int64_t RequiredInteger(absl::string_view name, int64_t min, int64_t max) {
    const std::optional<int64_t> number = Integer(name, min, max);
    if (!number.has_value()) Fail(name, "missing");
    return number.value_or(min);
  }
  absl::Time RequiredTime(absl::string_view name) {
    return absl::FromUnixSeconds(RequiredInteger(name, 0, kMaxSeconds));
  }
  absl::Time TimeOr(absl::string_view name, absl::Time absent) {
    const std::optional<int64_t> seconds = Integer(name, 0, kMaxSeconds);
    return seconds.has_value() ? absl::FromUnixSeconds(*seconds) : absent;
  }
  const boost::json::array* Array(absl::string_view name, size_t max) {
    const boost::json::value* value = Find(name);
    if (value == nullptr) return nullptr;
    const boost::json::array* array = value->if_array();
    if (array == nullptr) return Fail(name, "not an array"), nullptr;
    if (array->size() > max) return Fail(name, "too many items"), nullptr;
    return array;
  }
  std::vector<std::string> Texts(absl::string_view name, size_t max, size_t max_bytes = kMaxMemberBytes) {
    std::vector<std::string> texts;
    const boost::json::array* array = Array(name, max);
    if (array == nullptr) return texts;
    for (const boost::json::value& item : *array) {
      const boost::json::string* text = item.if_string();
      if (text == nullptr || text->empty() || text->size() > max_bytes)
        return Fail(name, "an item is not a text"), texts;
      texts.emplace_back(View(*text));
    }
    return texts;
  }
  const boost::json::object* Object(absl::string_view name) {
    const boost::json::value* value = Find(name);
    if (value == nullptr) return nullptr;
    if (value->if_object() == nullptr) Fail(name, "not an object");
    return value->if_object();
  }

  void Fail(absl::string_view name, absl::string_view problem) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrCat(what_, ": \"", name, "\": ", problem));
  }
  void Take(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }
  bool ok() const { return status_.ok(); }
  absl::Status status() const { return status_; }
  // Every name must have been asked for at most once.
  absl::Status NothingElse() {
    if (status_.ok() && seen_ != object_.size()) {
      return absl::InvalidArgumentError(absl::StrCat(what_, ": holds a member that is not known"));
    }
    return status_;
  }

 private:
  const boost::json::object& object_;
  const absl::string_view what_;
  absl::Status status_;
  size_t seen_ = 0;
};

}  // namespace signet::oauth
