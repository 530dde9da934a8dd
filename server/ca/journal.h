// The record of this server's authorities: which stand in which slot, and under which key of the KeyManager.
// Plain values and their encoding (proto/signet/server/v1/ca_journal.proto). Pure.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/crypto/certificate.h"
#include "common/crypto/key.h"
#include "common/spiffe/trust_domain.h"
#include "server/ca/rotation.h"

namespace signet::server {

struct X509AuthoritySlot {
  Slot slot;
  std::string key_manager_id;
  crypto::Certificate certificate;
  std::vector<crypto::Certificate> upstream_chain;  // empty: self-signed
  friend bool operator==(const X509AuthoritySlot&, const X509AuthoritySlot&) = default;
};

struct JwtAuthoritySlot {
  Slot slot;
  std::string key_manager_id;
  std::string key_id;  // kid
  crypto::PublicKey key;
  friend bool operator==(const JwtAuthoritySlot&, const JwtAuthoritySlot&) = default;
};

// A key that signs no more and whose signatures are still verified.
struct RetiredKey {
  std::string key_id;
  crypto::PublicKey key;
  absl::Time not_after;
  friend bool operator==(const RetiredKey&, const RetiredKey&) = default;
};

struct Journal {
  spiffe::TrustDomain trust_domain;
  std::array<X509AuthoritySlot, 2> x509;
  std::array<JwtAuthoritySlot, 2> jwt;
  std::array<JwtAuthoritySlot, 2> token = {}, receipt = {};  // of the token service; never in a bundle
  std::vector<RetiredKey> retired_receipts = {};             // oldest first
  friend bool operator==(const Journal&, const Journal&) = default;
};

std::string EncodeJournal(const Journal& journal);

// kDataLoss: damaged. kFailedPrecondition: of a newer version, or of another trust domain than `trust_domain`.
absl::StatusOr<Journal> DecodeJournal(absl::string_view bytes, const spiffe::TrustDomain& trust_domain);

}  // namespace signet::server
