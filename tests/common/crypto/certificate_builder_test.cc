#include "common/crypto/certificate_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/crypto/der.h"
#include "tests/testing/run_program.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::crypto {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::RunProgram;
using testing::SelfSigned;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class CertificateBuilderTest : public ::testing::Test {
 protected:
  std::string OpensslText(const Certificate& certificate) {
    testing::WriteTestFile(dir_.file("c.der"), certificate.der());
    return RunProgram("openssl x509 -inform DER -noout -text -in " + dir_.file("c.der")).output;
  }
  std::string OpensslDump(const Certificate& certificate) {
    testing::WriteTestFile(dir_.file("c.der"), certificate.der());
    return RunProgram("openssl asn1parse -inform DER -i -in " + dir_.file("c.der")).output;
  }
  absl::StatusOr<Certificate> Build(const CertificateTemplate& t) {
    return SelfSign(t, key_.public_key(), testing::SignerOf(key_));
  }

  testing::TempDir dir_;
  const PrivateKey key_ = PrivateKey::Generate(KeyType::kEcP256).value();
};

TEST_F(CertificateBuilderTest, TimesTurnGeneralizedIn2050) {  // RFC 5280 4.1.2.5
  CertificateTemplate t = testing::LeafTemplate("spiffe://a/b", kNow);
  const auto utc = [](const char* text) {
    absl::Time time;
    EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, text, &time, nullptr));
    return time;
  };
  t.not_before = utc("2049-12-31T23:59:59Z");
  t.not_after = utc("2050-01-01T00:00:00Z");
  SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate c, Build(t));
  EXPECT_THAT(OpensslDump(c), HasSubstr("UTCTIME           :491231235959Z"));
  EXPECT_THAT(OpensslDump(c), HasSubstr("GENERALIZEDTIME   :20500101000000Z"));
  SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate parsed, Certificate::Parse(c.der()));
  EXPECT_EQ(parsed.not_before(), t.not_before);
  EXPECT_EQ(parsed.not_after(), t.not_after);
  for (const char* edge : {"2038-01-19T03:14:08Z", "2106-02-07T06:28:16Z", "9999-12-31T23:59:59Z"}) {
    t.not_after = utc(edge);
    if (t.not_before >= t.not_after) t.not_before = t.not_after - absl::Hours(1);
    SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate far, Build(t));
    EXPECT_EQ(Certificate::Parse(far.der())->not_after(), t.not_after);
    t.not_before = kNow;
  }
  t.not_after = utc("9999-12-31T23:59:59Z") + absl::Seconds(1);
  EXPECT_THAT(Build(t), StatusIs(kInvalid, HasSubstr("9999")));
  t.not_after = absl::InfiniteFuture();
  EXPECT_THAT(Build(t), StatusIs(kInvalid));
}

TEST_F(CertificateBuilderTest, SanIsCriticalExactlyWhenTheSubjectIsEmpty) {  // X509-5
  CertificateTemplate t = testing::LeafTemplate("spiffe://a/b", kNow);
  EXPECT_THAT(OpensslText(*Build(t)), HasSubstr("Subject Alternative Name: critical"));
  t.subject.organization = "O";
  EXPECT_THAT(OpensslText(*Build(t)), Not(HasSubstr("Subject Alternative Name: critical")));
}

TEST_F(CertificateBuilderTest, SubjectsAreEncodedAsTheStandardWants) {
  CertificateTemplate t = testing::LeafTemplate("spiffe://a/b", kNow);
  t.subject = {"US", "SPIRE \xc3\xa4", "unit", "name", "12"};
  SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate c, Build(t));
  const std::string dump = OpensslDump(c);
  EXPECT_THAT(dump, HasSubstr("PRINTABLESTRING   :US"));
  EXPECT_THAT(dump, HasSubstr("UTF8STRING        :name"));
  EXPECT_THAT(dump, HasSubstr("PRINTABLESTRING   :12"));
  EXPECT_EQ(c.common_name(), "name");
  for (const auto& [country, ok] :
       {std::pair("DE", true), std::pair("de", false), std::pair("D", false), std::pair("DEU", false)}) {
    t.subject.country = country;
    EXPECT_EQ(Build(t).ok(), ok) << country;
  }
  t.subject.country = "US";
  t.subject.common_name = std::string(64, 'x');
  SIGNET_EXPECT_OK(Build(t));
  t.subject.common_name += 'x';
  EXPECT_THAT(Build(t), StatusIs(kInvalid, HasSubstr("64")));
  t.subject.common_name = std::string("a\0b", 3);
  EXPECT_THAT(Build(t), StatusIs(kInvalid, HasSubstr("NUL")));
}

TEST_F(CertificateBuilderTest, KeyUsageBitsAreNamedBits) {
  struct Row {
    uint16_t bits;
    const char* text;
    const char* encoded;  // X.690 11.2.2: no trailing zero bits
  };
  for (const Row& row : {Row{kDigitalSignature, "Digital Signature\n", "03020780"},
                         Row{kKeyCertSign | kCrlSign, "Certificate Sign, CRL Sign\n", "03020106"},
                         Row{kDigitalSignature | kKeyEncipherment | kKeyAgreement,
                             "Digital Signature, Key Encipherment, Key Agreement\n", "030203A8"}}) {
    CertificateTemplate t = testing::LeafTemplate("spiffe://a/b", kNow);
    t.key_usage = row.bits;
    SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate c, Build(t));
    EXPECT_THAT(OpensslText(c), ContainsRegex(std::string("X509v3 Key Usage: critical\n *") + row.text));
    EXPECT_THAT(OpensslDump(c), HasSubstr(row.encoded));
    EXPECT_EQ(Certificate::Parse(c.der())->key_usage(), row.bits);
  }
}

TEST_F(CertificateBuilderTest, SerialNumbersArePositiveAndMinimal) {  // RFC 5280 4.1.2.2
  struct Row {
    std::string serial;
    const char* decimal;
  };
  for (const Row& row :
       {Row{std::string("\x01", 1), "1"}, Row{std::string("\x80", 1), "128"}, Row{std::string("\0\0\x7f", 3), "127"},
        Row{std::string("\x7f") + std::string(19, '\xff'), "730750818665451459101842416358141509827966271487"}}) {
    CertificateTemplate t = testing::LeafTemplate("spiffe://a/b", kNow);
    t.serial = row.serial;
    SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate c, Build(t));
    EXPECT_EQ(c.SerialDecimal(), row.decimal);
    EXPECT_EQ(Certificate::Parse(c.der())->serial(), c.serial());
    EXPECT_THAT(OpensslText(c), Not(HasSubstr("Negative")));
  }
  for (const std::string& bad :
       {std::string(), std::string(20, '\0'), std::string(20, '\xff'), std::string(21, '\x01')}) {
    CertificateTemplate t = testing::LeafTemplate("spiffe://a/b", kNow);
    t.serial = bad;
    EXPECT_THAT(Build(t), StatusIs(kInvalid, HasSubstr("serial")));
  }
}

TEST_F(CertificateBuilderTest, WhatCannotBeEncodedIsRefused) {
  CertificateTemplate t = testing::LeafTemplate("spiffe://a/b", kNow);
  for (const std::string& san : {std::string(), std::string("spiffe://a/b\0c", 14), std::string("spiffe://\xc3\xa4/b"),
                                 std::string("a b"), std::string(2049, 'a')}) {
    t.uri_sans = {san};
    EXPECT_THAT(Build(t), StatusIs(kInvalid));
    t.uri_sans.clear();
    t.dns_sans = {san};
    EXPECT_THAT(Build(t), StatusIs(kInvalid));
    t.dns_sans.clear();
  }
  t = testing::LeafTemplate("spiffe://a/b", kNow);
  t.not_after = t.not_before;
  EXPECT_THAT(Build(t), StatusIs(kInvalid, HasSubstr("ends before")));
  t = testing::CaTemplate("", kNow);
  EXPECT_THAT(Build(t), StatusIs(kInvalid, HasSubstr("subject")));
  t = testing::LeafTemplate("spiffe://a/b", kNow);
  t.dns_sans = std::vector<std::string>(70, std::string(250, 'a'));
  EXPECT_THAT(Build(t), StatusIs(kInvalid, HasSubstr("16 KiB")));
  t = testing::LeafTemplate("spiffe://a/b", kNow);
  EXPECT_THAT(SelfSign(t, PublicKey(), testing::SignerOf(key_)), StatusIs(kInvalid));
  for (KeyType type : {KeyType::kEcP521, KeyType::kEd25519}) {
    EXPECT_THAT(IssueCertificate(t, key_.public_key(), "", "", type, testing::SignerOf(key_)), StatusIs(kInvalid));
  }
}

TEST_F(CertificateBuilderTest, TheSignersErrorIsHandedOn) {
  const auto failing = [](HashAlgorithm, absl::string_view) -> absl::StatusOr<std::string> {
    return absl::UnavailableError("token is out");
  };
  EXPECT_THAT(SelfSign(testing::LeafTemplate("spiffe://a/b", kNow), key_.public_key(), failing),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("token is out")));
}

TEST_F(CertificateBuilderTest, LongNamesNeedLongLengths) {
  CertificateTemplate t = testing::LeafTemplate("spiffe://a/" + std::string(2037, 'p'), kNow);
  SIGNET_ASSERT_OK_AND_ASSIGN(const Certificate c, Build(t));
  EXPECT_EQ(Certificate::Parse(c.der())->uri_sans(), t.uri_sans);  // ID-11
}

TEST(DerTest, WriterUsesTheShortestLength) {
  for (const size_t size : {0u, 1u, 127u, 128u, 255u, 256u, 65'535u, 65'536u}) {
    DerWriter out;
    out.Put(kDerOctetString, std::string(size, 'x'));
    const std::string der = out.Take();
    EXPECT_EQ(der.size() - size, size < 128 ? 2u : size < 256 ? 3u : size < 65'536 ? 4u : 5u);
    absl::string_view content;
    DerReader in(der);
    ASSERT_TRUE(in.Read(kDerOctetString, &content));
    EXPECT_EQ(content.size(), size);
    EXPECT_TRUE(in.done());
  }
}

TEST(DerTest, ReaderRefusesWhatIsNotDer) {
  const absl::string_view bad[] = {
      absl::string_view("\x30", 1),                          // no length
      absl::string_view("\x30\x01", 2),                      // no content
      absl::string_view("\x30\x80\x00\x00", 4),              // indefinite
      absl::string_view("\x30\x81\x01\x00", 4),              // not the shortest
      absl::string_view("\x30\x82\x00\x80", 4),              // leading zero
      absl::string_view("\x30\x85\x01\x00\x00\x00\x00", 7),  // 4 GiB
      absl::string_view("\x30\x84\xff\xff\xff\xff", 6),      // beyond the input
      absl::string_view("\x1f\x81\x01\x00", 4),              // high tag number
  };
  for (const absl::string_view der : bad) {
    uint8_t tag;
    absl::string_view content;
    DerReader in(der);
    EXPECT_FALSE(in.ReadAny(&tag, &content));
    EXPECT_FALSE(in.done());
  }
}

TEST(DerTest, ObjectIdentifiersHaveWholeArcsInTheirShortestForm) {
  const auto accepts = [](absl::string_view der) {
    absl::string_view oid;
    return DerReader(der).ReadOid(&oid);
  };
  EXPECT_TRUE(accepts("\x06\x03\x55\x1d\x11"));
  EXPECT_TRUE(accepts("\x06\x03\x2a\x86\x48"));
  EXPECT_FALSE(accepts(absl::string_view("\x06\x00", 2)));
  EXPECT_FALSE(accepts("\x06\x03\x55\x1d\x91"));  // cut off
  EXPECT_FALSE(accepts("\x06\x03\x55\x80\x11"));  // a leading zero
}

TEST(DerTest, IntegersAreMinimalAndNotNegative) {
  const auto read = [](absl::string_view der) -> std::string {
    absl::string_view magnitude;
    return DerReader(der).ReadUnsigned(&magnitude) ? "ok:" + std::string(magnitude) : "refused";
  };
  EXPECT_EQ(read(absl::string_view("\x02\x01\x00", 3)), "ok:");
  EXPECT_EQ(read("\x02\x01\x7f"), "ok:\x7f");
  EXPECT_EQ(read(absl::string_view("\x02\x02\x00\x80", 4)), "ok:\x80");
  EXPECT_EQ(read("\x02\x01\x80"), "refused");                            // negative
  EXPECT_EQ(read(absl::string_view("\x02\x02\x00\x7f", 4)), "refused");  // not minimal
  EXPECT_EQ(read(absl::string_view("\x02\x00", 2)), "refused");          // empty
  EXPECT_EQ(read(absl::string_view("\x03\x01\x00", 3)), "refused");      // no INTEGER
}

}  // namespace
}  // namespace signet::crypto
