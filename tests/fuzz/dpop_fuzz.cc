// DPoP proofs as they arrive: any bytes, with keys of the sender's choice. Oracles: a proof is good for one method, one
// URI, one token and a minute each way, and is never good under a symmetric or absent algorithm.
#include <stdint.h>

#include "common/oauth/dpop.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet;
  const absl::string_view proof(reinterpret_cast<const char*>(data), size);
  constexpr char kUri[] = "https://id.example.org/oauth2/token";
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  const auto read = oauth::VerifyDpop(proof, "POST", kUri, "token", now);
  if (!read.ok()) {
    FUZZ_CHECK(read.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  FUZZ_CHECK(size <= 8 * 1024);
  FUZZ_CHECK(read->jkt.size() == 43);
  FUZZ_CHECK(!read->jwt_id.empty() && read->jwt_id.size() <= 256);
  FUZZ_CHECK(!oauth::VerifyDpop(proof, "GET", kUri, "token", now).ok());
  FUZZ_CHECK(!oauth::VerifyDpop(proof, "POST", "https://other.example/", "token", now).ok());
  FUZZ_CHECK(!oauth::VerifyDpop(proof, "POST", kUri, "another", now).ok());
  FUZZ_CHECK(!oauth::VerifyDpop(proof, "POST", kUri, "token", now + absl::Minutes(3)).ok());
  return 0;
}
