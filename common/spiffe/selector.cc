#include "common/spiffe/selector.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace signet::spiffe {
namespace {

constexpr size_t kMaxBytes = 4096;  // of "type:value"; ours, a path of PATH_MAX fits

}  // namespace

absl::StatusOr<Selector> Selector::Parse(absl::string_view text) {
  const size_t colon = text.find(':');
  if (colon == absl::string_view::npos) {
    return absl::InvalidArgumentError("selector: no colon, write TYPE:VALUE such as unix:uid:1000");
  }
  return FromParts(text.substr(0, colon), text.substr(colon + 1));
}

absl::StatusOr<Selector> Selector::FromParts(absl::string_view type, absl::string_view value) {
  if (type.size() + 1 + value.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat("selector: more than ", kMaxBytes, " bytes"));
  }
  if (type.empty()) return absl::InvalidArgumentError("selector: empty type");
  if (value.empty()) return absl::InvalidArgumentError("selector: empty value");
  for (char c : type) {
    if (c == ':') return absl::InvalidArgumentError("selector: the type holds a colon");
    if (!absl::ascii_isgraph(static_cast<unsigned char>(c))) {
      return absl::InvalidArgumentError("selector: the type holds a byte that is not printable ASCII");
    }
  }
  if (value.find('\0') != absl::string_view::npos) return absl::InvalidArgumentError("selector: NUL in the value");
  return Selector{.type = std::string(type), .value = std::string(value)};
}

void Normalize(Selectors& selectors) {
  std::sort(selectors.begin(), selectors.end());
  selectors.erase(std::unique(selectors.begin(), selectors.end()), selectors.end());
}

bool IsSubset(const Selectors& subset, const Selectors& of) {
  return !subset.empty() && std::includes(of.begin(), of.end(), subset.begin(), subset.end());
}

}  // namespace signet::spiffe
