// Builds certificates: DER encoded directly, signed by a function, so that the key may live anywhere.
// Pure apart from the signer. Errors: kInvalidArgument for a template that cannot be encoded, else what the signer
// says.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/crypto/certificate.h"
#include "common/crypto/key.h"

namespace signet::crypto {

struct DistinguishedName {
  std::string country, organization, organizational_unit, common_name, serial_number;  // empty: left out
  bool empty() const {
    return country.empty() && organization.empty() && organizational_unit.empty() && common_name.empty() &&
           serial_number.empty();
  }
};

struct CertificateTemplate {
  std::string serial;  // RandomSerialNumber()
  DistinguishedName subject;
  absl::Time not_before, not_after;  // whole seconds; UTCTime to 2049, GeneralizedTime after (RFC 5280 4.1.2.5)
  std::vector<std::string> uri_sans, dns_sans;
  bool is_ca = false;
  uint16_t key_usage = 0;  // KeyUsage bits; the extension is critical
  bool server_and_client_auth = false;
  std::string issued_to;  // DER of spiffe/issued_to.h, not critical; empty: none
};

// Signs `message` with the issuer's key: DER ECDSA-Sig-Value or RSASSA-PKCS1-v1_5.
using MessageSigner = std::function<absl::StatusOr<std::string>(HashAlgorithm hash, absl::string_view message)>;

// `issuer_subject_der` and `issuer_key_id` name the issuer (its subject, its subject key id). The signature algorithm
// follows from the type of `issuer_key`: SHA-256, for P-384 SHA-384. Adds SKI and AKI; marks the SAN critical when the
// subject is empty (X509-5).
absl::StatusOr<Certificate> IssueCertificate(const CertificateTemplate& tmpl, const PublicKey& subject_key,
                                             absl::string_view issuer_subject_der, absl::string_view issuer_key_id,
                                             KeyType issuer_key, const MessageSigner& sign);
absl::StatusOr<Certificate> SelfSign(const CertificateTemplate& tmpl, const PublicKey& key, const MessageSigner& sign);

}  // namespace signet::crypto
