// An X.509 certificate as an immutable value: its DER and what Signet reads of it.
// Parsing checks form, not trust; chain_verifier.h verifies, spiffe/x509_svid.h applies the SVID rules.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/crypto/key.h"

namespace signet::crypto {

// Key usage bits, as RFC 5280 4.2.1.3 numbers them.
enum KeyUsage : uint16_t {
  kDigitalSignature = 1 << 0,
  kKeyEncipherment = 1 << 2,
  kKeyAgreement = 1 << 4,
  kKeyCertSign = 1 << 5,
  kCrlSign = 1 << 6,
};

// A serial number in decimal, as SPIRE prints it; from its big-endian bytes.
std::string SerialToDecimal(absl::string_view serial);

class Certificate final {
 public:
  // Refuses more than 16 KiB, all that is not strict DER, an extension that stands twice, and a public key that
  // PublicKey::ParseSpki refuses: kInvalidArgument.
  static absl::StatusOr<Certificate> Parse(absl::string_view der);
  // One or more concatenated DER certificates, at most `max_count`; no stray bytes. Empty input: kInvalidArgument.
  static absl::StatusOr<std::vector<Certificate>> ParseChain(absl::string_view concatenated_der, size_t max_count = 16);
  static absl::StatusOr<std::vector<Certificate>> ParsePemChain(absl::string_view pem, size_t max_count = 64);

  const std::string& der() const;
  std::string Pem() const;
  const PublicKey& public_key() const;
  const std::string& serial() const;  // big-endian magnitude, no leading zeros
  std::string SerialDecimal() const;  // as SPIRE prints serial numbers
  absl::Time not_before() const;
  absl::Time not_after() const;
  const std::vector<std::string>& uri_sans() const;  // raw bytes by length: a NUL inside is visible
  const std::vector<std::string>& dns_sans() const;
  std::string subject() const;  // RFC 2253 text, for people
  const std::string& subject_der() const;
  const std::string& issuer_der() const;
  const std::string& common_name() const;  // first CN of the subject; empty when absent
  std::string issuer_common_name() const;
  bool is_ca() const;  // basicConstraints cA
  bool has_key_usage() const;
  uint16_t key_usage() const;                   // KeyUsage bits
  bool may_authenticate_clients() const;        // no extKeyUsage, or one with clientAuth (RFC 5280 4.2.1.12)
  const std::string& subject_key_id() const;    // raw; empty when absent
  const std::string& authority_key_id() const;  // raw; empty when absent
  const std::string& issued_to() const;         // content of Signet's private extension (spiffe/issued_to.h), or empty

  friend bool operator==(const Certificate& a, const Certificate& b) { return a.der() == b.der(); }

 private:
  friend struct CertificateAccess;
  struct Fields;
  const Fields& fields() const;
  std::shared_ptr<const Fields> fields_;
};

}  // namespace signet::crypto
