// Certificate chains (Z2). Oracles: what is read reads back the same, and OpenSSL, where it can read it, reads it
// alike; nobody but the two leafs of the corpus, made when the root below was, verifies under it; the rules of
// X509-SVID hold for whoever does.
#include <openssl/x509v3.h>
#include <stdint.h>

#include <algorithm>
#include <ctime>
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

std::string StringOf(const ASN1_STRING* s) {
  if (s == nullptr) return {};
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(s)),
                     static_cast<size_t>(ASN1_STRING_length(s)));
}
std::string DerOf(const X509_NAME* name) {
  const unsigned char* der = nullptr;
  size_t size = 0;
  FUZZ_CHECK(X509_NAME_get0_der(name, &der, &size) == 1);
  return std::string(reinterpret_cast<const char*>(der), size);
}
absl::Time TimeOf(const ASN1_TIME* time) {
  std::tm tm{};
  FUZZ_CHECK(ASN1_TIME_to_tm(time, &tm) == 1);
  return absl::FromTM(tm, absl::UTCTimeZone());
}

// The same fields by another parser: what OpenSSL verifies must be what we read.
void CompareWithOpenssl(const Certificate& c) {
  const auto* in = reinterpret_cast<const unsigned char*>(c.der().data());
  X509* x509 = d2i_X509(nullptr, &in, static_cast<long>(c.der().size()));
  if (x509 == nullptr) return;
  FUZZ_CHECK(TimeOf(X509_get0_notBefore(x509)) == c.not_before());
  FUZZ_CHECK(TimeOf(X509_get0_notAfter(x509)) == c.not_after());
  FUZZ_CHECK(DerOf(X509_get_subject_name(x509)) == c.subject_der());
  FUZZ_CHECK(DerOf(X509_get_issuer_name(x509)) == c.issuer_der());
  std::string serial = StringOf(X509_get0_serialNumber(x509));
  FUZZ_CHECK(serial.substr(std::min(serial.find_first_not_of('\0'), serial.size())) == c.serial());
  if ((X509_get_extension_flags(x509) & EXFLAG_INVALID) == 0) {
    FUZZ_CHECK((X509_get_extension_flags(x509) & EXFLAG_CA) == (c.is_ca() ? EXFLAG_CA : 0u));
    FUZZ_CHECK(((X509_get_extension_flags(x509) & EXFLAG_KUSAGE) != 0) == c.has_key_usage());
    FUZZ_CHECK(StringOf(X509_get0_subject_key_id(x509)) == c.subject_key_id());
    FUZZ_CHECK(StringOf(X509_get0_authority_key_id(x509)) == c.authority_key_id());
    if (c.has_key_usage()) {  // OpenSSL numbers the bits from the other end of each byte
      uint32_t bits = 0;
      for (int bit = 0; bit < 8; ++bit) bits |= (c.key_usage() >> bit & 1u) << (7 - bit);
      bits |= (c.key_usage() >> 8 & 1u) << 15;
      FUZZ_CHECK(X509_get_key_usage(x509) == bits);
    }
  }
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(x509, NID_subject_alt_name, nullptr, nullptr));
  if (names != nullptr) {
    std::vector<std::string> uris, dns;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
      const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
      if (name->type == GEN_URI) uris.push_back(StringOf(name->d.uniformResourceIdentifier));
      if (name->type == GEN_DNS) dns.push_back(StringOf(name->d.dNSName));
    }
    FUZZ_CHECK(uris == c.uri_sans() && dns == c.dns_sans());
    GENERAL_NAMES_free(names);
  }
  X509_free(x509);
}

void Read(const Certificate& c) {
  CompareWithOpenssl(c);
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
