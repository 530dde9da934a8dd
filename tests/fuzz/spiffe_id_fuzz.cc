// SPIFFE IDs, trust domains and selectors (Z1). Oracles: the verdict of a second, plain reading of the grammar; what is
// accepted is unchanged, and its parts make it up again.
#include <stdint.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/spiffe/id.h"
#include "common/spiffe/selector.h"
#include "tests/fuzz/check.h"

namespace signet::spiffe {
namespace {

constexpr absl::string_view kLower = "abcdefghijklmnopqrstuvwxyz0123456789.-_";
constexpr absl::string_view kAny = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

bool NameIsGood(absl::string_view name) {
  return !name.empty() && name.size() <= 255 && name.find_first_not_of(kLower) == absl::string_view::npos;
}

// The grammar of SPIFFE-ID 2, written down once more and in another way: split first, look later.
bool IdIsGood(absl::string_view text) {
  if (text.size() > 2048) return false;
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  if (parts.size() < 3 || parts[0] != "spiffe:" || !parts[1].empty() || !NameIsGood(parts[2])) return false;
  for (size_t i = 3; i < parts.size(); ++i) {
    if (parts[i].empty() || parts[i] == "." || parts[i] == "..") return false;
    if (absl::string_view(parts[i]).find_first_not_of(kAny) != absl::string_view::npos) return false;
  }
  return true;
}

void TryId(absl::string_view text) {
  const auto id = Id::Parse(text);
  FUZZ_CHECK(id.ok() == IdIsGood(text));
  if (!id.ok()) return;
  FUZZ_CHECK(id->string() == text);
  FUZZ_CHECK(absl::StrCat("spiffe://", id->trust_domain_name(), id->path()) == text);
  FUZZ_CHECK(*Id::FromPath(id->trust_domain(), id->path()) == *id);
  FUZZ_CHECK(TrustDomain::Parse(id->trust_domain_name()).ok());
  FUZZ_CHECK(id->is_root() == (*id == Id::OfTrustDomain(id->trust_domain())));
  FUZZ_CHECK(!IsAgentId(*id) || IsReservedId(*id));
}

void TrySelector(absl::string_view text) {
  const auto selector = Selector::Parse(text);
  if (!selector.ok()) return;
  FUZZ_CHECK(selector->ToString() == text);
  FUZZ_CHECK(*Selector::FromParts(selector->type, selector->value) == *selector);
}

}  // namespace
}  // namespace signet::spiffe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet::spiffe;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  TryId(text);
  TryId(absl::StrCat("spiffe://td", text));
  FUZZ_CHECK(TrustDomain::Parse(text).ok() == NameIsGood(text));
  FUZZ_CHECK(!TrustDomain::ParseNameOrId(text).ok() || NameIsGood(text) || IdIsGood(text));
  TrySelector(text);
  return 0;
}
