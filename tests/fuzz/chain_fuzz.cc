// Chain files as one may be handed: any bytes, keys included. Oracles: only what is whole is proven, and a chain that
// is proven no longer is without any of its receipts, under exchanged keys, or without its token.
#include <stdint.h>

#include <utility>

#include "common/oauth/chain_file.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet;
  const auto file = oauth::ChainFile::Parse(absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!file.ok()) return 0;
  const oauth::ChainFinding finding = file->Verify();
  FUZZ_CHECK(finding.proven == finding.problem.empty());
  if (!finding.proven) return 0;
  FUZZ_CHECK(finding.token.has_value() && !finding.hops.empty());
  FUZZ_CHECK(finding.token->context.receipts == static_cast<int>(finding.hops.size()));
  for (size_t i = 1; i < finding.hops.size(); ++i) {
    FUZZ_CHECK(oauth::Within(finding.hops[i].bounds, finding.hops[i - 1].bounds));
    FUZZ_CHECK(finding.hops[i].expires_at <= finding.hops[i - 1].expires_at);
  }
  FUZZ_CHECK(oauth::Within(finding.token->atoms, finding.hops.front().bounds));
  oauth::ChainFile changed = *file;
  changed.token.clear();
  FUZZ_CHECK(!changed.Verify().proven);
  changed = *file;
  changed.issuer += "x";
  FUZZ_CHECK(!changed.Verify().proven);
  if (file->receipts.size() != finding.hops.size()) return 0;  // inside the token, or picked from a tree
  for (size_t i = 0; i < file->receipts.size(); ++i) {
    changed = *file;
    changed.receipts.erase(changed.receipts.begin() + static_cast<std::ptrdiff_t>(i));
    if (!changed.receipts.empty()) FUZZ_CHECK(!changed.Verify().proven);
  }
  return 0;
}
