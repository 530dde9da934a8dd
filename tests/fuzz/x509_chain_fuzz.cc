// Certificate chains (Z2). Oracles: what is read reads back the same; nobody but the two leafs of the corpus, made when
// the root below was, verifies under it; the rules of X509-SVID hold for whoever does.
#include <stdint.h>

#include <string>

#include "absl/strings/escaping.h"
#include "common/crypto/certificate.h"
#include "common/crypto/chain_verifier.h"
#include "tests/fuzz/check.h"

namespace signet::crypto {
namespace {

// Its key is gone.
constexpr absl::string_view kRoot =
    "MIIBjjCCATOgAwIBAgIUD76o7XQnkosCKlweDv7bCVhIPDYwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJZnV6eiByb290MB4XDTI3"
    "MDExNTA3MDAwMFoXDTQ3MDExMDA4MDAwMFowFDESMBAGA1UEAwwJZnV6eiByb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"
    "e3w2JnNxsluk2XSl6UmNLP9b4XWJDlbnwKaG4q63KOb1Nka/Rk8fN0EgCCN5RxDBbmPC5LhH/YFsstjT8zKjCKNjMGEwDgYDVR0P"
    "AQH/BAQDAgEGMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFAuTuoRKMPzDTbRyMxdSlj0Wk4w6MB8GA1UdIwQYMBaAFAuTuoRK"
    "MPzDTbRyMxdSlj0Wk4w6MAoGCCqGSM49BAMCA0kAMEYCIQDE8419NlD/QYF5/szFVlvQQQNHwzGlwEV0+I/5N3sCTwIhAK39N3Cz"
    "D6HTo4K5cusVUxM0WkIs438a3NaVKfbkNnfQ";

const Certificate& Root() {
  static const Certificate root = [] {
    std::string der;
    FUZZ_CHECK(absl::Base64Unescape(kRoot, &der));
    return Certificate::Parse(der).value();
  }();
  return root;
}

void Read(const Certificate& c) {
  FUZZ_CHECK(Certificate::Parse(c.der()).value() == c);
  FUZZ_CHECK(Certificate::ParsePemChain(c.Pem())->front() == c);
  FUZZ_CHECK(c.der().size() <= 16 * 1024);
  FUZZ_CHECK(c.serial().size() <= 20);
  FUZZ_CHECK(!c.public_key().spki_der().empty());
  FUZZ_CHECK(PublicKey::ParseSpki(c.public_key().spki_der()).value() == c.public_key());
  FUZZ_CHECK(c.subject().find('\0') == std::string::npos);
  (void)c.issuer_common_name();
  (void)c.SerialDecimal();
}

void Verify(const std::vector<Certificate>& chain) {
  static const TrustAnchors anchors = TrustAnchors::Create({Root()}).value();
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  if (anchors.Verify(chain, now).ok()) {
    const Certificate& leaf = chain.front();
    FUZZ_CHECK(leaf.is_ca() || leaf.uri_sans() == std::vector<std::string>{"spiffe://example.org/a"});
    FUZZ_CHECK(leaf.not_before() <= now && now < leaf.not_after());
    FUZZ_CHECK(!anchors.Verify(chain, now + absl::Hours(24 * 365 * 30)).ok());
  }
  // And with the input itself as anchors: whatever happens must not crash, and no anchor is a leaf.
  const auto own = TrustAnchors::Create(chain);
  FUZZ_CHECK(!own.ok() || !own->Verify({chain.front()}, now).ok() || chain.size() > 1);
  if (own.ok()) (void)own->Verify(chain, now);
}

}  // namespace
}  // namespace signet::crypto

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace signet::crypto;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& chain : {Certificate::ParseChain(text), Certificate::ParsePemChain(text)}) {
    if (!chain.ok()) continue;
    for (const Certificate& certificate : *chain) Read(certificate);
    Verify(*chain);
  }
  return 0;
}
