// What minting costs by itself, beside the raw operations of OpenSSL that it cannot do without. One thread, CPU time.
// Prints nanoseconds an operation; the last column is the cost above the raw operations of the row.
#include <openssl/ec.h>
#include <openssl/evp.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>

#include "common/crypto/chain_verifier.h"
#include "common/crypto/csr.h"
#include "common/keymanager/memory_key_manager.h"
#include "common/spiffe/id.h"
#include "server/ca/certificate_authority.h"

namespace signet {
namespace {

double CpuNanoseconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

double Measure(const char* what, double raw, const std::function<bool()>& operation) {
  constexpr int kRounds = 5, kOperations = 4000;
  double best = 1e18;
  for (int round = 0; round < kRounds; ++round) {
    const double start = CpuNanoseconds();
    for (int i = 0; i < kOperations; ++i) {
      if (!operation()) {
        std::fprintf(stderr, "%s failed\n", what);
        std::exit(1);
      }
    }
    best = std::min(best, (CpuNanoseconds() - start) / kOperations);
  }
  std::printf("%-58s %9.0f", what, best);
  if (raw > 0) std::printf("   raw %7.0f   above it %6.0f", raw, best - raw);
  std::printf("\n");
  return best;
}

// ECDSA P-256 with everything prepared: nothing can be cheaper with this library.
double RawSign() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  EVP_PKEY_CTX* ctx = EVP_PKEY_CTX_new(key, nullptr);
  EVP_PKEY_sign_init(ctx);
  const unsigned char digest[32] = {1};
  const double cost = Measure("OpenSSL: sign a digest, P-256", 0, [&] {
    unsigned char signature[80];
    size_t size = sizeof signature;
    return EVP_PKEY_sign(ctx, signature, &size, digest, sizeof digest) == 1;
  });
  EVP_PKEY_CTX_free(ctx);
  EVP_PKEY_free(key);
  return cost;
}

double RawVerify() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  EVP_PKEY_CTX* ctx = EVP_PKEY_CTX_new(key, nullptr);
  unsigned char signature[80];
  size_t size = sizeof signature;
  const unsigned char digest[32] = {1};
  EVP_PKEY_sign_init(ctx);
  EVP_PKEY_sign(ctx, signature, &size, digest, sizeof digest);
  EVP_PKEY_verify_init(ctx);
  const double cost = Measure("OpenSSL: verify a digest, P-256", 0,
                              [&] { return EVP_PKEY_verify(ctx, signature, size, digest, sizeof digest) == 1; });
  EVP_PKEY_CTX_free(ctx);
  EVP_PKEY_free(key);
  return cost;
}

int Run() {
  const double sign = RawSign(), verify = RawVerify();
  SystemClock clock;
  MemoryKeyManager keys;
  const server::IssuePolicy policy{spiffe::TrustDomain::Parse("example.org").value()};
  const crypto::PublicKey root_key = keys.GenerateKey("x509-CA-A", crypto::KeyType::kEcP256).value();
  (void)keys.GenerateKey("JWT-Signer-A", crypto::KeyType::kEcP256).value();
  const crypto::Certificate root =
      crypto::SelfSign(server::AuthorityTemplate(policy, clock.Now()), root_key,
                       [&](crypto::HashAlgorithm hash, absl::string_view m) { return keys.Sign("x509-CA-A", hash, m); })
          .value();
  const LatestValue<server::ActiveAuthorities> authorities(server::ActiveAuthorities{
      server::ActiveX509{"x509-CA-A", root, {}},
      server::ActiveJwt{"JWT-Signer-A", "kid", crypto::KeyType::kEcP256, clock.Now() + absl::Hours(24)}});
  const server::CertificateAuthority ca(policy, keys, authorities, clock);
  const spiffe::Entry entry{"e",
                            spiffe::Id::Parse("spiffe://example.org/web").value(),
                            spiffe::Id::Parse("spiffe://example.org/p").value(),
                            {}};
  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const std::string csr = crypto::CertificateRequest::Create(key, {entry.spiffe_id.string()}).value();
  const std::vector<crypto::Certificate> chain = ca.SignWorkload(entry, key.public_key())->chain;
  const crypto::TrustAnchors anchors = crypto::TrustAnchors::Create({root}).value();

  Measure("KeyManager: hash and sign", sign,
          [&] { return keys.Sign("x509-CA-A", crypto::HashAlgorithm::kSha256, "m").ok(); });
  Measure("CA: X.509-SVID for a key", sign, [&] { return ca.SignWorkload(entry, key.public_key()).ok(); });
  Measure("CSR: read and verify", verify, [&] { return crypto::CertificateRequest::ParseAndVerify(csr).ok(); });
  Measure("CSR to X.509-SVID", sign + verify, [&] {
    const auto request = crypto::CertificateRequest::ParseAndVerify(csr);
    return request.ok() && ca.SignWorkload(entry, request->public_key()).ok();
  });
  Measure("CA: JWT-SVID", sign,
          [&] { return ca.SignJwt(entry.spiffe_id, {"audience"}, absl::Minutes(5), false).ok(); });
  Measure("agent: new key and CSR", 0, [&] {
    const auto fresh = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
    return fresh.ok() && crypto::CertificateRequest::Create(*fresh, {entry.spiffe_id.string()}).ok();
  });
  const std::string pkcs8 = key.Pkcs8Der();
  Measure("private key: to PKCS#8", 0, [&] { return !key.Pkcs8Der().empty(); });
  Measure("private key: from PKCS#8", 0, [&] { return crypto::PrivateKey::ParsePkcs8(pkcs8).ok(); });
  Measure("certificate: parse", 0, [&] { return crypto::Certificate::Parse(chain[0].der()).ok(); });
  Measure("chain of one under a root: verify", verify, [&] { return anchors.Verify(chain, clock.Now()).ok(); });
  return 0;
}

}  // namespace
}  // namespace signet

int main() { return signet::Run(); }
