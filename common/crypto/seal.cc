#include "common/crypto/seal.h"

#include "common/crypto/ossl.h"
#include "common/crypto/random.h"

namespace signet::crypto {
namespace {

constexpr size_t kKeyBytes = 32, kNonceBytes = 12, kTagBytes = 16;  // NIST SP 800-38D
constexpr size_t kMaxBytes = 1 << 30;                               // lengths are int in the EVP interface

const unsigned char* Bytes(absl::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }
unsigned char* Bytes(std::string& s, size_t at = 0) { return reinterpret_cast<unsigned char*>(s.data()) + at; }

}  // namespace

absl::StatusOr<std::string> Seal(absl::string_view key, absl::string_view plaintext, absl::string_view context) {
  if (key.size() != kKeyBytes) return absl::InvalidArgumentError("a sealing key has 32 bytes");
  if (plaintext.size() > kMaxBytes || context.size() > kMaxBytes)
    return absl::InvalidArgumentError("too large to seal");
  std::string out = RandomBytes(kNonceBytes);
  out.resize(kNonceBytes + plaintext.size() + kTagBytes);
  EvpCipherCtxPtr ctx(EVP_CIPHER_CTX_new());
  int length = 0;
  if (ctx == nullptr || EVP_EncryptInit_ex(ctx.get(), EVP_aes_256_gcm(), nullptr, Bytes(key), Bytes(out)) != 1 ||
      EVP_EncryptUpdate(ctx.get(), nullptr, &length, Bytes(context), static_cast<int>(context.size())) != 1 ||
      EVP_EncryptUpdate(ctx.get(), Bytes(out, kNonceBytes), &length, Bytes(plaintext),
                        static_cast<int>(plaintext.size())) != 1 ||
      EVP_EncryptFinal_ex(ctx.get(), Bytes(out, kNonceBytes + plaintext.size()), &length) != 1 ||
      EVP_CIPHER_CTX_ctrl(ctx.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, Bytes(out, kNonceBytes + plaintext.size())) !=
          1) {
    return OpenSslError("sealing");
  }
  return out;
}

absl::StatusOr<std::string> Unseal(absl::string_view key, absl::string_view sealed, absl::string_view context) {
  const auto refusal = [] {
    ERR_clear_error();
    return absl::DataLossError(
        "sealed data does not open: it is damaged, or sealed with another key or for another use");
  };
  if (key.size() != kKeyBytes || sealed.size() < kNonceBytes + kTagBytes || sealed.size() > kMaxBytes ||
      context.size() > kMaxBytes) {
    return refusal();
  }
  const absl::string_view nonce = sealed.substr(0, kNonceBytes);
  const absl::string_view body = sealed.substr(kNonceBytes, sealed.size() - kNonceBytes - kTagBytes);
  std::string tag(sealed.substr(sealed.size() - kTagBytes));
  std::string out(body.size(), '\0');
  EvpCipherCtxPtr ctx(EVP_CIPHER_CTX_new());
  int length = 0;
  if (ctx == nullptr || EVP_DecryptInit_ex(ctx.get(), EVP_aes_256_gcm(), nullptr, Bytes(key), Bytes(nonce)) != 1 ||
      EVP_DecryptUpdate(ctx.get(), nullptr, &length, Bytes(context), static_cast<int>(context.size())) != 1 ||
      EVP_DecryptUpdate(ctx.get(), Bytes(out), &length, Bytes(body), static_cast<int>(body.size())) != 1 ||
      EVP_CIPHER_CTX_ctrl(ctx.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, tag.data()) != 1 ||
      EVP_DecryptFinal_ex(ctx.get(), Bytes(out, out.size()), &length) != 1) {
    Cleanse(out);
    return refusal();
  }
  return out;
}

}  // namespace signet::crypto
