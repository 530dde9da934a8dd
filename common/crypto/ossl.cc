#include "common/crypto/ossl.h"

#include "absl/strings/str_cat.h"

namespace signet::crypto {
namespace {

std::string DrainQueue() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    absl::StrAppend(&text, text.empty() ? "" : "; ", reason != nullptr ? reason : "unknown reason");
  }
  return text.empty() ? "no reason given" : text;
}

}  // namespace

absl::Status OpenSslError(absl::string_view call) {
  return absl::InternalError(absl::StrCat(call, ": ", DrainQueue()));
}

absl::Status OpenSslRefusal(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, ": ", DrainQueue()));
}

const EVP_MD* Md(HashAlgorithm hash) {
  // Fetched once for the life of the process: an implicit fetch at each use costs more than hashing a certificate.
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
  static const EVP_MD* const sha384 = EVP_MD_fetch(nullptr, "SHA2-384", nullptr);
  static const EVP_MD* const sha512 = EVP_MD_fetch(nullptr, "SHA2-512", nullptr);
  switch (hash) {
    case HashAlgorithm::kSha256:
      return sha256;
    case HashAlgorithm::kSha384:
      return sha384;
    case HashAlgorithm::kSha512:
      return sha512;
  }
  return sha256;
}

}  // namespace signet::crypto
