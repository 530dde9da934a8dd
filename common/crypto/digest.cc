#include "common/crypto/digest.h"

#include <openssl/crypto.h>

#include <cstdlib>

#include "common/crypto/ossl.h"

namespace signet::crypto {
namespace {

// Hashing memory cannot fail short of a broken OpenSSL installation; nothing sensible can go on without.
void Require(int result) {
  if (result != 1) std::abort();
}

std::string Hash(const EVP_MD* md, absl::string_view data) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  Require(EVP_Digest(data.data(), data.size(), out, &size, md, nullptr));
  return std::string(reinterpret_cast<char*>(out), size);
}

}  // namespace

std::string Sha256(absl::string_view data) { return Hash(Md(HashAlgorithm::kSha256), data); }

std::string Digest(HashAlgorithm hash, absl::string_view data) { return Hash(Md(hash), data); }

std::string Sha1(absl::string_view data) {
  static const EVP_MD* const sha1 = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  return Hash(sha1, data);
}

bool ConstantTimeEquals(absl::string_view a, absl::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

struct Sha256Stream::State {
  EvpMdCtxPtr ctx{EVP_MD_CTX_new()};
};

Sha256Stream::Sha256Stream() : state_(std::make_unique<State>()) {
  Require(EVP_DigestInit_ex2(state_->ctx.get(), Md(HashAlgorithm::kSha256), nullptr));
}

Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::Update(absl::string_view data) {
  Require(EVP_DigestUpdate(state_->ctx.get(), data.data(), data.size()));
}

std::string Sha256Stream::Finish() {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  Require(EVP_DigestFinal_ex(state_->ctx.get(), out, &size));
  return std::string(reinterpret_cast<char*>(out), size);
}

}  // namespace signet::crypto
