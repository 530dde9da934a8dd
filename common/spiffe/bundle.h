// A trust bundle: what is trusted to sign for one trust domain, and its documents (SPIFFE Trust Domain and Bundle 4).
// Plain value. The trust domain name is kept beside the document, never inside it (BND-12).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/crypto/certificate.h"
#include "common/crypto/chain_verifier.h"
#include "common/crypto/key.h"
#include "common/spiffe/trust_domain.h"

namespace signet::spiffe {

struct X509Authority {
  crypto::Certificate certificate;
  bool tainted = false;
  friend bool operator==(const X509Authority&, const X509Authority&) = default;
};

struct JwtAuthority {
  std::string key_id;
  crypto::PublicKey key;
  absl::Time expires_at = absl::UnixEpoch();  // zero: unknown (foreign bundles)
  bool tainted = false;
  friend bool operator==(const JwtAuthority&, const JwtAuthority&) = default;
};

struct Bundle {
  TrustDomain trust_domain;
  std::vector<X509Authority> x509_authorities;
  std::vector<JwtAuthority> jwt_authorities;
  absl::Duration refresh_hint = absl::ZeroDuration();  // zero: none given; consumers then use 5 minutes (BND-4)
  uint64_t sequence_number = 0;
  friend bool operator==(const Bundle&, const Bundle&) = default;

  // The JWK set with SPIFFE members. Capped at 4 MiB. Ignores what BND-6 and BND-9 say, refuses what go-spiffe refuses.
  static absl::StatusOr<Bundle> ParseJson(const TrustDomain& trust_domain, absl::string_view json);
  // X.509 authorities only.
  static absl::StatusOr<Bundle> ParsePem(const TrustDomain& trust_domain, absl::string_view pem);
  // Told apart by content: the bootstrap file may be either.
  static absl::StatusOr<Bundle> ParsePemOrJson(const TrustDomain& trust_domain, absl::string_view text);

  std::string ToSpiffeJson() const;   // x509 keys first
  std::string ToJwtJwks() const;      // JWT keys alone (WL-21), with kid and use
  std::string ToPem() const;
  std::string X509Der() const;        // concatenated DER, tainted authorities included (they are still trusted)
  // Hex SHA-256 over the content: changes with every change of it.
  std::string Revision() const;

  absl::StatusOr<crypto::TrustAnchors> Anchors() const;
  const JwtAuthority* FindJwtAuthority(absl::string_view key_id) const;
};

}  // namespace signet::spiffe
