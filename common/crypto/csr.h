// A PKCS#10 certificate signing request whose self-signature was checked: proof that the sender holds the key.
// Immutable value. Nothing but the public key may be taken from it, save in MintX509SVID (architecture decision 13).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/crypto/key.h"

namespace signet::crypto {

class CertificateRequest final {
 public:
  // Caps, before any cryptography: 16 KiB; RSA 2048..4096 bits; P-256, P-384. kInvalidArgument says which rule failed.
  static absl::StatusOr<CertificateRequest> ParseAndVerify(absl::string_view der);

  const PublicKey& public_key() const { return public_key_; }
  const std::vector<std::string>& uri_sans() const { return uri_sans_; }  // raw bytes by length
  const std::vector<std::string>& dns_sans() const { return dns_sans_; }
  bool has_other_sans() const { return has_other_sans_; }              // IP, email, otherName ...
  bool has_other_extensions() const { return has_other_extensions_; }  // anything but subjectAltName
  const std::string& common_name() const { return common_name_; }

  // A request for `key` with the given SANs, as agents and the CLI send it.
  static absl::StatusOr<std::string> Create(const PrivateKey& key, const std::vector<std::string>& uri_sans,
                                            const std::vector<std::string>& dns_sans = {});

 private:
  CertificateRequest() = default;
  PublicKey public_key_;
  std::vector<std::string> uri_sans_, dns_sans_;
  bool has_other_sans_ = false, has_other_extensions_ = false;
  std::string common_name_;
};

}  // namespace signet::crypto
