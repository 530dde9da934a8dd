#include "common/crypto/key.h"

#include <gtest/gtest.h>

#include <type_traits>

#include "absl/strings/match.h"
#include "common/crypto/der.h"
#include "common/crypto/digest.h"
#include "common/crypto/pem.h"
#include "common/crypto/random.h"
#include "tests/testing/run_program.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::crypto {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr KeyType kAllTypes[] = {KeyType::kEcP256,  KeyType::kEcP384,  KeyType::kEcP521,
                                 KeyType::kRsa2048, KeyType::kRsa4096, KeyType::kEd25519};

// A SubjectPublicKeyInfo put together by hand.
std::string Spki(absl::string_view oid, absl::string_view parameters, absl::string_view key) {
  DerWriter out;
  out.Nest(kDerSequence, [&] {
    out.Nest(kDerSequence, [&] {
      out.Put(kDerOid, oid);
      out.PutRaw(parameters);
    });
    out.PutBitString(key);
  });
  return out.Take();
}

std::string RsaSpki(absl::string_view modulus, absl::string_view exponent) {
  DerWriter key;
  key.Nest(kDerSequence, [&] {
    key.PutUnsigned(modulus);
    key.PutUnsigned(exponent);
  });
  return Spki("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", absl::string_view("\x05\x00", 2), key.Take());
}

std::string Modulus(size_t bytes) {
  std::string n(bytes, '\xa5');
  n.back() = '\x01';
  return n;
}

TEST(KeyTest, EachTypeGoesThroughSpkiAndPkcs8AndSigns) {
  for (KeyType type : kAllTypes) {
    SCOPED_TRACE(KeyTypeName(type));
    SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey key, PrivateKey::Generate(type));
    EXPECT_EQ(key.type(), type);
    SIGNET_ASSERT_OK_AND_ASSIGN(const PublicKey parsed, PublicKey::ParseSpki(key.public_key().spki_der()));
    EXPECT_EQ(parsed, key.public_key());
    EXPECT_EQ(parsed.type(), type);
    EXPECT_EQ(parsed.KeyId().size(), 20);
    SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey from_der, PrivateKey::ParsePkcs8(key.Pkcs8Der()));
    EXPECT_EQ(from_der.public_key(), key.public_key());
    SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey from_pem, PrivateKey::ParsePem(key.Pkcs8Pem()));
    for (HashAlgorithm hash : {HashAlgorithm::kSha256, HashAlgorithm::kSha384, HashAlgorithm::kSha512}) {
      SIGNET_ASSERT_OK_AND_ASSIGN(const std::string signature, from_pem.Sign(hash, "message"));
      SIGNET_EXPECT_OK(parsed.Verify(hash, "message", signature));
      EXPECT_THAT(parsed.Verify(hash, "messagf", signature), StatusIs(absl::StatusCode::kPermissionDenied));
      EXPECT_THAT(parsed.Verify(hash, "message", signature + "x"), StatusIs(absl::StatusCode::kPermissionDenied));
      EXPECT_THAT(parsed.Verify(hash, "message", ""), StatusIs(absl::StatusCode::kPermissionDenied));
      if (type == KeyType::kEd25519) continue;
      SIGNET_ASSERT_OK_AND_ASSIGN(const std::string same, key.SignDigest(hash, Digest(hash, "message")));
      SIGNET_EXPECT_OK(parsed.Verify(hash, "message", same));
      EXPECT_THAT(key.SignDigest(hash, "short"), StatusIs(kInvalid));
    }
  }
}

TEST(KeyTest, PssIsNotPkcs1) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey key, PrivateKey::Generate(KeyType::kRsa2048));
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::string pss, key.Sign(HashAlgorithm::kSha256, "m", RsaPadding::kPss));
  SIGNET_EXPECT_OK(key.public_key().Verify(HashAlgorithm::kSha256, "m", pss, RsaPadding::kPss));
  EXPECT_FALSE(key.public_key().Verify(HashAlgorithm::kSha256, "m", pss).ok());
}

TEST(KeyTest, NamesOfTheConfiguration) {
  EXPECT_EQ(*ParseKeyType("ec-p256"), KeyType::kEcP256);
  EXPECT_EQ(*ParseKeyType("ec-p384"), KeyType::kEcP384);
  EXPECT_EQ(*ParseKeyType("rsa-2048"), KeyType::kRsa2048);
  EXPECT_EQ(*ParseKeyType("rsa-4096"), KeyType::kRsa4096);
  for (const char* bad : {"", "rsa", "ed25519", "EC-P256", "ec-p521"})
    EXPECT_THAT(ParseKeyType(bad), StatusIs(kInvalid));
}

TEST(KeyTest, RsaLimits) {
  SIGNET_EXPECT_OK(PublicKey::ParseSpki(RsaSpki(Modulus(256), "\x03")));
  SIGNET_EXPECT_OK(PublicKey::ParseSpki(RsaSpki(Modulus(1024), "\x03")));
  EXPECT_THAT(PublicKey::ParseSpki(RsaSpki(Modulus(255), "\x03")), StatusIs(kInvalid, HasSubstr("below 2048")));
  EXPECT_THAT(PublicKey::ParseSpki(RsaSpki(Modulus(1025), "\x03")), StatusIs(kInvalid, HasSubstr("above 8192")));
  EXPECT_THAT(PublicKey::ParseSpki(RsaSpki(Modulus(5000), "\x03")), StatusIs(kInvalid, HasSubstr("4 KiB")));
  std::string even = Modulus(256);
  even.back() = '\x02';
  EXPECT_THAT(PublicKey::ParseSpki(RsaSpki(even, "\x03")), StatusIs(kInvalid, HasSubstr("even")));
  for (absl::string_view e : {absl::string_view("\x01"), absl::string_view("\x02"), absl::string_view("\x04"),
                              absl::string_view("\x80\x00\x00\x01", 4), absl::string_view("\x01\x00\x00\x00\x01", 5),
                              absl::string_view("\x00", 1)}) {
    EXPECT_THAT(PublicKey::ParseSpki(RsaSpki(Modulus(256), e)), StatusIs(kInvalid, HasSubstr("exponent")));
  }
}

TEST(KeyTest, WeakAndOddCurvesAreRefused) {
  const std::string point = "\x04" + std::string(64, '\x01');
  const auto with_curve = [&](absl::string_view oid, absl::string_view p) {
    DerWriter parameters;
    parameters.Put(kDerOid, oid);
    return Spki("\x2a\x86\x48\xce\x3d\x02\x01", parameters.Take(), p);
  };
  EXPECT_THAT(PublicKey::ParseSpki(with_curve("\x2b\x81\x04\x00\x0a", point)), StatusIs(kInvalid));  // cut at the NUL
  EXPECT_THAT(PublicKey::ParseSpki(with_curve(absl::string_view("\x2b\x81\x04\x00\x0a", 5), point)),
              StatusIs(kInvalid, HasSubstr("curve")));  // secp256k1
  EXPECT_THAT(PublicKey::ParseSpki(with_curve("\x2a\x86\x48\xce\x3d\x03\x01\x01", point)),
              StatusIs(kInvalid, HasSubstr("curve")));  // P-192
  // Right curve, but the point is not on it: an invalid-curve attack.
  EXPECT_THAT(PublicKey::ParseSpki(with_curve("\x2a\x86\x48\xce\x3d\x03\x01\x07", point)), StatusIs(kInvalid));
  EXPECT_THAT(PublicKey::ParseSpki(with_curve("\x2a\x86\x48\xce\x3d\x03\x01\x07", absl::string_view("\x00", 1))),
              StatusIs(kInvalid));  // the point at infinity
  // Explicit parameters instead of a named curve (CVE-2020-0601's shape).
  EXPECT_THAT(PublicKey::ParseSpki(Spki("\x2a\x86\x48\xce\x3d\x02\x01", absl::string_view("\x30\x00", 2), point)),
              StatusIs(kInvalid));
}

TEST(KeyTest, EveryTruncationAndFlipOfAnSpkiIsRefusedOrAnotherKey) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey key, PrivateKey::Generate(KeyType::kEcP256));
  const std::string spki = key.public_key().spki_der();
  for (size_t length = 0; length < spki.size(); ++length) {
    EXPECT_THAT(PublicKey::ParseSpki(spki.substr(0, length)), StatusIs(kInvalid)) << length;
  }
  EXPECT_THAT(PublicKey::ParseSpki(spki + "x"), StatusIs(kInvalid));
  for (size_t i = 0; i < spki.size(); ++i) {
    std::string bad = spki;
    bad[i] = static_cast<char>(bad[i] ^ 0x01);
    const auto parsed = PublicKey::ParseSpki(bad);
    EXPECT_TRUE(!parsed.ok() || !(*parsed == key.public_key()));
  }
}

TEST(KeyTest, PrivateKeysThatAreDamagedOrDoNotFitAreRefused) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey a, PrivateKey::Generate(KeyType::kEcP256));
  SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey b, PrivateKey::Generate(KeyType::kEcP256));
  const std::string der = a.Pkcs8Der();
  for (size_t length = 0; length < der.size(); ++length) {
    EXPECT_FALSE(PrivateKey::ParsePkcs8(der.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(PrivateKey::ParsePkcs8(der + "x").ok());
  // The public half of another key in the place of its own.
  std::string mixed = der;
  const std::string own_point = a.public_key().spki_der().substr(26),
                    other_point = b.public_key().spki_der().substr(26);
  const size_t at = mixed.find(own_point);
  ASSERT_NE(at, std::string::npos);
  mixed.replace(at, other_point.size(), other_point);
  EXPECT_THAT(PrivateKey::ParsePkcs8(mixed), StatusIs(kInvalid));
  EXPECT_THAT(PrivateKey::ParsePem(ToPem("ENCRYPTED PRIVATE KEY", "x")), StatusIs(kInvalid, HasSubstr("encrypted")));
  EXPECT_THAT(PrivateKey::ParsePem(ToPem("CERTIFICATE", "x")), StatusIs(kInvalid, HasSubstr("no private key")));
  EXPECT_THAT(PrivateKey::ParsePem(""), StatusIs(kInvalid));
}

TEST(KeyTest, Pkcs8IsWhatOpensslWritesAndReads) {
  testing::TempDir dir;
  for (const char* kind : {"EC -pkeyopt ec_paramgen_curve:P-256", "EC -pkeyopt ec_paramgen_curve:P-384",
                           "EC -pkeyopt ec_paramgen_curve:P-521", "RSA -pkeyopt rsa_keygen_bits:2048", "ED25519"}) {
    SCOPED_TRACE(kind);
    const auto made = testing::RunProgram(absl::StrCat("openssl genpkey -algorithm ", kind, " 2>/dev/null"));
    ASSERT_EQ(made.exit_code, 0) << made.output;
    SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey key, PrivateKey::ParsePem(made.output));
    EXPECT_EQ(key.Pkcs8Pem(), made.output);
    testing::WriteTestFile(dir.file("ours.pem"), key.Pkcs8Pem());
    const auto check = testing::RunProgram("openssl pkey -check -noout -in " + dir.file("ours.pem"));
    EXPECT_EQ(check.exit_code, 0) << check.output;
    // The older forms, which the fast reader leaves to OpenSSL.
    if (absl::StartsWith(kind, "EC")) {
      const auto sec1 = testing::RunProgram("openssl ec -in " + dir.file("ours.pem") + " 2>/dev/null");
      SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey from_sec1, PrivateKey::ParsePem(sec1.output));
      EXPECT_EQ(from_sec1.public_key(), key.public_key());
      const auto no_public =
          testing::RunProgram("openssl ec -no_public -outform DER -in " + dir.file("ours.pem") +
                              " 2>/dev/null | openssl pkcs8 -topk8 -nocrypt -inform DER 2>/dev/null");
      if (no_public.exit_code == 0) {
        SIGNET_ASSERT_OK_AND_ASSIGN(const PrivateKey bare, PrivateKey::ParsePem(no_public.output));
        EXPECT_EQ(bare.public_key(), key.public_key());
      }
    }
  }
}

TEST(KeyTest, AnEmptyKeyVerifiesNothing) {
  EXPECT_FALSE(PublicKey().Verify(HashAlgorithm::kSha256, "m", "s").ok());
  EXPECT_EQ(PublicKey().spki_der(), "");
}

TEST(KeyTest, APrivateKeyCannotBeFormattedOrCompared) {
  static_assert(!std::is_convertible_v<PrivateKey, std::string>);
  static_assert(!std::is_constructible_v<absl::AlphaNum, const PrivateKey&>);
}

TEST(DigestTest, KnownAnswers) {
  // FIPS 180-2 B.1; RFC 3174 7.3 TEST1.
  const auto hex = [](const std::string& bytes) {
    std::string out;
    for (unsigned char c : bytes) absl::StrAppend(&out, absl::Hex(c, absl::kZeroPad2));
    return out;
  };
  EXPECT_EQ(hex(Sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(Sha1("abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
  Sha256Stream stream;
  stream.Update("a");
  stream.Update("");
  stream.Update("bc");
  EXPECT_EQ(stream.Finish(), Sha256("abc"));
  EXPECT_EQ(Digest(HashAlgorithm::kSha512, "abc").size(), 64);
  EXPECT_TRUE(ConstantTimeEquals("abc", "abc"));
  EXPECT_FALSE(ConstantTimeEquals("abc", "abd"));
  EXPECT_FALSE(ConstantTimeEquals("abc", "ab"));
}

TEST(RandomTest, SerialsArePositiveAndDiffer) {
  std::string previous;
  bool high_bit_of_159 = false;
  for (int i = 0; i < 1000; ++i) {
    const std::string serial = RandomSerialNumber();
    ASSERT_EQ(serial.size(), 20);
    ASSERT_EQ(serial[0] & 0x80, 0);  // X509-30: positive within 20 bytes
    ASSERT_NE(serial, previous);
    high_bit_of_159 |= (serial[0] & 0x40) != 0;
    previous = serial;
  }
  EXPECT_TRUE(high_bit_of_159);
}

TEST(RandomTest, UuidIsVersion4) {
  const std::string uuid = RandomUuid();
  ASSERT_EQ(uuid.size(), 36);
  EXPECT_EQ(uuid[14], '4');
  EXPECT_NE(std::string("89ab").find(uuid[19]), std::string::npos);
}

}  // namespace
}  // namespace signet::crypto
