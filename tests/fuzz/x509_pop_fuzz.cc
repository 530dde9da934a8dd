// Messages of the node attestor x509pop (Z14). Oracles: evidence that is read reads back the same; no made-up response
// proves a key; an agent signs nothing but a well-formed challenge.
#include <stdint.h>

#include <string>

#include "common/nodeattestor/x509_pop.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/jwt_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto chain = x509pop::ParseEvidence(text); chain.ok()) {
    FUZZ_CHECK(!chain->empty() && chain->size() <= x509pop::kMaxCertificates);
    FUZZ_CHECK(*x509pop::ParseEvidence(x509pop::EncodeEvidence(*chain)) == *chain);
  }
  const std::string nonce(32, 'n');
  FUZZ_CHECK(!x509pop::CheckResponse(fuzz::Key().public_key(), nonce, text).ok());
  if (const auto response = x509pop::Respond(fuzz::Key(), text); response.ok()) {
    FUZZ_CHECK(!x509pop::CheckResponse(fuzz::Key().public_key(), nonce, text).ok());
    FUZZ_CHECK(x509pop::Respond(fuzz::Key(), *response).ok());  // a response has the shape of a challenge, and no more
  }
  return 0;
}
