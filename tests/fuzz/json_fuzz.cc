// The strict JSON reader. Oracles: what it accepts, Boost's own lenient reader accepts with the same value; and what is
// written from that value reads back the same, but for the last digit of a double, which Boost 1.81 does not keep.
#include <stdint.h>

#include <boost/json.hpp>
#include <string>

#include "common/json/json.h"
#include "tests/fuzz/check.h"

namespace {

void DropDoubles(boost::json::value& value) {
  if (value.is_double()) value = nullptr;
  if (value.is_array()) {
    for (auto& item : value.get_array()) DropDoubles(item);
  }
  if (value.is_object()) {
    for (auto& member : value.get_object()) DropDoubles(member.value());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  auto strict = signet::json::Parse(text, 1 << 20);
  if (!strict.ok()) return 0;
  boost::json::error_code ec;
  const boost::json::value lenient = boost::json::parse(boost::json::string_view(text.data(), text.size()), ec);
  FUZZ_CHECK(!ec);
  FUZZ_CHECK(lenient == *strict);
  auto again = signet::json::Parse(boost::json::serialize(*strict), 16 << 20);
  FUZZ_CHECK(again.ok());
  DropDoubles(*strict);
  DropDoubles(*again);
  FUZZ_CHECK(*again == *strict);
  return 0;
}
