#include "common/crypto/certificate.h"

#include <gtest/gtest.h>

#include "common/crypto/certificate_builder.h"
#include "tests/testing/raw_certificate.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::crypto {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::IssuedBy;
using testing::SelfSigned;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

TEST(CertificateTest, ParsingGivesWhatTheBuilderFilledIn) {
  const auto root = SelfSigned(testing::CaTemplate("root", kNow));
  CertificateTemplate t = testing::LeafTemplate("spiffe://example.org/a", kNow);
  t.dns_sans = {"a.example.org", "b.example.org"};
  t.subject.common_name = "a.example.org";
  const Certificate built = IssuedBy(root, t).certificate;
  SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate parsed, Certificate::Parse(built.der()));
  EXPECT_EQ(parsed, built);
  EXPECT_EQ(parsed.public_key(), built.public_key());
  EXPECT_EQ(parsed.serial(), built.serial());
  EXPECT_EQ(parsed.SerialDecimal(), built.SerialDecimal());
  EXPECT_EQ(parsed.not_before(), built.not_before());
  EXPECT_EQ(parsed.not_after(), built.not_after());
  EXPECT_THAT(parsed.uri_sans(), ElementsAre("spiffe://example.org/a"));
  EXPECT_EQ(parsed.uri_sans(), built.uri_sans());
  EXPECT_EQ(parsed.dns_sans(), built.dns_sans());
  EXPECT_EQ(parsed.subject_der(), built.subject_der());
  EXPECT_EQ(parsed.issuer_der(), root.certificate.subject_der());
  EXPECT_EQ(parsed.issuer_der(), built.issuer_der());
  EXPECT_EQ(parsed.common_name(), "a.example.org");
  EXPECT_EQ(built.common_name(), "a.example.org");
  EXPECT_EQ(parsed.subject(), "CN=a.example.org");
  EXPECT_EQ(parsed.issuer_common_name(), "root");
  EXPECT_FALSE(parsed.is_ca());
  EXPECT_TRUE(parsed.has_key_usage());
  EXPECT_EQ(parsed.key_usage(), kDigitalSignature | kKeyEncipherment | kKeyAgreement);
  EXPECT_EQ(parsed.key_usage(), built.key_usage());
  EXPECT_EQ(parsed.subject_key_id(), parsed.public_key().KeyId());
  EXPECT_EQ(parsed.subject_key_id(), built.subject_key_id());
  EXPECT_EQ(parsed.authority_key_id(), root.certificate.subject_key_id());
  EXPECT_EQ(parsed.authority_key_id(), built.authority_key_id());
}

TEST(CertificateTest, EveryTruncationAndEveryExtraByteIsRefused) {
  const std::string der = SelfSigned(testing::CaTemplate("root", kNow)).certificate.der();
  for (size_t length = 0; length < der.size(); ++length) {
    EXPECT_THAT(Certificate::Parse(der.substr(0, length)), StatusIs(kInvalid)) << length;
  }
  EXPECT_THAT(Certificate::Parse(der + '\0'), StatusIs(kInvalid));
  EXPECT_THAT(Certificate::Parse(der + der), StatusIs(kInvalid));
  EXPECT_THAT(Certificate::Parse(std::string(16 * 1024 + 1, '\x30')), StatusIs(kInvalid, HasSubstr("16 KiB")));
}

TEST(CertificateTest, FlippedBytesNeverCrashAndNeverKeepASignature) {
  const auto root = SelfSigned(testing::CaTemplate("root", kNow));
  const std::string der = root.certificate.der();
  for (size_t i = 0; i < der.size(); ++i) {
    for (int mask : {0x01, 0x80, 0xff}) {
      std::string bad = der;
      bad[i] = static_cast<char>(bad[i] ^ mask);
      if (const auto parsed = Certificate::Parse(bad); parsed.ok()) {
        (void)parsed->subject();
        (void)parsed->SerialDecimal();
        EXPECT_NE(parsed->der(), der);
      }
    }
  }
}

TEST(CertificateTest, ChainHasNoStrayBytesAndABound) {
  const std::string a = SelfSigned(testing::CaTemplate("a", kNow)).certificate.der();
  const std::string b = SelfSigned(testing::CaTemplate("b", kNow)).certificate.der();
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto chain, Certificate::ParseChain(a + b));
  ASSERT_EQ(chain.size(), 2);
  EXPECT_EQ(chain[0].common_name(), "a");
  EXPECT_EQ(chain[1].der(), b);
  EXPECT_THAT(Certificate::ParseChain(""), StatusIs(kInvalid));
  EXPECT_THAT(Certificate::ParseChain(a + b + "x"), StatusIs(kInvalid));
  EXPECT_THAT(Certificate::ParseChain(a + b.substr(0, b.size() - 1)), StatusIs(kInvalid));
  EXPECT_THAT(Certificate::ParseChain(a + b, 1), StatusIs(kInvalid));
}

TEST(CertificateTest, PemChain) {
  const auto a = SelfSigned(testing::CaTemplate("a", kNow));
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto chain,
                              Certificate::ParsePemChain("# roots\n" + a.certificate.Pem() + a.certificate.Pem()));
  ASSERT_EQ(chain.size(), 2);
  EXPECT_EQ(chain[1], a.certificate);
  EXPECT_THAT(Certificate::ParsePemChain(""), StatusIs(kInvalid));
  EXPECT_THAT(Certificate::ParsePemChain(a.key.Pkcs8Pem()), StatusIs(kInvalid, HasSubstr("PRIVATE KEY")));
  EXPECT_THAT(Certificate::ParsePemChain(a.certificate.Pem() + a.certificate.Pem(), 1), StatusIs(kInvalid));
}

// Certificates that our builder would never make.
class ForeignCertificateTest : public ::testing::Test {
 protected:
  absl::StatusOr<Certificate> Parse(std::vector<testing::RawExtension> extensions) {
    testing::RawCertificate raw{"s", "i", kNow, kNow + absl::Hours(1), std::move(extensions)};
    return Parse(raw);
  }
  absl::StatusOr<Certificate> Parse(const testing::RawCertificate& raw) {
    return Certificate::Parse(raw.Sign(key_.public_key(), key_));
  }
  const PrivateKey key_ = PrivateKey::Generate(KeyType::kEcP256).value();
};

TEST_F(ForeignCertificateTest, NamesAreReadByLengthAndAllOfThem) {  // X509-2, N10
  const std::string with_nul("spiffe://example.org/a\0/b", 25);
  SIGNET_ASSERT_OK_AND_ASSIGN(
      const Certificate c,
      Parse({testing::RawSan(
          {{6, with_nul}, {6, "spiffe://b"}, {2, std::string("x\0y", 3)}, {1, "me@x"}, {7, "abcd"}})}));
  EXPECT_THAT(c.uri_sans(), ElementsAre(with_nul, "spiffe://b"));
  EXPECT_THAT(c.dns_sans(), ElementsAre(std::string("x\0y", 3)));
}

TEST_F(ForeignCertificateTest, AnExtensionTwiceIsRefused) {
  const auto san = testing::RawSan({{6, "spiffe://a"}});
  SIGNET_EXPECT_OK(Parse({san}));
  EXPECT_THAT(Parse({san, san}), StatusIs(kInvalid));
  EXPECT_THAT(Parse({san, testing::RawSan({{6, "spiffe://b"}})}), StatusIs(kInvalid));
  EXPECT_THAT(Parse({testing::RawBasicConstraints(false), testing::RawBasicConstraints(true)}), StatusIs(kInvalid));
}

TEST_F(ForeignCertificateTest, MalformedExtensionsAreRefused) {
  for (const char* oid : {"\x55\x1d\x11", "\x55\x1d\x13", "\x55\x1d\x0f", "\x55\x1d\x0e", "\x55\x1d\x23"}) {
    for (const std::string& value :
         {std::string(), std::string("\x30"), std::string("\x30\x05"), std::string("\x05\x00", 2)}) {
      EXPECT_THAT(Parse({{oid, false, value}}), StatusIs(kInvalid));
    }
  }
}

TEST_F(ForeignCertificateTest, ExtensionsThatAreNotDerAreRefused) {
  const auto refused = [this](const char* oid, absl::string_view value) {
    EXPECT_THAT(Parse({{oid, false, std::string(value)}}), StatusIs(kInvalid)) << oid;
  };
  refused("\x55\x1d\x11", absl::string_view("\x30\x00", 2));             // a SAN without a name
  refused("\x55\x1d\x11", "\x30\x03\x0c\x01x");                          // not a GeneralName
  refused("\x55\x1d\x11", "\x30\x03\x86\x02x");                          // longer than it is
  refused("\x55\x1d\x11", absl::string_view("\x30\x03\x86\x01x\0", 6));  // a byte behind
  refused("\x55\x1d\x13", "\x30\x03\x01\x01\x01");                       // TRUE is ff
  refused("\x55\x1d\x13", "\x30\x06\x01\x01\xff\x02\x01\xff");           // a negative path length
  refused("\x55\x1d\x0f", "\x03\x02\x08\x80");                           // eight unused bits
  refused("\x55\x1d\x0f", "\x03\x02\x07\xff");                           // unused bits that are set
  refused("\x55\x1d\x0f", "\x03\x01\x01");                               // unused bits of nothing
  refused("\x55\x1d\x23", "\x30\x03\x82\x01\x01");                       // a serial without its issuer
  refused("\x55\x1d\x91", "\x05");                                       // an identifier that is cut off
}

TEST_F(ForeignCertificateTest, OddFramesAreRefused) {
  // Each made from a good certificate by changing what RFC 5280 4.1 fixes.
  testing::RawCertificate raw{"s", "i", kNow, kNow + absl::Hours(1), {}};
  SIGNET_EXPECT_OK(Parse(raw));
  raw.version = 1;
  SIGNET_EXPECT_OK(Parse(raw));
  raw.extensions = {testing::RawBasicConstraints(true)};
  EXPECT_THAT(Parse(raw), StatusIs(kInvalid, HasSubstr("version 3")));
  raw.version = 4;
  EXPECT_THAT(Parse(raw), StatusIs(kInvalid, HasSubstr("version")));
  raw.version = 3;
  const std::string der = raw.Sign(key_.public_key(), key_);
  const std::string oid = "\x2a\x86\x48\xce\x3d\x04\x03\x02";
  std::string other_algorithm = der;
  other_algorithm[der.rfind(oid) + 7] = '\x03';
  EXPECT_THAT(Certificate::Parse(other_algorithm), StatusIs(kInvalid, HasSubstr("algorithms differ")));
}

TEST_F(ForeignCertificateTest, TimesInTheFormOfRfc5280Alone) {
  testing::RawCertificate raw{"s", "i", kNow, kNow + absl::Hours(1), {}};
  const std::string der = raw.Sign(key_.public_key(), key_);
  const std::string from = absl::FormatTime("%Y%m%d%H%M%SZ", kNow, absl::UTCTimeZone());
  for (const char* bad :
       {"20270015080000Z", "20271315080000Z", "20270132080000Z", "20270230080000Z", "20270115240000Z",
        "20270115086000Z", "20270115080060Z", "2027011508000Z0", "202701150800+01", "2027-01-15T0800"}) {
    std::string changed = der;
    changed.replace(der.find(from), from.size(), bad);
    EXPECT_THAT(Certificate::Parse(changed), StatusIs(kInvalid)) << bad;
  }
  std::string leap = der;
  leap.replace(der.find(from), from.size(), "20240229235959Z");
  SIGNET_EXPECT_OK(Certificate::Parse(leap));
}

TEST_F(ForeignCertificateTest, AbsentExtensionsReadAsAbsent) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate c, Parse(std::vector<testing::RawExtension>{}));
  EXPECT_FALSE(c.has_key_usage());
  EXPECT_FALSE(c.is_ca());
  EXPECT_TRUE(c.subject_key_id().empty());
  EXPECT_TRUE(c.authority_key_id().empty());
  testing::RawCertificate nameless{"", "", kNow, kNow + absl::Hours(1), {}};
  SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate n, Parse(nameless));
  EXPECT_EQ(n.subject(), "");
  EXPECT_EQ(n.common_name(), "");
}

TEST_F(ForeignCertificateTest, SerialNumbersOfMoreThanTwentyBytesAreRefused) {
  testing::RawCertificate raw{"s", "i", kNow, kNow + absl::Hours(1), {}};
  raw.serial = std::string(20, '\x7f');
  SIGNET_EXPECT_OK(Parse(raw));
  raw.serial = std::string(21, '\x7f');
  EXPECT_THAT(Parse(raw), StatusIs(kInvalid, HasSubstr("serial")));
}

TEST_F(ForeignCertificateTest, ControlBytesInASubjectAreEscapedForPeople) {
  testing::RawCertificate raw{"a\nb", "i", kNow, kNow + absl::Hours(1), {}};
  SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate c, Parse(raw));
  EXPECT_EQ(c.subject(), "CN=a\\0Ab");
  EXPECT_EQ(c.common_name(), "a\nb");
}

TEST(CertificateTest, AnEmptyValueAnswersWithNothing) {
  const Certificate none;
  EXPECT_EQ(none.der(), "");
  EXPECT_TRUE(none.uri_sans().empty());
  EXPECT_FALSE(none.is_ca());
}

}  // namespace
}  // namespace signet::crypto
