// The rules of the X509-SVID standard, on issue and on validation. Each check cites its section in the .cc.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/crypto/certificate.h"
#include "common/crypto/key.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/id.h"

namespace signet::spiffe {

// The ID a leaf claims: exactly one URI SAN, a SPIFFE ID with a path; not a CA; no keyCertSign, no cRLSign.
// kInvalidArgument. Verifies no signature.
absl::StatusOr<Id> IdFromLeaf(const crypto::Certificate& leaf);

// Trust anchors of the bundle of a trust domain; null when there is none (then nothing of it is trusted, X509-29).
using AnchorsOf = std::function<std::shared_ptr<const crypto::TrustAnchors>(const TrustDomain&)>;

// X509-SVID 5: the leaf's rules, then path validation against the bundle of the leaf's own trust domain and no other.
// Returns the proven ID. kUnauthenticated. Does not decide whether that ID may do anything.
absl::StatusOr<Id> VerifyX509Svid(absl::Span<const crypto::Certificate> chain, const AnchorsOf& anchors, absl::Time now);

// An SVID with its key, as an agent or server holds it.
struct X509Svid {
  Id id;
  std::vector<crypto::Certificate> chain;  // leaf first
  crypto::PrivateKey key;

  // Refuses an empty chain, a leaf that breaks the rules, and a key that is not the leaf's.
  static absl::StatusOr<X509Svid> Create(std::vector<crypto::Certificate> chain, crypto::PrivateKey key);
  const crypto::Certificate& leaf() const { return chain.front(); }
  std::string ChainDer() const;
  std::string ChainPem() const;
};

}  // namespace signet::spiffe
