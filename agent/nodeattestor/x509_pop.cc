#include "agent/nodeattestor/x509_pop.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/crypto/certificate.h"
#include "common/fs/atomic_file.h"
#include "common/nodeattestor/x509_pop.h"
#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

absl::Status Unusable(absl::string_view key, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("node_attestor.x509_pop.", key, ": ", why));
}

absl::StatusOr<std::vector<crypto::Certificate>> ReadCertificates(absl::string_view key, const std::string& path) {
  const absl::StatusOr<std::string> pem = fs::ReadFile(path, kMaxFileBytes);
  if (!pem.ok()) return Unusable(key, pem.status().message());
  absl::StatusOr<std::vector<crypto::Certificate>> certificates = crypto::Certificate::ParsePemChain(*pem);
  if (!certificates.ok()) return Unusable(key, absl::StrCat(path, ": ", certificates.status().message()));
  return certificates;
}

absl::StatusOr<crypto::PrivateKey> ReadKey(const std::string& path) {
  absl::StatusOr<std::string> pem = fs::ReadSecretFile(path, kMaxFileBytes);
  if (!pem.ok()) return Unusable("private_key_path", pem.status().message());
  absl::StatusOr<crypto::PrivateKey> key = crypto::PrivateKey::ParsePem(*pem);
  crypto::Cleanse(*pem);
  if (!key.ok()) return Unusable("private_key_path", absl::StrCat(path, ": ", key.status().message()));
  return key;
}

}  // namespace

absl::string_view X509Pop::type() const { return x509pop::kType; }

absl::StatusOr<std::string> X509Pop::Payload() {
  key_.reset();
  SIGNET_ASSIGN_OR_RETURN(std::vector<crypto::Certificate> chain,
                          ReadCertificates("certificate_path", options_.certificate_path));
  if (!options_.intermediates_path.empty()) {
    SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> more,
                            ReadCertificates("intermediates_path", options_.intermediates_path));
    chain.insert(chain.end(), more.begin(), more.end());
  }
  SIGNET_ASSIGN_OR_RETURN(crypto::PrivateKey key, ReadKey(options_.private_key_path));
  if (chain.front().public_key() != key.public_key()) {
    return Unusable("private_key_path",
                    absl::StrCat(options_.private_key_path, " is not the key of the first certificate in ",
                                 options_.certificate_path));
  }
  key_ = std::move(key);
  return x509pop::EncodeEvidence(chain);
}

absl::StatusOr<std::string> X509Pop::Respond(absl::string_view challenge) {
  if (!key_.has_value()) return absl::FailedPreconditionError("x509pop: a challenge before the evidence was sent");
  const crypto::PrivateKey key = *std::exchange(key_, std::nullopt);
  return x509pop::Respond(key, challenge);
}

}  // namespace signet::agent
