// Registration entries and bundles as they come off the wire. Oracle: what is read, written and read again is the same;
// every cap holds for what is read.
#include <stdint.h>

#include <string>

#include <google/protobuf/stubs/logging.h>

#include "common/spiffe/wire.h"
#include "spire/api/types/bundle.pb.h"
#include "spire/api/types/entry.pb.h"
#include "tests/fuzz/check.h"

namespace signet::spiffe {
namespace {

void TryEntry(const std::string& bytes) {
  wire::Entry message;
  if (!message.ParseFromString(bytes)) return;
  const auto entry = EntryFromWire(message);
  if (!entry.ok()) return;
  FUZZ_CHECK(!entry->selectors.empty() && entry->selectors.size() <= kMaxSelectors);
  FUZZ_CHECK(entry->dns_names.size() <= kMaxDnsNames && entry->federates_with.size() <= kMaxFederatesWith);
  FUZZ_CHECK(entry->hint.size() <= kMaxHintBytes);
  FUZZ_CHECK(entry->x509_svid_ttl >= absl::ZeroDuration() && entry->expires_at >= absl::UnixEpoch());
  wire::Entry written;
  ToWire(*entry, &written);
  const auto again = EntryFromWire(written);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(*again == *entry);
}

void TryBundle(const std::string& bytes) {
  wire::Bundle message;
  if (!message.ParseFromString(bytes)) return;
  const auto bundle = BundleFromWire(message);
  if (!bundle.ok()) return;
  wire::Bundle written;
  ToWire(*bundle, &written);
  const auto again = BundleFromWire(written);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(*again == *bundle);
}

}  // namespace
}  // namespace signet::spiffe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  [[maybe_unused]] static const auto quiet = google::protobuf::SetLogHandler(nullptr);  // bad UTF-8, said each time
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  signet::spiffe::TryEntry(bytes);
  signet::spiffe::TryBundle(bytes);
  return 0;
}
