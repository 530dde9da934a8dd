// Trust bundle documents, JWK sets and PEM (Z4). Oracle: what is read, written and read again is the same bundle.
#include <stdint.h>

#include <string>

#include "common/spiffe/bundle.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using signet::spiffe::Bundle;
  static const signet::spiffe::TrustDomain td = *signet::spiffe::TrustDomain::Parse("td");
  const auto bundle = Bundle::ParsePemOrJson(td, absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!bundle.ok()) return 0;
  const auto again = Bundle::ParseJson(td, bundle->ToSpiffeJson());
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(*again == *bundle);
  FUZZ_CHECK(again->Revision() == bundle->Revision());
  const auto jwks = Bundle::ParseJson(td, bundle->ToJwtJwks());
  FUZZ_CHECK(jwks.ok());
  FUZZ_CHECK(jwks->jwt_authorities == bundle->jwt_authorities && jwks->x509_authorities.empty());
  if (!bundle->x509_authorities.empty()) {
    const auto pem = Bundle::ParsePem(td, bundle->ToPem());
    FUZZ_CHECK(!pem.ok() || pem->x509_authorities == bundle->x509_authorities);  // PEM is capped at 64 certificates
  }
  static_cast<void>(bundle->Anchors());
  return 0;
}
