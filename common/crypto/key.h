// Key pairs as values. No OpenSSL type shows here.
// Thread-safe once constructed (immutable). A PrivateKey cleanses its memory when the last copy goes, and cannot be
// formatted, streamed or compared: no secret reaches a log by accident.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace signet::crypto {

enum class KeyType { kEcP256, kEcP384, kEcP521, kRsa2048, kRsa4096, kRsaOther, kEd25519 };
// "ec-p256", "ec-p384", "rsa-2048", "rsa-4096": the names of the configuration. Others refuse with kInvalidArgument.
absl::StatusOr<KeyType> ParseKeyType(absl::string_view name);
absl::string_view KeyTypeName(KeyType type);

enum class HashAlgorithm { kSha256, kSha384, kSha512 };
enum class RsaPadding {
  kPkcs1,
  kPss,         // salt as long as the hash (RFC 7518 3.5)
  kPssAnySalt,  // to verify only: a salt of any length, since Go's default (SPIRE's x509pop) is the longest that fits
};

struct KeyHandle;  // the OpenSSL object, see common/crypto/ossl.h

class PublicKey final {
 public:
  // From a DER SubjectPublicKeyInfo. Refuses more than 4 KiB, RSA above 8192 or below 2048 bits, curves other than
  // P-256, P-384, P-521: kInvalidArgument.
  static absl::StatusOr<PublicKey> ParseSpki(absl::string_view der);

  const std::string& spki_der() const;
  KeyType type() const;
  int bits() const;  // of the RSA modulus or the curve

  // SHA-1 of the subjectPublicKey bit string: the key identifier of RFC 5280 4.2.1.2 (1). 20 raw bytes.
  std::string KeyId() const;

  // `signature`: DER ECDSA-Sig-Value, or the RSA octets. kPermissionDenied when it does not verify.
  absl::Status Verify(HashAlgorithm hash, absl::string_view message, absl::string_view signature,
                      RsaPadding padding = RsaPadding::kPkcs1) const;

  friend bool operator==(const PublicKey& a, const PublicKey& b) { return a.spki_der() == b.spki_der(); }

 private:
  friend class PrivateKey;
  friend struct KeyAccess;
  std::shared_ptr<const KeyHandle> handle_;
};

class PrivateKey final {
 public:
  static absl::StatusOr<PrivateKey> Generate(KeyType type);
  static absl::StatusOr<PrivateKey> ParsePkcs8(absl::string_view der);  // unencrypted only
  static absl::StatusOr<PrivateKey> ParsePem(absl::string_view pem);    // PKCS#8, SEC1 or PKCS#1, unencrypted

  const PublicKey& public_key() const { return public_key_; }
  KeyType type() const { return public_key_.type(); }
  // Unencrypted PKCS#8 DER / PEM. Hand it only to whom the key belongs.
  std::string Pkcs8Der() const;
  std::string Pkcs8Pem() const;

  // Hashes `message` and signs. DER ECDSA-Sig-Value, or RSA octets.
  absl::StatusOr<std::string> Sign(HashAlgorithm hash, absl::string_view message,
                                   RsaPadding padding = RsaPadding::kPkcs1) const;
  // Signs what is already hashed with `hash`.
  absl::StatusOr<std::string> SignDigest(HashAlgorithm hash, absl::string_view digest) const;

 private:
  friend struct KeyAccess;
  friend struct PrivateKeyMaker;
  std::shared_ptr<const KeyHandle> handle_;
  PublicKey public_key_;
};

// Cleanses the bytes of `secret` and empties it.
void Cleanse(std::string& secret);

}  // namespace signet::crypto
