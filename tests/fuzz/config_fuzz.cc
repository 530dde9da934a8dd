// The configuration reader, on both schemas. Oracles: it refuses with a line for each error and no more than it may;
// what it accepts, printed as JSON (which is YAML) and read again, is the same message.
#include <stdint.h>

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <string>

#include "common/config/load.h"
#include "config/agent.pb.h"
#include "config/server.pb.h"
#include "tests/fuzz/check.h"

namespace {

template <typename Config>
void Try(absl::string_view text) {
  Config config;
  const absl::Status status = signet::config::LoadYaml(text, "f", config);
  if (!status.ok()) {
    const absl::string_view message = status.message();
    FUZZ_CHECK(absl::IsInvalidArgument(status));
    FUZZ_CHECK(message.substr(0, 1) == "f");
    FUZZ_CHECK(std::count(message.begin(), message.end(), '\n') <= 50);
    return;
  }
  std::string json;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  if (!google::protobuf::util::MessageToJsonString(config, &json, options).ok()) return;  // text that is not UTF-8
  Config again;
  FUZZ_CHECK(signet::config::LoadYaml(json, "f", again).ok());
  FUZZ_CHECK(google::protobuf::util::MessageDifferencer::Equals(config, again));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  Try<signet::config::Server>(text);
  Try<signet::config::Agent>(text);
  return 0;
}
