// Selectors: facts about a node or a process, "type:value". The type holds no colon; the value may.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace signet::spiffe {

struct Selector {
  std::string type, value;

  // kInvalidArgument: no colon, empty type, empty value, a control byte or space in the type, a NUL in the value, or over
  // 4 KiB in all.
  static absl::StatusOr<Selector> Parse(absl::string_view text);
  // The same rules for a selector that comes in two parts, where the type must hold no colon.
  static absl::StatusOr<Selector> FromParts(absl::string_view type, absl::string_view value);
  std::string ToString() const { return absl::StrCat(type, ":", value); }

  friend bool operator==(const Selector&, const Selector&) = default;
  friend auto operator<=>(const Selector&, const Selector&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Selector& s) {
    return H::combine(std::move(h), s.type, s.value);
  }
};

using Selectors = std::vector<Selector>;  // normalised: sorted, unique

void Normalize(Selectors& selectors);
// Both normalised. An empty `subset` is no subset: an entry without selectors matches nothing (fail closed).
bool IsSubset(const Selectors& subset, const Selectors& of);

}  // namespace signet::spiffe
