// What a Certificate holds, for the two places that make one: the parser and the builder. Included by common/crypto
// alone.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/crypto/certificate.h"

namespace signet::crypto {

struct Certificate::Fields {
  std::string der;
  PublicKey public_key;
  std::string serial;
  absl::Time not_before = absl::InfinitePast(), not_after = absl::InfinitePast();
  std::vector<std::string> uri_sans, dns_sans;
  std::string subject_der, issuer_der;
  std::string common_name;
  bool is_ca = false;
  bool has_key_usage = false;
  uint16_t key_usage = 0;
  std::string subject_key_id, authority_key_id;
};

struct CertificateAccess {
  using Fields = Certificate::Fields;
  static Certificate Make(Fields fields) {
    Certificate certificate;
    certificate.fields_ = std::make_shared<const Fields>(std::move(fields));
    return certificate;
  }
};

// The first commonName of a DER Name as UTF-8, in whatever string type it is encoded; empty when there is none.
std::string CommonNameOf(const std::string& name_der);

}  // namespace signet::crypto
