// JWT-SVIDs as they arrive (Z4): any bytes as a token. Oracles: no such token is valid unless it is one of ours, and
// the unverified reader never accepts a shape that the verifier would not look at.
#include <stdint.h>

#include <memory>
#include <string>

#include "common/jose/jws.h"
#include "common/spiffe/jwt_svid.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/jwt_keys.h"

namespace signet::spiffe {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

std::shared_ptr<const Bundle> OwnBundle() {
  static const auto bundle = std::make_shared<const Bundle>(Bundle{
      .trust_domain = *TrustDomain::Parse("td"),
      .x509_authorities = {},
      .jwt_authorities = {{.key_id = "k1", .key = fuzz::Key().public_key()}},
  });
  return bundle;
}

// The seed corpus holds valid tokens of exactly these claims. ECDSA has two signatures for each, so the signed part and
// not the token tells them from forgeries.
constexpr absl::string_view kOwnClaims = R"({"aud":["a"],"exp":1800000300,"iat":1800000000,"sub":"spiffe://td/w"})";

}  // namespace
}  // namespace signet::spiffe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet;
  const absl::string_view token(reinterpret_cast<const char*>(data), size);
  const auto valid = spiffe::ValidateJwtSvid(
      token, "a", [](const auto&) { return spiffe::OwnBundle(); }, spiffe::kNow);
  const auto jws = jose::CompactJws::Parse(token);
  if (valid.ok()) {
    FUZZ_CHECK(jws.ok());
    FUZZ_CHECK(jws->payload == spiffe::kOwnClaims);
    FUZZ_CHECK(jws->header.algorithm == "ES256");
  }
  const auto read = spiffe::ParseUnverifiedJwtSvid(token);
  if (!read.ok()) return 0;
  FUZZ_CHECK(jws.ok());
  FUZZ_CHECK(token.size() <= 16 * 1024);
  FUZZ_CHECK(!read->audience.empty());
  FUZZ_CHECK(spiffe::Id::Parse(read->id.string()).ok());
  const size_t header_end = token.find('.');
  FUZZ_CHECK(jose::Base64UrlEncode(*jose::Base64UrlDecode(token.substr(0, header_end))) == token.substr(0, header_end));
  return 0;
}
