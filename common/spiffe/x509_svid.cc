#include "common/spiffe/x509_svid.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace signet::spiffe {
namespace {

absl::Status Refusal(absl::string_view why) { return absl::InvalidArgumentError(absl::StrCat("X509-SVID: ", why)); }

absl::Status CheckSigningCertificate(const crypto::Certificate& certificate) {
  if (!certificate.is_ca()) return Refusal("an intermediate is not a CA");  // X509-SVID 4.1
  if ((certificate.key_usage() & crypto::kKeyCertSign) == 0)
    return Refusal("an intermediate without keyCertSign");  // 4.3
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Id> IdFromLeaf(const crypto::Certificate& leaf) {
  // X509-SVID 2, 5.2: exactly one URI SAN.
  if (leaf.uri_sans().empty()) return Refusal("no URI SAN");
  if (leaf.uri_sans().size() > 1) return Refusal("more than one URI SAN");
  SIGNET_ASSIGN_OR_RETURN(Id id, Id::Parse(leaf.uri_sans().front()), "X509-SVID: URI SAN");
  if (id.is_root()) return Refusal("the SPIFFE ID has no path");                                   // 5.2
  if (leaf.is_ca()) return Refusal("the leaf is a CA");                                            // 4.1, 5.2
  if ((leaf.key_usage() & crypto::kKeyCertSign) != 0) return Refusal("the leaf has keyCertSign");  // 4.3, 5.2
  if ((leaf.key_usage() & crypto::kCrlSign) != 0) return Refusal("the leaf has cRLSign");          // 4.3, 5.2
  return id;
}

absl::StatusOr<Id> VerifyX509Svid(absl::Span<const crypto::Certificate> chain, const AnchorsOf& anchors,
                                  absl::Time now) {
  if (chain.empty()) return absl::UnauthenticatedError("X509-SVID: empty chain");
  const absl::StatusOr<Id> id = IdFromLeaf(chain.front());
  if (!id.ok()) return absl::UnauthenticatedError(id.status().message());
  // Workload API 4.6, Bundle 3: the bundle of the ID's own trust domain decides, no other.
  const std::shared_ptr<const crypto::TrustAnchors> roots = anchors(id->trust_domain());
  if (roots == nullptr) {
    return absl::UnauthenticatedError(
        absl::StrCat("X509-SVID: no bundle of trust domain \"", id->trust_domain_name(), "\""));
  }
  if (absl::Status status = roots->Verify(chain, now); !status.ok())
    return absl::UnauthenticatedError(status.message());
  return *id;
}

absl::StatusOr<X509Svid> X509Svid::Create(std::vector<crypto::Certificate> chain, crypto::PrivateKey key) {
  if (chain.empty()) return Refusal("empty chain");
  SIGNET_ASSIGN_OR_RETURN(Id id, IdFromLeaf(chain.front()));
  // go-spiffe refuses a message with an SVID that breaks one of these, so it must not get that far.
  if ((chain.front().key_usage() & crypto::kDigitalSignature) == 0) return Refusal("the leaf has no digitalSignature");
  for (size_t i = 1; i < chain.size(); ++i) SIGNET_RETURN_IF_ERROR(CheckSigningCertificate(chain[i]));
  if (chain.front().public_key() != key.public_key()) return Refusal("the private key is not that of the leaf");
  return X509Svid{.id = std::move(id), .chain = std::move(chain), .key = std::move(key)};
}

std::string X509Svid::ChainDer() const {
  std::string der;
  for (const crypto::Certificate& certificate : chain) der += certificate.der();
  return der;
}

std::string X509Svid::ChainPem() const {
  std::string pem;
  for (const crypto::Certificate& certificate : chain) pem += certificate.Pem();
  return pem;
}

}  // namespace signet::spiffe
