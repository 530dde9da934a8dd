// RFC 5280 path validation at a given time against a set of roots. Checks no identity: spiffe/x509_svid.h does.
// Thread-safe. Errors: kUnauthenticated with the reason and the subject of the certificate at fault.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/crypto/certificate.h"

namespace signet::crypto {

class TrustAnchors final {
 public:
  TrustAnchors();  // none: nothing verifies
  static absl::StatusOr<TrustAnchors> Create(absl::Span<const Certificate> roots);

  // `chain`: leaf first, then untrusted intermediates. Checks signatures, times at `now`, cA and keyCertSign on
  // issuers, path length, name constraints and unknown critical extensions; not extended key usage, not host names
  // (go-spiffe's choice too). Each certificate of the set is an anchor by itself, self-signed or not; an anchor is
  // never a leaf. SHA-1 signatures and keys under 112 bits of strength are refused, and chains longer than 6 before any
  // cryptography.
  absl::Status Verify(absl::Span<const Certificate> chain, absl::Time now) const;
  // The same, and which certificates vouch: leaf first, the anchor last. Only what stands in this path was verified.
  absl::StatusOr<std::vector<Certificate>> FindPath(absl::Span<const Certificate> chain, absl::Time now) const;

 private:
  struct Store;
  std::shared_ptr<const Store> store_;
};

}  // namespace signet::crypto
