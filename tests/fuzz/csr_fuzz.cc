// Certificate requests (Z3). The input is tried as a whole request and as the attributes of one that is signed
// properly, so that the parser behind the signature is reached. Oracles: OpenSSL accepts whatever we accept and reads
// the same key; the caps hold; what is issued depends on the key alone.
#include <openssl/x509.h>
#include <stdint.h>

#include <string>

#include "common/crypto/certificate_builder.h"
#include "common/crypto/csr.h"
#include "common/crypto/der.h"
#include "tests/fuzz/check.h"

namespace signet::crypto {
namespace {

const PrivateKey& Key() {
  static const PrivateKey key = PrivateKey::Generate(KeyType::kEcP256).value();
  return key;
}

// The verdict of a second parser, and its opinion of the key. It looks into attributes that we leave alone, so it may
// refuse to read what we accept.
bool OpensslAgrees(absl::string_view der, const std::string& spki) {
  const auto* in = reinterpret_cast<const unsigned char*>(der.data());
  X509_REQ* request = d2i_X509_REQ(nullptr, &in, static_cast<long>(der.size()));
  if (request == nullptr) return true;
  EVP_PKEY* key = X509_REQ_get0_pubkey(request);
  bool agrees = key != nullptr && X509_REQ_verify(request, key) == 1;
  unsigned char* encoded = nullptr;
  const int size = key != nullptr ? i2d_PUBKEY(key, &encoded) : 0;
  agrees = agrees && std::string(reinterpret_cast<char*>(encoded), static_cast<size_t>(size)) == spki;
  OPENSSL_free(encoded);
  X509_REQ_free(request);
  return agrees;
}

CertificateTemplate Template() {
  CertificateTemplate t;
  t.serial = "\x01";
  t.not_before = absl::FromUnixSeconds(1'800'000'000);
  t.not_after = t.not_before + absl::Hours(1);
  t.uri_sans = {"spiffe://example.org/web"};
  t.key_usage = kDigitalSignature;
  return t;
}

std::string Issue(const PublicKey& key) {
  const auto no_signature = [](HashAlgorithm, absl::string_view) -> absl::StatusOr<std::string> { return "signature"; };
  return IssueCertificate(Template(), key, "issuer", "id", KeyType::kEcP256, no_signature)->der();
}

void Try(absl::string_view der) {
  const auto csr = CertificateRequest::ParseAndVerify(der);
  if (!csr.ok()) {
    FUZZ_CHECK(csr.status().code() == absl::StatusCode::kInvalidArgument);
    return;
  }
  FUZZ_CHECK(der.size() <= 16 * 1024);
  const PublicKey& key = csr->public_key();
  FUZZ_CHECK(key.type() == KeyType::kEcP256 || key.type() == KeyType::kEcP384 || key.bits() >= 2048);
  FUZZ_CHECK(key.bits() <= 4096);
  FUZZ_CHECK(OpensslAgrees(der, key.spki_der()));
  FUZZ_CHECK(Issue(key) == Issue(PublicKey::ParseSpki(key.spki_der()).value()));
}

std::string SignedWith(absl::string_view attributes) {
  DerWriter info;
  info.Nest(kDerSequence, [&] {
    info.PutSmall(0);
    info.Nest(kDerSequence, [] {});
    info.PutRaw(Key().public_key().spki_der());
    info.Nest(DerContextConstructed(0), [&] { info.PutRaw(attributes); });
  });
  const std::string to_sign = info.Take();
  DerWriter out;
  out.Nest(kDerSequence, [&] {
    out.PutRaw(to_sign);
    out.Nest(kDerSequence, [&] { out.Put(kDerOid, "\x2a\x86\x48\xce\x3d\x04\x03\x02"); });
    out.PutBitString(Key().Sign(HashAlgorithm::kSha256, to_sign).value());
  });
  return out.Take();
}

}  // namespace
}  // namespace signet::crypto

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  signet::crypto::Try(text);
  signet::crypto::Try(signet::crypto::SignedWith(text));
  return 0;
}
