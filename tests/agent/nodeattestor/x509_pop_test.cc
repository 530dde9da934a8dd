#include "agent/nodeattestor/x509_pop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "common/fs/atomic_file.h"
#include "common/nodeattestor/x509_pop.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::agent {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class AgentX509PopTest : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& content) {
    SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file(name), content));
  }
  X509Pop Attestor(bool with_intermediates = false) {
    return X509Pop({.certificate_path = dir_.file("cert.pem"),
                    .private_key_path = dir_.file("key.pem"),
                    .intermediates_path = with_intermediates ? dir_.file("more.pem") : ""});
  }

  testing::TempDir dir_;
  testing::TestCert root_ = testing::SelfSigned(testing::CaTemplate("root", kNow));
  testing::TestCert intermediate_ = testing::IssuedBy(root_, testing::CaTemplate("intermediate", kNow));
  testing::TestCert node_ = testing::IssuedBy(intermediate_, testing::LeafTemplate("spiffe://x/y", kNow));
};

TEST_F(AgentX509PopTest, SendsTheChainAndAnswersTheChallenge) {
  Write("cert.pem", node_.certificate.Pem());
  Write("key.pem", node_.key.Pkcs8Pem());
  Write("more.pem", intermediate_.certificate.Pem());
  X509Pop attestor = Attestor(true);
  EXPECT_EQ(attestor.type(), "x509pop");
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::string payload, attestor.Payload());
  EXPECT_THAT(x509pop::ParseEvidence(payload), IsOkAndHolds(ElementsAre(node_.certificate, intermediate_.certificate)));
  const auto challenge = *x509pop::MakeChallenge(node_.certificate.public_key());
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::string response, attestor.Respond(challenge.json));
  EXPECT_THAT(x509pop::CheckResponse(node_.certificate.public_key(), challenge.nonce, response), IsOk());
  // One signature for one payload: the agent is no oracle.
  EXPECT_THAT(attestor.Respond(challenge.json), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(AgentX509PopTest, ARenewedCertificateIsUsedWithoutARestart) {
  Write("cert.pem", node_.certificate.Pem() + intermediate_.certificate.Pem());
  Write("key.pem", node_.key.Pkcs8Pem());
  X509Pop attestor = Attestor();
  EXPECT_THAT(x509pop::ParseEvidence(*attestor.Payload()),
              IsOkAndHolds(ElementsAre(node_.certificate, intermediate_.certificate)));
  const auto renewed = testing::IssuedBy(root_, testing::LeafTemplate("spiffe://x/y", kNow));
  Write("cert.pem", renewed.certificate.Pem());
  Write("key.pem", renewed.key.Pkcs8Pem());
  // The challenge that is under way is still for the certificate that was sent.
  const auto challenge = *x509pop::MakeChallenge(node_.certificate.public_key());
  EXPECT_THAT(
      x509pop::CheckResponse(node_.certificate.public_key(), challenge.nonce, *attestor.Respond(challenge.json)),
      IsOk());
  EXPECT_THAT(x509pop::ParseEvidence(*attestor.Payload()), IsOkAndHolds(ElementsAre(renewed.certificate)));
}

TEST_F(AgentX509PopTest, SaysWhatToPutWhere) {
  const auto unusable = [](absl::string_view key) {
    return StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(std::string(key)));
  };
  EXPECT_THAT(Attestor().Payload(), unusable("certificate_path"));
  Write("cert.pem", "x");
  EXPECT_THAT(Attestor().Payload(), unusable("certificate_path"));
  Write("cert.pem", node_.certificate.Pem());
  EXPECT_THAT(Attestor().Payload(), unusable("private_key_path"));
  Write("key.pem", "x");
  EXPECT_THAT(Attestor().Payload(), unusable("private_key_path"));
  Write("key.pem", root_.key.Pkcs8Pem());
  EXPECT_THAT(Attestor().Payload(), unusable("not the key of the first certificate"));
  Write("key.pem", node_.key.Pkcs8Pem());
  EXPECT_THAT(Attestor(true).Payload(), unusable("intermediates_path"));
  chmod(dir_.file("key.pem").c_str(), 0644);
  EXPECT_THAT(Attestor().Payload(), unusable("private_key_path"));
}

TEST_F(AgentX509PopTest, NoEvidenceNoSignature) {
  EXPECT_THAT(Attestor().Respond("{}"), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace signet::agent
