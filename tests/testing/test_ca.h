// Keys and certificates for tests: a root that signs, with knobs for what must be refused.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/crypto/certificate_builder.h"
#include "common/crypto/key.h"
#include "common/crypto/random.h"

namespace signet::testing {

inline crypto::MessageSigner SignerOf(crypto::PrivateKey key) {
  return
      [key = std::move(key)](crypto::HashAlgorithm hash, absl::string_view message) { return key.Sign(hash, message); };
}

// A certificate with its key. Aborts on failure: tests that want one call the builder themselves.
struct TestCert {
  crypto::PrivateKey key;
  crypto::Certificate certificate;
};

inline crypto::CertificateTemplate CaTemplate(absl::string_view common_name, absl::Time now) {
  crypto::CertificateTemplate t;
  t.serial = crypto::RandomSerialNumber();
  t.subject.common_name = std::string(common_name);
  t.not_before = now - absl::Hours(1);
  t.not_after = now + absl::Hours(24);
  t.is_ca = true;
  t.key_usage = crypto::kKeyCertSign | crypto::kCrlSign;
  return t;
}

inline crypto::CertificateTemplate LeafTemplate(absl::string_view id, absl::Time now) {
  crypto::CertificateTemplate t;
  t.serial = crypto::RandomSerialNumber();
  t.not_before = now - absl::Seconds(10);
  t.not_after = now + absl::Hours(1);
  t.uri_sans = {std::string(id)};
  t.key_usage = crypto::kDigitalSignature | crypto::kKeyEncipherment | crypto::kKeyAgreement;
  t.server_and_client_auth = true;
  return t;
}

inline TestCert SelfSigned(const crypto::CertificateTemplate& t, crypto::KeyType type = crypto::KeyType::kEcP256) {
  crypto::PrivateKey key = crypto::PrivateKey::Generate(type).value();
  crypto::Certificate certificate = crypto::SelfSign(t, key.public_key(), SignerOf(key)).value();
  return {std::move(key), std::move(certificate)};
}

inline TestCert IssuedBy(const TestCert& issuer, const crypto::CertificateTemplate& t,
                         crypto::KeyType type = crypto::KeyType::kEcP256) {
  crypto::PrivateKey key = crypto::PrivateKey::Generate(type).value();
  crypto::Certificate certificate =
      crypto::IssueCertificate(t, key.public_key(), issuer.certificate.subject_der(),
                               issuer.certificate.subject_key_id(), issuer.key.type(), SignerOf(issuer.key))
          .value();
  return {std::move(key), std::move(certificate)};
}

}  // namespace signet::testing
