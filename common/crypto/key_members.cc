#include "common/crypto/key_members.h"

#include "absl/strings/str_cat.h"
#include "common/crypto/der.h"

namespace signet::crypto {
namespace {

// Contents of OBJECT IDENTIFIER: RFC 5480 2.1.1, RFC 8017 appendix C, RFC 8410 3.
constexpr absl::string_view kOidEcPublicKey = "\x2a\x86\x48\xce\x3d\x02\x01";
constexpr absl::string_view kOidRsaEncryption = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
constexpr absl::string_view kOidEd25519 = "\x2b\x65\x70";
constexpr absl::string_view kOidP256 = "\x2a\x86\x48\xce\x3d\x03\x01\x07";
constexpr absl::string_view kOidP384{"\x2b\x81\x04\x00\x22", 5};
constexpr absl::string_view kOidP521{"\x2b\x81\x04\x00\x23", 5};

absl::string_view CurveOid(KeyType type) {
  switch (type) {
    case KeyType::kEcP256:
      return kOidP256;
    case KeyType::kEcP384:
      return kOidP384;
    case KeyType::kEcP521:
      return kOidP521;
    default:
      return "";
  }
}

// SubjectPublicKeyInfo: algorithm with `parameters` already encoded, then the key bits (RFC 5280 4.1.2.7).
std::string EncodeSpki(absl::string_view algorithm_oid, absl::string_view parameters, absl::string_view key_bits) {
  DerWriter der(key_bits.size() + 64);
  der.Nest(kDerSequence, [&] {
    der.Nest(kDerSequence, [&] {
      der.Put(kDerOid, algorithm_oid);
      der.PutRaw(parameters);
    });
    der.PutBitString(key_bits);
  });
  return der.Take();
}

// The key bits of a SubjectPublicKeyInfo that ParseSpki accepted.
absl::string_view KeyBits(const PublicKey& key) {
  absl::string_view body, algorithm, bits;
  DerReader outer(key.spki_der());
  if (!outer.Read(kDerSequence, &body)) return "";
  DerReader inner(body);
  if (!inner.Read(kDerSequence, &algorithm) || !inner.ReadBitString(&bits)) return "";
  return bits;
}

}  // namespace

size_t CoordinateBytes(KeyType type) {
  switch (type) {
    case KeyType::kEcP256:
      return 32;
    case KeyType::kEcP384:
      return 48;
    case KeyType::kEcP521:
      return 66;
    default:
      return 0;
  }
}

bool IsRsa(KeyType type) {
  return type == KeyType::kRsa2048 || type == KeyType::kRsa4096 || type == KeyType::kRsaOther;
}

std::optional<EcPoint> EcPointOf(const PublicKey& key) {
  const size_t width = CoordinateBytes(key.type());
  const absl::string_view point = KeyBits(key);
  if (width == 0 || point.size() != 1 + 2 * width) return std::nullopt;  // ParseSpki takes uncompressed points only
  return EcPoint{.x = std::string(point.substr(1, width)), .y = std::string(point.substr(1 + width))};
}

std::optional<RsaNumbers> RsaNumbersOf(const PublicKey& key) {
  if (!IsRsa(key.type())) return std::nullopt;
  absl::string_view body, modulus, exponent;
  DerReader outer(KeyBits(key));
  if (!outer.Read(kDerSequence, &body)) return std::nullopt;
  DerReader inner(body);
  if (!inner.ReadUnsigned(&modulus) || !inner.ReadUnsigned(&exponent)) return std::nullopt;
  return RsaNumbers{.modulus = std::string(modulus), .exponent = std::string(exponent)};
}

std::optional<std::string> Ed25519BytesOf(const PublicKey& key) {
  if (key.type() != KeyType::kEd25519) return std::nullopt;
  return std::string(KeyBits(key));
}

absl::StatusOr<PublicKey> PublicKeyFromEcPoint(KeyType curve, absl::string_view x, absl::string_view y) {
  const size_t width = CoordinateBytes(curve);
  if (width == 0) return absl::InvalidArgumentError("EC public key: not a curve");
  if (x.size() != width || y.size() != width) {
    return absl::InvalidArgumentError(absl::StrCat("EC public key: a coordinate is not of ", width, " bytes"));
  }
  DerWriter curve_name;
  curve_name.Put(kDerOid, CurveOid(curve));
  return PublicKey::ParseSpki(
      EncodeSpki(kOidEcPublicKey, curve_name.Take(), absl::StrCat("\x04", x, y)));  // SEC 1 2.3.3: uncompressed
}

absl::StatusOr<PublicKey> PublicKeyFromRsaNumbers(absl::string_view modulus, absl::string_view exponent) {
  DerWriter key;
  key.Nest(kDerSequence, [&] {
    key.PutUnsigned(modulus);
    key.PutUnsigned(exponent);
  });
  DerWriter null;
  null.Put(kDerNull, "");
  return PublicKey::ParseSpki(EncodeSpki(kOidRsaEncryption, null.Take(), key.Take()));
}

absl::StatusOr<PublicKey> PublicKeyFromEd25519(absl::string_view bytes) {
  return PublicKey::ParseSpki(EncodeSpki(kOidEd25519, "", bytes));
}

}  // namespace signet::crypto
