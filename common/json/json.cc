#include "common/json/json.h"

#include <charconv>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/value.hpp>
#include <boost/json/value_stack.hpp>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace signet::json {
namespace {

using boost::json::error_code;
using boost::json::string_view;

// The keys of one open object. Most objects are small: a scan beats a hash there, and nothing is quadratic beyond it.
class Keys {
 public:
  void Clear() {
    few_.clear();
    many_.clear();
  }
  // False when `key` was there already.
  bool Insert(const std::string& key) {
    if (few_.size() < kFew) {
      for (const std::string& k : few_) {
        if (k == key) return false;
      }
      few_.push_back(key);
      return true;
    }
    if (many_.empty()) many_.insert(few_.begin(), few_.end());
    return many_.insert(key).second;
  }

 private:
  static constexpr size_t kFew = 16;
  std::vector<std::string> few_;
  absl::flat_hash_set<std::string> many_;
};

// What Boost's parser calls. Returning false stops it; `refusal` then says why.
template <bool kAnySize>
class StrictHandler {
 public:
  static constexpr size_t kUnbounded = size_t{1} << 31;  // the cap on the whole text is what bounds it
  static constexpr size_t max_object_size = kAnySize ? kUnbounded : 10'000;
  static constexpr size_t max_array_size = kAnySize ? kUnbounded : 100'000;
  static constexpr size_t max_key_size = kAnySize ? kUnbounded : 4096;
  static constexpr size_t max_string_size = size_t{1} << 26;  // likewise

  void Skip(absl::string_view member) { skip_member_ = member; }
  const char* refusal() const { return refusal_; }
  boost::json::value Release() { return stack_.release(); }

  bool on_document_begin(error_code&) {
    stack_.reset();
    return true;
  }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) {
    if (skipping_ > 0) return Deeper();
    Keep();
    if (open_objects_ == objects_.size()) objects_.emplace_back();
    Object& object = objects_[open_objects_++];
    object.keys.Clear();
    object.skipped = 0;
    return true;
  }
  bool on_object_end(size_t n, error_code&) {
    if (skipping_ > 0) return Shallower();
    --open_objects_;
    stack_.push_object(n - objects_[open_objects_].skipped);
    return true;
  }
  bool on_array_begin(error_code&) {
    if (skipping_ > 0 || pending_) return Deeper();
    return true;
  }
  bool on_array_end(size_t n, error_code&) {
    if (skipping_ > 0) return Shallower();
    stack_.push_array(n);
    return true;
  }
  bool on_key_part(string_view part, size_t, error_code&) {
    if (skipping_ == 0) key_.append(part.data(), part.size());
    return true;
  }
  bool on_key(string_view part, size_t, error_code& ec) {
    if (skipping_ > 0) return true;
    key_.append(part.data(), part.size());
    Object& object = objects_[open_objects_ - 1];
    if (!object.keys.Insert(key_)) return Refuse("duplicate key", ec);
    if (!skip_member_.empty() && key_ == skip_member_) {
      pending_ = true;  // until it is known whether an array comes
    } else {
      stack_.push_key(string_view(key_.data(), key_.size()));
    }
    key_.clear();
    return true;
  }
  bool on_string_part(string_view part, size_t, error_code&) {
    if (skipping_ == 0) text_.append(part.data(), part.size());
    return true;
  }
  bool on_string(string_view part, size_t, error_code&) {
    if (skipping_ > 0) return true;
    Keep();
    text_.append(part.data(), part.size());
    stack_.push_string(string_view(text_.data(), text_.size()));
    text_.clear();
    return true;
  }
  bool on_number_part(string_view, error_code&) { return true; }
  bool on_int64(int64_t number, string_view, error_code&) {
    if (skipping_ > 0) return true;
    Keep();
    stack_.push_int64(number);
    return true;
  }
  bool on_uint64(uint64_t number, string_view, error_code&) {
    if (skipping_ > 0) return true;
    Keep();
    stack_.push_uint64(number);
    return true;
  }
  bool on_double(double number, string_view text, error_code& ec) {
    // Boost's own reading may be off in the last place (its 1.81 has no precise mode), and canonical JSON shows it.
    double exact = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), exact);
    if (read.ec == std::errc() && read.ptr == text.data() + text.size()) number = exact;
    if (!std::isfinite(number)) return Refuse("number out of range", ec);  // Boost reads 1e400 as infinity
    if (skipping_ > 0) return true;
    Keep();
    stack_.push_double(number);
    return true;
  }
  bool on_bool(bool value, error_code&) {
    if (skipping_ > 0) return true;
    Keep();
    stack_.push_bool(value);
    return true;
  }
  bool on_null(error_code&) {
    if (skipping_ > 0) return true;
    Keep();
    stack_.push_null();
    return true;
  }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }

 private:
  struct Object {
    Keys keys;
    size_t skipped = 0;  // members
  };

  // Within an array that is left out.
  bool Deeper() {
    if (std::exchange(pending_, false)) ++objects_[open_objects_ - 1].skipped;
    ++skipping_;
    return true;
  }
  bool Shallower() {
    --skipping_;
    return true;
  }
  // The member by that name is no array.
  void Keep() {
    if (std::exchange(pending_, false)) stack_.push_key(string_view(skip_member_.data(), skip_member_.size()));
  }

  bool Refuse(const char* why, error_code& ec) {
    refusal_ = why;
    ec = boost::json::error::syntax;
    return false;
  }

  boost::json::value_stack stack_;
  std::vector<Object> objects_;  // by depth; storage is reused from object to object
  size_t open_objects_ = 0;
  absl::string_view skip_member_;
  bool pending_ = false;
  size_t skipping_ = 0;  // levels
  std::string key_, text_;
  const char* refusal_ = nullptr;
};

template <bool kAnySize>
absl::StatusOr<boost::json::value> ParseWithin(absl::string_view text, const Limits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("JSON: ", text.size(), " bytes, more than ", limits.max_bytes));
  }
  boost::json::parse_options options;
  options.max_depth = limits.max_depth;
  boost::json::basic_parser<StrictHandler<kAnySize>> parser(options);
  parser.handler().Skip(limits.skip_member);
  error_code ec;
  const size_t consumed = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec && consumed < text.size()) ec = boost::json::error::extra_data;
  if (ec) {
    const char* refusal = parser.handler().refusal();
    return absl::InvalidArgumentError(
        absl::StrCat("JSON: ", refusal != nullptr ? refusal : ec.message(), " at byte ", consumed));
  }
  return parser.handler().Release();
}

}  // namespace

absl::StatusOr<boost::json::value> Parse(absl::string_view text, size_t max_bytes) {
  return ParseWithin<false>(text, {.max_bytes = max_bytes});
}

absl::StatusOr<boost::json::value> Parse(absl::string_view text, const Limits& limits) {
  return limits.any_size ? ParseWithin<true>(text, limits) : ParseWithin<false>(text, limits);
}

}  // namespace signet::json
