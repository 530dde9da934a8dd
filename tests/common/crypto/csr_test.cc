#include "common/crypto/csr.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "common/crypto/der.h"
#include "common/crypto/pem.h"
#include "tests/testing/run_program.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::crypto {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::RunProgram;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr absl::string_view kEcdsaSha256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02";
constexpr absl::string_view kExtensionRequest = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";

const PrivateKey& Key() {
  static const PrivateKey key = PrivateKey::Generate(KeyType::kEcP256).value();
  return key;
}

// A request made by hand and signed properly.
struct RawCsr {
  uint8_t version = 0;
  std::string signature_oid = std::string(kEcdsaSha256);
  std::string spki = Key().public_key().spki_der();
  std::function<void(DerWriter&)> subject, attributes;
  const PrivateKey* signer = &Key();
  HashAlgorithm hash = HashAlgorithm::kSha256;

  std::string Make() const {
    DerWriter info;
    info.Nest(kDerSequence, [&] {
      info.PutSmall(version);
      info.Nest(kDerSequence, [&] {
        if (subject) subject(info);
      });
      info.PutRaw(spki);
      if (attributes) info.Nest(DerContextConstructed(0), [&] { attributes(info); });
    });
    const std::string to_sign = info.Take();
    DerWriter out;
    out.Nest(kDerSequence, [&] {
      out.PutRaw(to_sign);
      out.Nest(kDerSequence, [&] { out.Put(kDerOid, signature_oid); });
      out.PutBitString(signer->Sign(hash, to_sign).value());
    });
    return out.Take();
  }
};

void PutExtensionRequest(DerWriter& out, const std::function<void()>& extensions) {
  out.Nest(kDerSequence, [&] {
    out.Put(kDerOid, kExtensionRequest);
    out.Nest(kDerSet, [&] { out.Nest(kDerSequence, extensions); });
  });
}
void PutSan(DerWriter& out, const std::vector<std::pair<int, std::string>>& names) {
  out.Nest(kDerSequence, [&] {
    out.Put(kDerOid, "\x55\x1d\x11");
    out.Nest(kDerOctetString, [&] {
      out.Nest(kDerSequence, [&] {
        for (const auto& [kind, bytes] : names) out.Put(DerContext(kind), bytes);
      });
    });
  });
}

TEST(CsrTest, WhatWeMakeIsWhatWeRead) {
  for (KeyType type : {KeyType::kEcP256, KeyType::kEcP384, KeyType::kRsa2048}) {
    const PrivateKey key = PrivateKey::Generate(type).value();
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::string der,
                                CertificateRequest::Create(key, {"spiffe://a/b"}, {"x.org", "y.org"}));
    SIGNET_ASSERT_OK_AND_ASSIGN(const CertificateRequest csr, CertificateRequest::ParseAndVerify(der));
    EXPECT_EQ(csr.public_key(), key.public_key());
    EXPECT_THAT(csr.uri_sans(), ElementsAre("spiffe://a/b"));
    EXPECT_THAT(csr.dns_sans(), ElementsAre("x.org", "y.org"));
    EXPECT_FALSE(csr.has_other_sans());
    EXPECT_FALSE(csr.has_other_extensions());
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::string bare, CertificateRequest::Create(key, {}));
    SIGNET_EXPECT_OK(CertificateRequest::ParseAndVerify(bare));
  }
}

TEST(CsrTest, OpensslAgreesBothWays) {
  testing::TempDir dir;
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::string der, CertificateRequest::Create(Key(), {"spiffe://a/b"}, {"x.org"}));
  testing::WriteTestFile(dir.file("ours.der"), der);
  const auto ours = RunProgram("openssl req -inform DER -verify -noout -text -in " + dir.file("ours.der"));
  EXPECT_EQ(ours.exit_code, 0) << ours.output;
  EXPECT_THAT(ours.output, HasSubstr("DNS:x.org, URI:spiffe://a/b"));
  for (const char* key : {"ec -pkeyopt ec_paramgen_curve:P-256", "ec -pkeyopt ec_paramgen_curve:P-384", "rsa:2048"}) {
    const auto made =
        RunProgram(absl::StrCat("openssl req -new -nodes -newkey ", key, " -keyout /dev/null -subj '/C=US/CN=me' ",
                                "-addext 'subjectAltName=URI:spiffe://a/b,DNS:x.org,IP:127.0.0.1' ",
                                "-addext 'keyUsage=critical,keyCertSign' -outform DER -out ", dir.file("theirs.der")));
    ASSERT_EQ(made.exit_code, 0) << made.output;
    std::ifstream in(dir.file("theirs.der"), std::ios::binary);
    const std::string theirs(std::istreambuf_iterator<char>(in), {});
    SIGNET_ASSERT_OK_AND_ASSIGN(const CertificateRequest csr, CertificateRequest::ParseAndVerify(theirs));
    EXPECT_THAT(csr.uri_sans(), ElementsAre("spiffe://a/b"));
    EXPECT_THAT(csr.dns_sans(), ElementsAre("x.org"));
    EXPECT_TRUE(csr.has_other_sans());
    EXPECT_TRUE(csr.has_other_extensions());
    EXPECT_EQ(csr.common_name(), "me");
  }
}

TEST(CsrTest, TheSenderMustHoldTheKey) {
  SIGNET_EXPECT_OK(CertificateRequest::ParseAndVerify(RawCsr().Make()));
  const PrivateKey other = PrivateKey::Generate(KeyType::kEcP256).value();
  RawCsr stolen;
  stolen.signer = &other;
  EXPECT_THAT(CertificateRequest::ParseAndVerify(stolen.Make()),
              StatusIs(kInvalid, HasSubstr("signature does not verify")));
}

TEST(CsrTest, EveryTruncationAndEveryFlippedBitIsRefused) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::string der, CertificateRequest::Create(Key(), {"spiffe://a/b"}, {"x.org"}));
  for (size_t length = 0; length < der.size(); ++length) {
    EXPECT_THAT(CertificateRequest::ParseAndVerify(der.substr(0, length)), StatusIs(kInvalid)) << length;
  }
  EXPECT_THAT(CertificateRequest::ParseAndVerify(der + '\0'), StatusIs(kInvalid));
  for (size_t i = 0; i < der.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = der;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      EXPECT_THAT(CertificateRequest::ParseAndVerify(bad), StatusIs(kInvalid)) << i;
    }
  }
}

TEST(CsrTest, SizesAreCappedBeforeAnyCryptography) {  // N6
  EXPECT_THAT(CertificateRequest::ParseAndVerify(std::string(16 * 1024 + 1, '\x30')),
              StatusIs(kInvalid, HasSubstr("16 KiB")));
  // An RSA key of 8192 bits, and one of 16384: refused by their size, the signature is never looked at.
  for (const auto& [bytes, why] :
       {std::pair(1024, "above 4096"), std::pair(2048, "above 8192"), std::pair(128, "below 2048")}) {
    std::string modulus(static_cast<size_t>(bytes), '\xa5');
    modulus.back() = '\x01';
    DerWriter rsa, spki;
    rsa.Nest(kDerSequence, [&] {
      rsa.PutUnsigned(modulus);
      rsa.PutUnsigned("\x03");
    });
    spki.Nest(kDerSequence, [&] {
      spki.Nest(kDerSequence, [&] {
        spki.Put(kDerOid, "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01");
        spki.Put(kDerNull, {});
      });
      spki.PutBitString(rsa.Take());
    });
    RawCsr raw;
    raw.spki = spki.Take();
    EXPECT_THAT(CertificateRequest::ParseAndVerify(raw.Make()), StatusIs(kInvalid, HasSubstr(why)));
  }
}

TEST(CsrTest, KindsOfKeysThatAreRefused) {
  for (KeyType type : {KeyType::kEcP521, KeyType::kEd25519}) {
    const PrivateKey key = PrivateKey::Generate(type).value();
    RawCsr raw;
    raw.spki = key.public_key().spki_der();
    raw.signer = &key;
    EXPECT_THAT(CertificateRequest::ParseAndVerify(raw.Make()), StatusIs(kInvalid, HasSubstr(KeyTypeName(type))));
    EXPECT_FALSE(CertificateRequest::Create(key, {}).ok());
  }
}

TEST(CsrTest, SignatureAlgorithmsMustBeStrongAndFitTheKey) {
  RawCsr raw;
  for (const char* oid : {"\x2a\x86\x48\xce\x3d\x04\x01",             // ecdsa-with-SHA1
                          "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b",     // RSA with SHA-256 and an EC key
                          "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"}) {  // RSA with MD5
    raw.signature_oid = oid;
    EXPECT_THAT(CertificateRequest::ParseAndVerify(raw.Make()), StatusIs(kInvalid, HasSubstr("signature algorithm")));
  }
  raw.signature_oid = "\x2a\x86\x48\xce\x3d\x04\x03\x03";  // SHA-384 over P-256 is fine
  raw.hash = HashAlgorithm::kSha384;
  SIGNET_EXPECT_OK(CertificateRequest::ParseAndVerify(raw.Make()));
}

TEST(CsrTest, NamesAreReadByLength) {
  const std::string with_nul("spiffe://example.org/a\0/b", 25);
  RawCsr raw;
  raw.attributes = [&](DerWriter& out) {
    PutExtensionRequest(out, [&] { PutSan(out, {{6, with_nul}, {6, "spiffe://b"}, {2, ""}, {7, "abcd"}}); });
  };
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto csr, CertificateRequest::ParseAndVerify(raw.Make()));
  EXPECT_THAT(csr.uri_sans(), ElementsAre(with_nul, "spiffe://b"));
  EXPECT_THAT(csr.dns_sans(), ElementsAre(""));
  EXPECT_TRUE(csr.has_other_sans());
}

TEST(CsrTest, TwoSubjectAltNamesAreRefused) {
  RawCsr one_request;
  one_request.attributes = [&](DerWriter& out) {
    PutExtensionRequest(out, [&] {
      PutSan(out, {{6, "spiffe://a/a"}});
      PutSan(out, {{6, "spiffe://a/b"}});
    });
  };
  EXPECT_THAT(CertificateRequest::ParseAndVerify(one_request.Make()), StatusIs(kInvalid, HasSubstr("two")));
  RawCsr two_requests;
  two_requests.attributes = [&](DerWriter& out) {
    PutExtensionRequest(out, [&] { PutSan(out, {{6, "spiffe://a/a"}}); });
    PutExtensionRequest(out, [&] { PutSan(out, {{6, "spiffe://a/b"}}); });
  };
  EXPECT_THAT(CertificateRequest::ParseAndVerify(two_requests.Make()), StatusIs(kInvalid, HasSubstr("two")));
}

TEST(CsrTest, MalformedInsidesAreRefusedThoughTheSignatureIsRight) {
  using Put = std::function<void(DerWriter&)>;
  const Put bad_attributes[] = {
      [](DerWriter& out) { out.PutSmall(1); },
      [](DerWriter& out) { out.Nest(kDerSequence, [&] { out.Put(kDerOid, kExtensionRequest); }); },
      [](DerWriter& out) {
        out.Nest(kDerSequence, [&] {
          out.Put(kDerOid, kExtensionRequest);
          out.Nest(kDerSet, [] {});  // no value
        });
      },
      [](DerWriter& out) {
        out.Nest(kDerSequence, [&] {
          out.Put(kDerOid, kExtensionRequest);
          out.Nest(kDerSet, [&] {  // two values
            out.Nest(kDerSequence, [] {});
            out.Nest(kDerSequence, [] {});
          });
        });
      },
      [](DerWriter& out) { PutExtensionRequest(out, [&] { out.PutSmall(1); }); },
      [](DerWriter& out) {
        PutExtensionRequest(out, [&] { out.Nest(kDerSequence, [&] { out.Put(kDerOid, "\x55\x1d\x11"); }); });
      },
      [](DerWriter& out) {  // the value is not a SEQUENCE
        PutExtensionRequest(out, [&] {
          out.Nest(kDerSequence, [&] {
            out.Put(kDerOid, "\x55\x1d\x11");
            out.Put(kDerOctetString, "\x05\x05");
          });
        });
      },
  };
  for (const Put& attributes : bad_attributes) {
    RawCsr raw;
    raw.attributes = attributes;
    EXPECT_THAT(CertificateRequest::ParseAndVerify(raw.Make()), StatusIs(kInvalid));
  }
  RawCsr version;
  version.version = 1;
  EXPECT_THAT(CertificateRequest::ParseAndVerify(version.Make()), StatusIs(kInvalid, HasSubstr("version")));
  RawCsr subject;
  subject.subject = [](DerWriter& out) { out.PutSmall(5); };
  EXPECT_THAT(CertificateRequest::ParseAndVerify(subject.Make()), StatusIs(kInvalid, HasSubstr("subject")));
}

}  // namespace
}  // namespace signet::crypto
