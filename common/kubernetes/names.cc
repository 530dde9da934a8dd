#include "common/kubernetes/names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace signet::kubernetes {
namespace {

bool IsLowerOrDigit(char c) {
  return absl::ascii_islower(static_cast<unsigned char>(c)) || absl::ascii_isdigit(static_cast<unsigned char>(c));
}
bool IsWordOrDot(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
}

// A label without its limit on length: those of a subdomain have none of their own in Kubernetes.
bool IsLabelOfAnyLength(absl::string_view name) {
  return !name.empty() && IsLowerOrDigit(name.front()) && IsLowerOrDigit(name.back()) &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsLowerOrDigit(c) || c == '-'; });
}

bool IsWord(absl::string_view text, size_t max) {
  return !text.empty() && text.size() <= max && text != "." && text != ".." &&
         std::all_of(text.begin(), text.end(), IsWordOrDot);
}

}  // namespace

bool IsLabel(absl::string_view name) { return name.size() <= 63 && IsLabelOfAnyLength(name); }

bool IsName(absl::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  const std::vector<absl::string_view> labels = absl::StrSplit(name, '.');
  return std::all_of(labels.begin(), labels.end(), IsLabelOfAnyLength);
}

bool IsConfigMapKey(absl::string_view key) { return IsWord(key, 253); }
bool IsUid(absl::string_view uid) { return IsWord(uid, 128); }

std::string EscapeQuery(absl::string_view value) {
  std::string escaped;
  for (const char c : value) {
    if (IsWordOrDot(c) || c == '~') {
      escaped.push_back(c);
    } else {
      absl::StrAppend(&escaped, "%", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return escaped;
}

}  // namespace signet::kubernetes
