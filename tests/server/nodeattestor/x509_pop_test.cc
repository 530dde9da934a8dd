#include "server/nodeattestor/x509_pop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "common/nodeattestor/x509_pop.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::signet::testing::CaTemplate;
using ::signet::testing::IsOk;
using ::signet::testing::IssuedBy;
using ::signet::testing::SelfSigned;
using ::signet::testing::StatusIs;
using ::signet::testing::TestCert;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class X509PopTest : public ::testing::Test {
 protected:
  X509PopTest() {
    SIGNET_EXPECT_OK(fs::WriteFileAtomically(dir_.file("roots.pem"), root_.certificate.Pem()));
    attestor_ = *X509Pop::Create(Options(), clock_);
  }
  X509Pop::Options Options() {
    return {.trust_domain = *spiffe::TrustDomain::Parse("td"), .ca_bundle_paths = {dir_.file("roots.pem")}};
  }
  static crypto::CertificateTemplate NodeTemplate(absl::Time now) {
    crypto::CertificateTemplate t;
    t.serial = std::string("\x0a\x1b\x2c", 3);
    t.subject.common_name = "node-1";
    t.not_before = now - absl::Hours(1);
    t.not_after = now + absl::Hours(1);
    t.key_usage = crypto::kDigitalSignature;
    return t;
  }
  static absl::StatusOr<NodeAttestation::Step> Start(NodeAttestation& attestation,
                                                     const std::vector<crypto::Certificate>& chain) {
    absl::StatusOr<NodeAttestation::Step> out = absl::InternalError("not called");
    attestation.Start(x509pop::EncodeEvidence(chain),
                      [&](absl::StatusOr<NodeAttestation::Step> step) { out = std::move(step); });
    return out;
  }
  static absl::StatusOr<NodeAttestation::Step> Respond(NodeAttestation& attestation, const std::string& response) {
    absl::StatusOr<NodeAttestation::Step> out = absl::InternalError("not called");
    attestation.Respond(response, [&](absl::StatusOr<NodeAttestation::Step> step) { out = std::move(step); });
    return out;
  }
  absl::StatusOr<NodeAttestation::Step> Attest(const std::vector<crypto::Certificate>& chain,
                                               const crypto::PrivateKey& key) {
    const auto attestation = attestor_->Begin();
    auto step = Start(*attestation, chain);
    if (!step.ok()) return step;
    return Respond(*attestation, *x509pop::Respond(key, *step->challenge));
  }

  fakes::FakeClock clock_;
  testing::TempDir dir_;
  TestCert root_ = SelfSigned(CaTemplate("node root", clock_.Now()));
  std::unique_ptr<X509Pop> attestor_;
};

TEST_F(X509PopTest, ProvesTheHolderOfAGoodCertificate) {
  EXPECT_EQ(attestor_->type(), "x509pop");
  for (auto kind : {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384, crypto::KeyType::kRsa2048}) {
    auto t = NodeTemplate(clock_.Now());
    t.uri_sans = {"x509pop://td/datacenter/us-east-1",
                  "x509pop://td/env/prod/eu",
                  "x509pop://other/env/test",
                  "https://td/env/x",
                  "x509pop://td/nokey",
                  "x509pop://td/a/b%2f",
                  "x509pop://td/a/b?c"};
    const TestCert node = IssuedBy(root_, t, kind);
    SIGNET_ASSERT_OK_AND_ASSIGN(const NodeAttestation::Step step, Attest({node.certificate}, node.key));
    ASSERT_TRUE(step.node.has_value());
    const std::string fingerprint = x509pop::Fingerprint(node.certificate);
    EXPECT_EQ(step.node->agent_id.string(), absl::StrCat("spiffe://td/spire/agent/x509pop/", fingerprint));
    EXPECT_TRUE(step.node->can_reattest);
    EXPECT_FALSE(step.node->consume_token_sha256.has_value());
    using spiffe::Selector;
    EXPECT_THAT(step.node->selectors,
                UnorderedElementsAre(
                    Selector{"x509pop", "subject:cn:node-1"}, Selector{"x509pop", "serialnumber:0a1b2c"},
                    Selector{"x509pop", absl::StrCat("ca:fingerprint:", x509pop::Fingerprint(root_.certificate))},
                    Selector{"x509pop", "san:datacenter:us-east-1"}, Selector{"x509pop", "san:env:prod/eu"}));
  }
}

TEST_F(X509PopTest, OnlyCertificatesThatVouchGiveSelectors) {  // N4: what was sent along proves nothing
  const TestCert intermediate = IssuedBy(root_, CaTemplate("intermediate", clock_.Now()));
  const TestCert stranger = SelfSigned(CaTemplate("stranger", clock_.Now()));
  const TestCert node = IssuedBy(intermediate, NodeTemplate(clock_.Now()));
  SIGNET_ASSERT_OK_AND_ASSIGN(const NodeAttestation::Step step,
                              Attest({node.certificate, stranger.certificate, intermediate.certificate}, node.key));
  const auto has = [&](const TestCert& cert) {
    const spiffe::Selector wanted{"x509pop", absl::StrCat("ca:fingerprint:", x509pop::Fingerprint(cert.certificate))};
    return std::count(step.node->selectors.begin(), step.node->selectors.end(), wanted) == 1;
  };
  EXPECT_TRUE(has(intermediate));
  EXPECT_TRUE(has(root_));
  EXPECT_FALSE(has(stranger));
}

TEST_F(X509PopTest, RefusesCertificatesThatDoNotHold) {
  const auto denied = StatusIs(absl::StatusCode::kPermissionDenied);
  const TestCert node = IssuedBy(root_, NodeTemplate(clock_.Now()));
  const TestCert stranger = IssuedBy(SelfSigned(CaTemplate("node root", clock_.Now())), NodeTemplate(clock_.Now()));
  EXPECT_THAT(Start(*attestor_->Begin(), {stranger.certificate}), denied);
  const TestCert by_leaf = IssuedBy(node, NodeTemplate(clock_.Now()));
  EXPECT_THAT(Start(*attestor_->Begin(), {by_leaf.certificate, node.certificate}), denied);
  auto t = NodeTemplate(clock_.Now());
  t.key_usage = crypto::kKeyAgreement;
  EXPECT_THAT(Start(*attestor_->Begin(), {IssuedBy(root_, t).certificate}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("digitalSignature")));
  EXPECT_THAT(
      Start(*attestor_->Begin(), {IssuedBy(root_, NodeTemplate(clock_.Now()), crypto::KeyType::kEd25519).certificate}),
      StatusIs(absl::StatusCode::kInvalidArgument));
  clock_.Advance(absl::Hours(2));
  EXPECT_THAT(Start(*attestor_->Begin(), {node.certificate}), denied);
}

TEST_F(X509PopTest, TheKeyMustBeThere) {
  const TestCert node = IssuedBy(root_, NodeTemplate(clock_.Now())),
                 other = IssuedBy(root_, NodeTemplate(clock_.Now()));
  EXPECT_THAT(Attest({node.certificate}, other.key), StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(X509PopTest, OneChallengeHasOneTry) {
  const TestCert node = IssuedBy(root_, NodeTemplate(clock_.Now())),
                 other = IssuedBy(root_, NodeTemplate(clock_.Now()));
  const auto attestation = attestor_->Begin();
  const auto step = Start(*attestation, {node.certificate});
  EXPECT_THAT(Respond(*attestation, *x509pop::Respond(other.key, *step->challenge)),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(Respond(*attestation, *x509pop::Respond(node.key, *step->challenge)),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(X509PopTest, ARecordedResponseDoesNotReplay) {
  const TestCert node = IssuedBy(root_, NodeTemplate(clock_.Now()));
  const auto first = attestor_->Begin(), second = attestor_->Begin();
  const std::string response = *x509pop::Respond(node.key, *Start(*first, {node.certificate})->challenge);
  EXPECT_THAT(Respond(*first, response), IsOk());
  EXPECT_THAT(Start(*second, {node.certificate}), IsOk());
  EXPECT_THAT(Respond(*second, response), StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(X509PopTest, KeepsTheOrderOfSteps) {
  const TestCert node = IssuedBy(root_, NodeTemplate(clock_.Now()));
  const auto attestation = attestor_->Begin();
  EXPECT_THAT(Respond(*attestation, "{}"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Start(*attestation, {node.certificate}), IsOk());
  EXPECT_THAT(Start(*attestation, {node.certificate}), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(X509PopTest, TheConfigurationIsChecked) {
  auto options = Options();
  options.agent_path_prefix = "nodes/rack-1";
  EXPECT_THAT(X509Pop::Create(options, clock_), IsOk());
  for (const char* prefix :
       {"", "a//b", "../x", "a b", "join_token", "join_token/x", "k8s_psat", "k8s_psat/prod", "/a"}) {
    options.agent_path_prefix = prefix;
    EXPECT_THAT(X509Pop::Create(options, clock_),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("agent_path_prefix")))
        << prefix;
  }
  options = Options();
  options.ca_bundle_paths.clear();
  EXPECT_THAT(X509Pop::Create(options, clock_),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ca_bundle_paths")));
  options.ca_bundle_paths = {dir_.file("absent.pem")};
  EXPECT_THAT(X509Pop::Create(options, clock_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("absent.pem")));
  SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file("bad.pem"), "x"));
  options.ca_bundle_paths = {dir_.file("roots.pem"), dir_.file("bad.pem")};
  EXPECT_THAT(X509Pop::Create(options, clock_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bad.pem")));
}

}  // namespace
}  // namespace signet::server
