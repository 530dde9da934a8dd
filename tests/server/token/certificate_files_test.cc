#include "server/token/certificate_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "common/fs/atomic_file.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::signet::testing::LeafTemplate;
using ::signet::testing::SelfSigned;
using ::signet::testing::StatusIs;
using ::signet::testing::TestCert;
using ::testing::HasSubstr;

class CertificateFilesTest : public ::testing::Test {
 protected:
  TestCert Write(const std::vector<std::string>& names) {
    crypto::CertificateTemplate t = LeafTemplate("https://web", absl::Now());
    t.uri_sans.clear();
    t.dns_sans = names;
    TestCert made = SelfSigned(t);
    EXPECT_TRUE(fs::WriteFileAtomically(certificate_, made.certificate.Pem()).ok());
    EXPECT_TRUE(fs::WriteFileAtomically(key_, made.key.Pkcs8Pem()).ok());
    return made;
  }
  absl::StatusOr<std::unique_ptr<CertificateFiles>> Open() {
    return CertificateFiles::Create(certificate_, key_, health_, clock_);
  }

  testing::TempDir dir_;
  const std::string certificate_ = dir_.file("web.pem"), key_ = dir_.file("web.key");
  fakes::FakeClock clock_;
  telemetry::Health health_;
};

TEST_F(CertificateFilesTest, NamesWhatIsWrongWithTheFiles) {
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr(certificate_)));
  Write({"id.example.org"});
  SIGNET_EXPECT_OK(Open());
  const TestCert other = SelfSigned(LeafTemplate("spiffe://td/a", absl::Now()));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(key_, other.key.Pkcs8Pem()));
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is not the key of")));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(key_, "no key"));
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(key_)));
}

TEST_F(CertificateFilesTest, ReadsAgainAndKeepsWhatItHasWhenItCannot) {
  const TestCert first = Write({"id.example.org"});
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto files, Open());
  EXPECT_EQ(files->Get()->chain[0], first.certificate);
  const TestCert second = Write({"id.example.org"});
  SIGNET_ASSERT_OK(files->Reload());
  EXPECT_EQ(files->Get()->chain[0], second.certificate);
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(certificate_, first.certificate.Pem()));  // its key is gone
  EXPECT_FALSE(files->Reload().ok());
  EXPECT_EQ(files->Get()->chain[0], second.certificate);
}

TEST_F(CertificateFilesTest, CoversTheNamesOfItsCertificateAlone) {
  Write({"id.example.org", "*.agents.example.org"});
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto files, Open());
  for (const char* host : {"id.example.org", "ID.example.ORG", "a.agents.example.org"}) {
    EXPECT_TRUE(files->Covers(host)) << host;
  }
  for (const char* host : {"", "example.org", "x.id.example.org", "agents.example.org", "a.b.agents.example.org",
                           ".agents.example.org.evil", "spiffe.invalid"}) {
    EXPECT_FALSE(files->Covers(host)) << host;
  }
}

}  // namespace
}  // namespace signet::server
