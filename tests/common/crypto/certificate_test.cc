#include "common/crypto/certificate.h"

#include <gtest/gtest.h>

#include "common/crypto/certificate_builder.h"
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

TEST(CertificateTest, AnEmptyValueAnswersWithNothing) {
  const Certificate none;
  EXPECT_EQ(none.der(), "");
  EXPECT_TRUE(none.uri_sans().empty());
  EXPECT_FALSE(none.is_ca());
}

}  // namespace
}  // namespace signet::crypto
