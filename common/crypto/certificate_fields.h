// What a Certificate holds, for the two places that make one: the parser and the builder. Included by common/crypto
// alone.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
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
  bool client_auth = true;  // no extKeyUsage says otherwise
  std::string subject_key_id, authority_key_id;
  std::string issued_to;
};

struct CertificateAccess {
  using Fields = Certificate::Fields;
  static Certificate Make(Fields fields) {
    Certificate certificate;
    certificate.fields_ = std::make_shared<const Fields>(std::move(fields));
    return certificate;
  }
};

// 1.2.840.113556.1.8000.2554.41402.10615.56262.20437.46307.9463010.14114321.1: issued_to. From a random UUID, in the arc
// whose rule cuts it into arcs of at most 24 bits: one of 2.25.<UUID> is too large for Go, which then refuses the whole
// certificate.
inline constexpr absl::string_view kOidIssuedTo =
    "\x2a\x86\x48\x86\xf7\x14\x01\xbe\x40\x93\x7a\x82\xc3\x3a\xd2\x77\x83\xb7\x46\x81\x9f\x55\x82\xe9\x63\x84\xc1"
    "\xc9\x62\x86\xdd\xbc\x11\x01";

// The first commonName of a DER Name as UTF-8, in whatever string type it is encoded; empty when there is none.
std::string CommonNameOf(const std::string& name_der);

}  // namespace signet::crypto
