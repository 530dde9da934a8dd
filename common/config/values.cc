#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/load.h"

namespace signet::config {

void Errors::Add(absl::string_view key, absl::string_view problem_and_advice) {
  lines_.push_back(absl::StrCat(key, ": ", problem_and_advice));
}

absl::Status Errors::ToStatus() const {
  if (lines_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(lines_, "\n"));
}

absl::Duration ParseDuration(absl::string_view key, absl::string_view text, absl::Duration fallback, Errors& errors) {
  if (text.empty()) return fallback;
  absl::Duration value;
  if (!absl::ParseDuration(std::string(text), &value) || value <= absl::ZeroDuration() ||
      value == absl::InfiniteDuration()) {
    errors.Add(key,
               absl::StrCat("\"", absl::CHexEscape(text), "\" is no duration; write one such as 90s, 5m or 1h30m"));
    return fallback;
  }
  return value;
}

uint64_t ParseSize(absl::string_view key, absl::string_view text, uint64_t fallback, Errors& errors) {
  if (text.empty()) return fallback;
  static constexpr struct {
    absl::string_view suffix;
    uint64_t factor;
  } kUnits[] = {{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}, {"", 1}};
  for (const auto& unit : kUnits) {
    if (text.size() < unit.suffix.size() || text.substr(text.size() - unit.suffix.size()) != unit.suffix) continue;
    const absl::string_view number = text.substr(0, text.size() - unit.suffix.size());
    uint64_t value = 0;
    if (!number.empty() && absl::ascii_isdigit(number[0]) && absl::ascii_isdigit(number.back()) &&
        absl::SimpleAtoi(number, &value) && value <= std::numeric_limits<uint64_t>::max() / unit.factor) {
      return value * unit.factor;
    }
    break;
  }
  errors.Add(key, absl::StrCat("\"", absl::CHexEscape(text), "\" is no size; write one such as 4096, 64KiB or 1MiB"));
  return fallback;
}

std::string ResolvePath(absl::string_view base, absl::string_view path) {
  if (path.empty() || path[0] == '/' || base.empty()) return std::string(path);
  return absl::StrCat(base, base.back() == '/' ? "" : "/", path);
}

}  // namespace signet::config
