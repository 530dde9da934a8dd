#include "common/crypto/key.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/der.h"
#include "common/crypto/digest.h"
#include "common/crypto/ossl.h"
#include "common/crypto/pem.h"
#include "common/status/macros.h"

namespace signet::crypto {
namespace {

constexpr size_t kMaxSpkiBytes = 4096, kMaxPrivateKeyBytes = size_t{16} * 1024, kMaxSignatureBytes = 1024;
constexpr int kMinRsaBits = 2048, kMaxRsaBits = 8192;

// Contents of OBJECT IDENTIFIER: RFC 5480 2.1.1, RFC 8017 appendix C, RFC 8410 3.
constexpr absl::string_view kOidEcPublicKey = "\x2a\x86\x48\xce\x3d\x02\x01";
constexpr absl::string_view kOidRsaEncryption = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
constexpr absl::string_view kOidEd25519 = "\x2b\x65\x70";
struct Curve {
  KeyType type;
  absl::string_view oid;
  int bits;
  size_t coordinate_bytes;
  const char* group;
  int nid;
};
constexpr Curve kCurves[] = {
    {KeyType::kEcP256, "\x2a\x86\x48\xce\x3d\x03\x01\x07", 256, 32, "P-256", NID_X9_62_prime256v1},
    {KeyType::kEcP384, absl::string_view("\x2b\x81\x04\x00\x22", 5), 384, 48, "P-384", NID_secp384r1},
    {KeyType::kEcP521, absl::string_view("\x2b\x81\x04\x00\x23", 5), 521, 66, "P-521", NID_secp521r1},
};

const unsigned char* Bytes(absl::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }
absl::Status Refused(absl::string_view why) { return absl::InvalidArgumentError(absl::StrCat("public key: ", why)); }

// What a SubjectPublicKeyInfo says, read before any cryptography.
struct Spki {
  KeyType type = KeyType::kEcP256;
  int bits = 0;
  const Curve* curve = nullptr;  // of EC keys
  absl::string_view key;         // content of the BIT STRING: a point, an RSAPublicKey or 32 bytes
};

absl::StatusOr<Spki> ReadEc(DerReader& parameters, absl::string_view key) {
  absl::string_view oid;
  if (!parameters.ReadOid(&oid) || !parameters.done()) return Refused("the curve has no name");
  for (const Curve& curve : kCurves) {
    if (curve.oid != oid) continue;
    // Uncompressed points only, so that a key has one encoding and one identifier.
    if (key.size() != 1 + 2 * curve.coordinate_bytes || key[0] != 4) return Refused("the point is not uncompressed");
    return Spki{curve.type, curve.bits, &curve, key};
  }
  return Refused("the curve is none of P-256, P-384, P-521");
}

absl::StatusOr<Spki> ReadRsa(DerReader& parameters, absl::string_view key) {
  absl::string_view null, sequence, modulus, exponent;
  if (!parameters.Read(kDerNull, &null) || !null.empty() || !parameters.done()) {
    return Refused("the RSA parameters are not NULL");
  }
  DerReader outer(key);
  if (!outer.Read(kDerSequence, &sequence) || !outer.done()) return Refused("malformed RSAPublicKey");
  DerReader inner(sequence);
  if (!inner.ReadUnsigned(&modulus) || !inner.ReadUnsigned(&exponent) || !inner.done() || modulus.empty()) {
    return Refused("malformed RSAPublicKey");
  }
  if (modulus.size() > kMaxRsaBits / 8) return Refused("RSA modulus above 8192 bits");
  int bits = static_cast<int>(modulus.size()) * 8;
  for (int mask = 0x80; (modulus[0] & mask) == 0; mask >>= 1) --bits;
  if (bits < kMinRsaBits) return Refused("RSA modulus below 2048 bits");
  if ((modulus.back() & 1) == 0) return Refused("RSA modulus is even");
  // 1 would accept any signature; a long exponent costs the verifier. Go's limit too.
  uint32_t e = 0;
  if (exponent.size() <= 4) {
    for (char c : exponent) e = e << 8 | static_cast<uint8_t>(c);
  }
  if (e < 3 || (e & 1) == 0 || e > 0x7fffffff) return Refused("RSA exponent is not odd and within 3 .. 2^31-1");
  const KeyType type = bits == 2048 ? KeyType::kRsa2048 : bits == 4096 ? KeyType::kRsa4096 : KeyType::kRsaOther;
  return Spki{type, bits, nullptr, key};
}

absl::StatusOr<Spki> ReadSpki(absl::string_view der) {
  if (der.size() > kMaxSpkiBytes) return Refused("larger than 4 KiB");
  absl::string_view body, algorithm, oid, key;
  DerReader outer(der);
  if (!outer.Read(kDerSequence, &body) || !outer.done()) return Refused("not a SubjectPublicKeyInfo");
  DerReader inner(body);
  if (!inner.Read(kDerSequence, &algorithm) || !inner.ReadBitString(&key) || !inner.done()) {
    return Refused("not a SubjectPublicKeyInfo");
  }
  DerReader parameters(algorithm);
  if (!parameters.ReadOid(&oid)) return Refused("the algorithm has no name");
  if (oid == kOidEcPublicKey) return ReadEc(parameters, key);
  if (oid == kOidRsaEncryption) return ReadRsa(parameters, key);
  if (oid == kOidEd25519) {
    if (!parameters.done() || key.size() != 32) return Refused("malformed Ed25519 key");
    return Spki{KeyType::kEd25519, 256, nullptr, key};
  }
  return Refused("the algorithm is none of RSA, ECDSA, Ed25519");
}

// d2i_PUBKEY goes through OpenSSL 3.0's decoders and costs 80 us a key; from parameters it is 12.
EvpPkeyPtr MakeEcKey(const Spki& spki) {
  EvpPkeyCtxPtr ctx(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, const_cast<char*>(spki.curve->group), 0),
      OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, const_cast<char*>(spki.key.data()), spki.key.size()),
      OSSL_PARAM_construct_end()};
  EVP_PKEY* key = nullptr;
  if (ctx == nullptr || EVP_PKEY_fromdata_init(ctx.get()) != 1 ||
      EVP_PKEY_fromdata(ctx.get(), &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
    return nullptr;
  }
  return EvpPkeyPtr(key);
}

EvpPkeyPtr MakeKey(const Spki& spki, absl::string_view der) {
  if (spki.curve != nullptr) return MakeEcKey(spki);
  if (spki.type == KeyType::kEd25519) {
    return EvpPkeyPtr(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, Bytes(spki.key), spki.key.size()));
  }
  const unsigned char* in = Bytes(der);
  return EvpPkeyPtr(d2i_PUBKEY(nullptr, &in, static_cast<long>(der.size())));
}

// Takes ownership of an OpenSSL buffer that may hold a secret.
std::string TakeSecret(unsigned char* buffer, int size) {
  if (buffer == nullptr || size <= 0) return {};
  std::string out(reinterpret_cast<char*>(buffer), static_cast<size_t>(size));
  OPENSSL_clear_free(buffer, static_cast<size_t>(size));
  return out;
}

absl::Status SetPadding(EVP_PKEY_CTX* ctx, KeyType type, RsaPadding padding) {
  if (type != KeyType::kRsa2048 && type != KeyType::kRsa4096 && type != KeyType::kRsaOther) return absl::OkStatus();
  if (padding == RsaPadding::kPkcs1) {
    if (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1) return OpenSslError("RSA padding");
    return absl::OkStatus();
  }
  const int salt = padding == RsaPadding::kPss ? RSA_PSS_SALTLEN_DIGEST : RSA_PSS_SALTLEN_AUTO;
  if (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) != 1 ||
      EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, salt) != 1) {
    return OpenSslError("RSA padding");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<KeyType> ParseKeyType(absl::string_view name) {
  for (KeyType type : {KeyType::kEcP256, KeyType::kEcP384, KeyType::kRsa2048, KeyType::kRsa4096}) {
    if (name == KeyTypeName(type)) return type;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("key type \"", name, "\" is none of ec-p256, ec-p384, rsa-2048, rsa-4096"));
}

absl::string_view KeyTypeName(KeyType type) {
  switch (type) {
    case KeyType::kEcP256:
      return "ec-p256";
    case KeyType::kEcP384:
      return "ec-p384";
    case KeyType::kEcP521:
      return "ec-p521";
    case KeyType::kRsa2048:
      return "rsa-2048";
    case KeyType::kRsa4096:
      return "rsa-4096";
    case KeyType::kRsaOther:
      return "rsa";
    case KeyType::kEd25519:
      return "ed25519";
  }
  return "unknown";
}

absl::StatusOr<PublicKey> PublicKey::ParseSpki(absl::string_view der) {
  SIGNET_ASSIGN_OR_RETURN(const Spki spki, ReadSpki(der));
  auto handle = std::make_shared<KeyHandle>();
  handle->pkey = MakeKey(spki, der);
  if (handle->pkey == nullptr) return OpenSslRefusal("public key");
  handle->spki_der = std::string(der);
  handle->type = spki.type;
  handle->bits = spki.bits;
  PublicKey key;
  key.handle_ = std::move(handle);
  return key;
}

const std::string& PublicKey::spki_der() const {
  static const std::string none;
  return handle_ == nullptr ? none : handle_->spki_der;
}
KeyType PublicKey::type() const { return handle_ == nullptr ? KeyType::kEcP256 : handle_->type; }
int PublicKey::bits() const { return handle_ == nullptr ? 0 : handle_->bits; }

std::string PublicKey::KeyId() const {
  const auto spki = ReadSpki(spki_der());
  return spki.ok() ? Sha1(spki->key) : std::string();
}

absl::Status PublicKey::Verify(HashAlgorithm hash, absl::string_view message, absl::string_view signature,
                               RsaPadding padding) const {
  if (handle_ == nullptr) return absl::PermissionDeniedError("no key to verify the signature with");
  const auto refusal = [] {
    ERR_clear_error();
    return absl::PermissionDeniedError("the signature does not verify");
  };
  if (signature.size() > kMaxSignatureBytes) return refusal();
  EvpMdCtxPtr ctx(EVP_MD_CTX_new());
  EVP_PKEY_CTX* pkey_ctx = nullptr;
  const EVP_MD* md = handle_->type == KeyType::kEd25519 ? nullptr : Md(hash);
  if (ctx == nullptr || EVP_DigestVerifyInit(ctx.get(), &pkey_ctx, md, nullptr, handle_->pkey.get()) != 1) {
    return OpenSslError("EVP_DigestVerifyInit");
  }
  SIGNET_RETURN_IF_ERROR(SetPadding(pkey_ctx, handle_->type, padding));
  if (EVP_DigestVerify(ctx.get(), Bytes(signature), signature.size(), Bytes(message), message.size()) != 1) {
    return refusal();
  }
  return absl::OkStatus();
}

namespace {

EvpPkeyPtr GenerateKey(KeyType type) {
  switch (type) {
    case KeyType::kEcP256:
      return EvpPkeyPtr(EVP_EC_gen("P-256"));
    case KeyType::kEcP384:
      return EvpPkeyPtr(EVP_EC_gen("P-384"));
    case KeyType::kEcP521:
      return EvpPkeyPtr(EVP_EC_gen("P-521"));
    case KeyType::kRsa2048:
      return EvpPkeyPtr(EVP_RSA_gen(2048));
    case KeyType::kRsa4096:
      return EvpPkeyPtr(EVP_RSA_gen(4096));
    case KeyType::kEd25519:
      return EvpPkeyPtr(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    case KeyType::kRsaOther:
      break;
  }
  return nullptr;
}

// For the three curves put together by hand: OpenSSL 3.0's encoders cost more than the generation of the key.
absl::StatusOr<std::string> SpkiOf(EVP_PKEY* pkey) {
  char group[32];
  unsigned char point[2 * 66 + 1];
  size_t size = 0;
  if (EVP_PKEY_is_a(pkey, "EC") == 1 && EVP_PKEY_get_group_name(pkey, group, sizeof group, &size) == 1 &&
      EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &size) == 1) {
    for (const Curve& curve : kCurves) {
      if (OBJ_txt2nid(group) != curve.nid || size != 1 + 2 * curve.coordinate_bytes) continue;
      DerWriter out(160);
      out.Nest(kDerSequence, [&] {
        out.Nest(kDerSequence, [&] {
          out.Put(kDerOid, kOidEcPublicKey);
          out.Put(kDerOid, curve.oid);
        });
        out.PutBitString(absl::string_view(reinterpret_cast<const char*>(point), size));
      });
      return out.Take();
    }
  }
  ERR_clear_error();
  unsigned char* buffer = nullptr;
  size = static_cast<size_t>(std::max(0, i2d_PUBKEY(pkey, &buffer)));
  if (size == 0) return OpenSslError("i2d_PUBKEY");
  return TakeSecret(buffer, static_cast<int>(size));
}

}  // namespace

// Builds a PrivateKey around an OpenSSL key.
struct PrivateKeyMaker {
  static absl::StatusOr<PrivateKey> Make(EvpPkeyPtr pkey) {
    SIGNET_ASSIGN_OR_RETURN(const std::string spki, SpkiOf(pkey.get()));
    PrivateKey key;
    SIGNET_ASSIGN_OR_RETURN(key.public_key_, PublicKey::ParseSpki(spki));
    auto handle = std::make_shared<KeyHandle>();
    handle->pkey = std::move(pkey);
    handle->type = key.public_key_.type();
    handle->bits = key.public_key_.bits();
    key.handle_ = std::move(handle);
    return key;
  }
  // The same for a key from outside, whose two halves may not belong together.
  static absl::StatusOr<PrivateKey> MakeChecked(EvpPkeyPtr pkey) {
    EvpPkeyCtxPtr ctx(EVP_PKEY_CTX_new(pkey.get(), nullptr));
    if (ctx == nullptr || EVP_PKEY_pairwise_check(ctx.get()) != 1) {
      return OpenSslRefusal("private key does not fit its public half");
    }
    return Make(std::move(pkey));
  }
};

absl::StatusOr<PrivateKey> PrivateKey::Generate(KeyType type) {
  if (type == KeyType::kRsaOther) return absl::InvalidArgumentError("cannot generate a key of type rsa without a size");
  EvpPkeyPtr pkey = GenerateKey(type);
  if (pkey == nullptr) return OpenSslError("key generation");
  return PrivateKeyMaker::Make(std::move(pkey));
}

namespace {

// PKCS#8 (RFC 5958 2) around an ECPrivateKey (RFC 5915 3) with its public half, as Signet and OpenSSL write it: null
// for any other form. OpenSSL 3.0's decoder takes 350 us for a key, and a restarted agent reads one for each SVID it
// holds.
EvpPkeyPtr ReadEcPkcs8(absl::string_view der) {
  absl::string_view info, version, algorithm, oid, curve_oid, wrapped, ec_key, scalar, tagged, point;
  DerReader outer(der);
  if (!outer.Read(kDerSequence, &info) || !outer.done()) return nullptr;
  DerReader fields(info);
  if (!fields.ReadUnsigned(&version) || !version.empty() || !fields.Read(kDerSequence, &algorithm) ||
      !fields.Read(kDerOctetString, &wrapped) || !fields.done()) {
    return nullptr;
  }
  DerReader names(algorithm), inner(wrapped);
  if (!names.ReadOid(&oid) || oid != kOidEcPublicKey || !names.ReadOid(&curve_oid) || !names.done()) return nullptr;
  if (!inner.Read(kDerSequence, &ec_key) || !inner.done()) return nullptr;
  DerReader parts(ec_key);
  if (!parts.ReadUnsigned(&version) || version != "\x01" || !parts.Read(kDerOctetString, &scalar) ||
      !parts.Read(DerContextConstructed(1), &tagged) || !parts.done()) {
    return nullptr;
  }
  DerReader bits(tagged);
  if (!bits.ReadBitString(&point) || !bits.done()) return nullptr;
  for (const Curve& curve : kCurves) {
    if (curve.oid != curve_oid || scalar.size() != curve.coordinate_bytes) continue;
    using ParamBuilder = std::unique_ptr<OSSL_PARAM_BLD, OsslDeleter<OSSL_PARAM_BLD_free>>;
    using Params = std::unique_ptr<OSSL_PARAM, OsslDeleter<OSSL_PARAM_free>>;
    using SecretNumber = std::unique_ptr<BIGNUM, OsslDeleter<BN_clear_free>>;
    SecretNumber number(BN_secure_new());
    ParamBuilder builder(OSSL_PARAM_BLD_new());
    if (number == nullptr || builder == nullptr ||
        BN_bin2bn(Bytes(scalar), static_cast<int>(scalar.size()), number.get()) == nullptr ||
        OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.group, 0) != 1 ||
        OSSL_PARAM_BLD_push_BN_pad(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, number.get(), scalar.size()) != 1 ||
        OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1) {
      return nullptr;
    }
    Params params(OSSL_PARAM_BLD_to_param(builder.get()));
    EvpPkeyCtxPtr ctx(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
    EVP_PKEY* key = nullptr;
    if (params == nullptr || ctx == nullptr || EVP_PKEY_fromdata_init(ctx.get()) != 1 ||
        EVP_PKEY_fromdata(ctx.get(), &key, EVP_PKEY_KEYPAIR, params.get()) != 1) {
      return nullptr;
    }
    return EvpPkeyPtr(key);
  }
  return nullptr;
}

// The same form, written; empty for keys of another kind.
std::string WriteEcPkcs8(EVP_PKEY* pkey, absl::string_view spki_der) {
  const auto spki = ReadSpki(spki_der);
  if (!spki.ok() || spki->curve == nullptr) return {};
  BIGNUM* number = nullptr;
  if (EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_PRIV_KEY, &number) != 1) {
    ERR_clear_error();
    return {};
  }
  unsigned char scalar[66];
  const auto size = static_cast<int>(spki->curve->coordinate_bytes);
  const bool fits = BN_bn2binpad(number, scalar, size) == size;
  BN_clear_free(number);
  DerWriter out(512);  // more than the longest of the three
  out.Nest(kDerSequence, [&] {
    out.PutSmall(0);
    out.Nest(kDerSequence, [&] {
      out.Put(kDerOid, kOidEcPublicKey);
      out.Put(kDerOid, spki->curve->oid);
    });
    out.Nest(kDerOctetString, [&] {
      out.Nest(kDerSequence, [&] {
        out.PutSmall(1);
        out.Put(kDerOctetString, absl::string_view(reinterpret_cast<const char*>(scalar), static_cast<size_t>(size)));
        out.Nest(DerContextConstructed(1), [&] { out.PutBitString(spki->key); });
      });
    });
  });
  OPENSSL_cleanse(scalar, sizeof scalar);
  return fits ? out.Take() : std::string();
}

}  // namespace

absl::StatusOr<PrivateKey> PrivateKey::ParsePkcs8(absl::string_view der) {
  if (der.size() > kMaxPrivateKeyBytes) return absl::InvalidArgumentError("private key is larger than 16 KiB");
  if (EvpPkeyPtr ec_key = ReadEcPkcs8(der); ec_key != nullptr) return PrivateKeyMaker::MakeChecked(std::move(ec_key));
  ERR_clear_error();
  const unsigned char* in = Bytes(der);
  Pkcs8Ptr info(d2i_PKCS8_PRIV_KEY_INFO(nullptr, &in, static_cast<long>(der.size())));
  if (info == nullptr) return OpenSslRefusal("not an unencrypted PKCS#8 private key");
  if (in != Bytes(der) + der.size()) return absl::InvalidArgumentError("bytes after the PKCS#8 private key");
  EvpPkeyPtr pkey(EVP_PKCS82PKEY(info.get()));
  if (pkey == nullptr) return OpenSslRefusal("PKCS#8 private key");
  return PrivateKeyMaker::MakeChecked(std::move(pkey));
}

absl::StatusOr<PrivateKey> PrivateKey::ParsePem(absl::string_view pem) {
  SIGNET_ASSIGN_OR_RETURN(std::vector<PemBlock> blocks, crypto::ParsePem(pem), "private key");
  const auto parse = [&blocks]() -> absl::StatusOr<PrivateKey> {
    for (const PemBlock& block : blocks) {
      if (block.label == "PRIVATE KEY") return ParsePkcs8(block.der);
      if (absl::StartsWith(block.label, "ENCRYPTED")) {
        return absl::InvalidArgumentError("private key is encrypted: decrypt it with `openssl pkey -in FILE`");
      }
      if (block.label != "EC PRIVATE KEY" && block.label != "RSA PRIVATE KEY") continue;
      if (block.der.size() > kMaxPrivateKeyBytes)
        return absl::InvalidArgumentError("private key is larger than 16 KiB");
      const unsigned char* in = Bytes(block.der);
      const int kind = block.label[0] == 'E' ? EVP_PKEY_EC : EVP_PKEY_RSA;
      EvpPkeyPtr pkey(d2i_PrivateKey(kind, nullptr, &in, static_cast<long>(block.der.size())));
      if (pkey == nullptr) return OpenSslRefusal(block.label);
      if (in != Bytes(block.der) + block.der.size()) return absl::InvalidArgumentError("bytes after the private key");
      return PrivateKeyMaker::MakeChecked(std::move(pkey));
    }
    return absl::InvalidArgumentError("no private key among the PEM blocks");
  };
  absl::StatusOr<PrivateKey> key = parse();
  for (PemBlock& block : blocks) Cleanse(block.der);
  return key;
}

std::string PrivateKey::Pkcs8Der() const {
  if (handle_ == nullptr) return {};
  if (std::string der = WriteEcPkcs8(handle_->pkey.get(), public_key_.spki_der()); !der.empty()) return der;
  Pkcs8Ptr info(EVP_PKEY2PKCS8(handle_->pkey.get()));
  unsigned char* buffer = nullptr;
  const int size = info == nullptr ? 0 : i2d_PKCS8_PRIV_KEY_INFO(info.get(), &buffer);
  return TakeSecret(buffer, size);
}

std::string PrivateKey::Pkcs8Pem() const {
  std::string der = Pkcs8Der();
  std::string pem = ToPem("PRIVATE KEY", der);
  Cleanse(der);
  return pem;
}

absl::StatusOr<std::string> PrivateKey::Sign(HashAlgorithm hash, absl::string_view message, RsaPadding padding) const {
  if (handle_ == nullptr) return absl::FailedPreconditionError("no private key to sign with");
  EvpMdCtxPtr ctx(EVP_MD_CTX_new());
  EVP_PKEY_CTX* pkey_ctx = nullptr;
  const EVP_MD* md = handle_->type == KeyType::kEd25519 ? nullptr : Md(hash);
  if (ctx == nullptr || EVP_DigestSignInit(ctx.get(), &pkey_ctx, md, nullptr, handle_->pkey.get()) != 1) {
    return OpenSslError("EVP_DigestSignInit");
  }
  SIGNET_RETURN_IF_ERROR(SetPadding(pkey_ctx, handle_->type, padding));
  std::string signature(static_cast<size_t>(EVP_PKEY_get_size(handle_->pkey.get())), '\0');
  size_t size = signature.size();
  if (EVP_DigestSign(ctx.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, Bytes(message),
                     message.size()) != 1) {
    return OpenSslError("EVP_DigestSign");
  }
  signature.resize(size);
  return signature;
}

absl::StatusOr<std::string> PrivateKey::SignDigest(HashAlgorithm hash, absl::string_view digest) const {
  if (handle_ == nullptr) return absl::FailedPreconditionError("no private key to sign with");
  if (handle_->type == KeyType::kEd25519) return absl::FailedPreconditionError("Ed25519 signs no digest");
  if (digest.size() != static_cast<size_t>(EVP_MD_get_size(Md(hash)))) {
    return absl::InvalidArgumentError("the digest has not the length of its hash");
  }
  EvpPkeyCtxPtr ctx(EVP_PKEY_CTX_new(handle_->pkey.get(), nullptr));
  if (ctx == nullptr || EVP_PKEY_sign_init(ctx.get()) != 1) return OpenSslError("EVP_PKEY_sign_init");
  SIGNET_RETURN_IF_ERROR(SetPadding(ctx.get(), handle_->type, RsaPadding::kPkcs1));
  if (EVP_PKEY_CTX_set_signature_md(ctx.get(), Md(hash)) != 1) return OpenSslError("EVP_PKEY_CTX_set_signature_md");
  std::string signature(static_cast<size_t>(EVP_PKEY_get_size(handle_->pkey.get())), '\0');
  size_t size = signature.size();
  if (EVP_PKEY_sign(ctx.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, Bytes(digest),
                    digest.size()) != 1) {
    return OpenSslError("EVP_PKEY_sign");
  }
  signature.resize(size);
  return signature;
}

void Cleanse(std::string& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

}  // namespace signet::crypto
