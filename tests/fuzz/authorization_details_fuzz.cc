// authorization_details as a client sends them (RFC 9396), and permissions as they lie in records: any bytes. Oracles:
// what is read is written and read again alike, and two sets of permissions meet within both.
#include <stdint.h>

#include <utility>

#include "common/oauth/access_token.h"
#include "common/oauth/atom.h"
#include "tests/fuzz/check.h"

namespace signet::oauth {
namespace {

void CheckDetails(absl::string_view text) {
  const auto all = ParseAuthorizationDetails(text);
  if (!all.ok()) return;
  FUZZ_CHECK(text.size() <= kMaxDetailsBytes);
  Atoms atoms;
  for (const ToolCallDetails& details : *all) {
    FUZZ_CHECK(!details.tools.empty() && details.tools.size() <= kMaxAtoms);
    FUZZ_CHECK(*CanonicalResource(details.resource) == details.resource);
    FUZZ_CHECK(!details.max_calls.has_value() || *details.max_calls > 0);
    for (const std::string& tool : details.tools) {
      const auto hash = details.tool_hashes.find(tool);
      atoms.push_back({.resource = details.resource,
                       .action = tool,
                       .tool = true,
                       .tool_hash = hash == details.tool_hashes.end() ? std::string(64, '0') : hash->second,
                       .constraints = details.constraints});
    }
  }
  const auto normal = Normalize(atoms);
  if (!normal.ok()) return;  // one tool in two ways
  const std::string written = AuthorizationDetails(*normal, std::nullopt);
  if (written.size() > kMaxDetailsBytes) return;  // hashes were added
  const auto again = ParseAuthorizationDetails(written);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(*ParseAtoms(CanonicalJson(*normal)) == *normal);
}

void CheckAtoms(absl::string_view text) {
  // Two sets in one input: what stands before and after a line feed.
  const size_t middle = text.find('\n');
  const auto a = ParseAtoms(text.substr(0, middle));
  const auto b = middle == absl::string_view::npos ? a : ParseAtoms(text.substr(middle + 1));
  if (!a.ok() || !b.ok()) return;
  FUZZ_CHECK(*ParseAtoms(CanonicalJson(*a)) == *a);
  const Atoms both = Meet(*a, *b);
  FUZZ_CHECK(both == Meet(*b, *a));
  FUZZ_CHECK(Within(both, *a) && Within(both, *b) && Within(*a, *a));
  FUZZ_CHECK(Meet(both, *a) == both);
  FUZZ_CHECK(Removed(*a, both).size() + both.size() == a->size());
}

}  // namespace
}  // namespace signet::oauth

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  signet::oauth::CheckDetails(text);
  signet::oauth::CheckAtoms(text);
  return 0;
}
