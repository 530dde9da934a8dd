// Canonical JSON (RFC 8785) and canonical resource URIs: any bytes. Oracle: the canonical form of the canonical form is
// itself, so that what is hashed and compared has one spelling.
#include <stdint.h>

#include <boost/json/value.hpp>

#include "common/json/json.h"
#include "common/oauth/access_token.h"
#include "common/oauth/atom.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto value = json::Parse(text, 64 * 1024); value.ok()) {
    const std::string once = oauth::Canonical(*value);
    const auto again = json::Parse(once, once.size());
    FUZZ_CHECK(again.ok());
    FUZZ_CHECK(oauth::Canonical(*again) == once);
  }
  if (const auto uri = oauth::CanonicalResource(text); uri.ok()) {
    const auto again = oauth::CanonicalResource(*uri);
    FUZZ_CHECK(again.ok() && *again == *uri);
    FUZZ_CHECK(uri->rfind("http", 0) == 0 && uri->find('#') == std::string::npos &&
               uri->find(' ') == std::string::npos);
  }
  return 0;
}
