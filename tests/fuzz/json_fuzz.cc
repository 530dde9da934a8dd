// The strict JSON reader. Oracles: what it accepts, Boost's own lenient reader accepts with the same value; and what is
// written from that value reads back the same.
#include <stdint.h>

#include <boost/json.hpp>
#include <string>

#include "common/json/json.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto strict = signet::json::Parse(text, 1 << 20);
  if (!strict.ok()) return 0;
  boost::json::error_code ec;
  const boost::json::value lenient = boost::json::parse(boost::json::string_view(text.data(), text.size()), ec);
  FUZZ_CHECK(!ec);
  FUZZ_CHECK(lenient == *strict);
  const auto again = signet::json::Parse(boost::json::serialize(*strict), 16 << 20);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(*again == *strict);
  return 0;
}
