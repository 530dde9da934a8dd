#include "server/api/caller.h"

#include <gmock/gmock.h>

#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using testing::CaTemplate;
using testing::IssuedBy;
using testing::LeafTemplate;
using testing::SelfSigned;
using testing::StatusIs;
using testing::TestCert;

constexpr char kAgent[] = "spiffe://example.org/spire/agent/join_token/a";

class TlsCallersTest : public ::testing::Test {
 protected:
  TlsCallersTest() { Trust({root_}); }

  void Trust(const std::vector<TestCert>& roots) {
    spiffe::Bundle bundle{.trust_domain = spiffe::TrustDomain::Parse("example.org").value(),
                          .x509_authorities = {},
                          .jwt_authorities = {}};
    for (const TestCert& root : roots) bundle.x509_authorities.push_back({.certificate = root.certificate});
    bundle_ = std::make_shared<const spiffe::Bundle>(bundle);
  }
  CallerPtr Identify(const TestCert& leaf, const std::string& chain = "") {
    return callers_.Identify(leaf.certificate.Pem(), chain);
  }

  fakes::FakeClock clock_;
  TestCert root_ = SelfSigned(CaTemplate("root", clock_.Now()));
  std::shared_ptr<const spiffe::Bundle> bundle_;
  TlsCallers callers_{[this](const spiffe::TrustDomain& td) { return td.name() == "example.org" ? bundle_ : nullptr; },
                      clock_};
};

TEST_F(TlsCallersTest, ProvesTheHolderOfAnSvid) {
  const TestCert leaf = IssuedBy(root_, LeafTemplate(kAgent, clock_.Now()));
  const CallerPtr caller = Identify(leaf);
  ASSERT_EQ(caller->kind, Caller::Kind::kTls) << caller->problem;
  EXPECT_EQ(caller->id->string(), kAgent);
  EXPECT_EQ(caller->serial, leaf.certificate.SerialDecimal());
  EXPECT_EQ(caller->not_after, leaf.certificate.not_after());
  EXPECT_FALSE(caller->expired);
}

TEST_F(TlsCallersTest, ProvesThroughIntermediates) {
  const TestCert middle = IssuedBy(root_, CaTemplate("middle", clock_.Now()));
  const TestCert leaf = IssuedBy(middle, LeafTemplate(kAgent, clock_.Now()));
  EXPECT_EQ(Identify(leaf)->kind, Caller::Kind::kAnonymous);  // as after a resumed session
  EXPECT_EQ(Identify(leaf, middle.certificate.Pem())->kind, Caller::Kind::kTls);
}

TEST_F(TlsCallersTest, NoCertificateIsAnonymousWithoutAProblem) {
  const CallerPtr caller = callers_.Identify("", "");
  EXPECT_EQ(caller->kind, Caller::Kind::kAnonymous);
  EXPECT_TRUE(caller->problem.ok());
}

TEST_F(TlsCallersTest, RefusesWhatDoesNotVerify) {
  const TestCert other = SelfSigned(CaTemplate("other", clock_.Now()));
  const auto refused = [&](const CallerPtr& caller) {
    EXPECT_EQ(caller->kind, Caller::Kind::kAnonymous);
    EXPECT_FALSE(caller->id.has_value());
    EXPECT_THAT(caller->problem, StatusIs(absl::StatusCode::kUnauthenticated));
  };
  refused(Identify(IssuedBy(other, LeafTemplate(kAgent, clock_.Now()))));                    // unknown authority
  refused(Identify(IssuedBy(root_, LeafTemplate("spiffe://partner.org/x", clock_.Now()))));  // X509-28, X509-29
  refused(Identify(IssuedBy(root_, LeafTemplate("https://example.org/x", clock_.Now()))));   // X509-26
  refused(Identify(IssuedBy(root_, LeafTemplate("spiffe://example.org", clock_.Now()))));    // X509-27
  crypto::CertificateTemplate two = LeafTemplate(kAgent, clock_.Now());
  two.uri_sans.push_back("spiffe://example.org/other");
  refused(Identify(IssuedBy(root_, two)));  // X509-2
  crypto::CertificateTemplate future = LeafTemplate(kAgent, clock_.Now());
  future.not_before = clock_.Now() + absl::Minutes(1);
  refused(Identify(IssuedBy(root_, future)));
  refused(callers_.Identify("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""));
  refused(callers_.Identify(std::string(64 * 1024, 'x'), ""));
}

TEST_F(TlsCallersTest, ExpiredSvidSaysWhoItWas) {
  const TestCert leaf = IssuedBy(root_, LeafTemplate(kAgent, clock_.Now()));
  EXPECT_FALSE(Identify(leaf)->expired);
  clock_.Advance(absl::Hours(1));
  const CallerPtr caller = Identify(leaf);
  ASSERT_EQ(caller->kind, Caller::Kind::kTls) << caller->problem;
  EXPECT_TRUE(caller->expired);
}

TEST_F(TlsCallersTest, ExpiredForgeryIsAnonymous) {
  const TestCert other = SelfSigned(CaTemplate("other", clock_.Now()));
  const TestCert leaf = IssuedBy(other, LeafTemplate(kAgent, clock_.Now()));
  clock_.Advance(absl::Hours(2));
  EXPECT_EQ(Identify(leaf)->kind, Caller::Kind::kAnonymous);
}

TEST_F(TlsCallersTest, RemembersAProof) {
  const TestCert leaf = IssuedBy(root_, LeafTemplate(kAgent, clock_.Now()));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Identify(leaf)->kind, Caller::Kind::kTls);
  EXPECT_EQ(callers_.verifications(), 1u);
  clock_.Advance(absl::Minutes(1));
  Identify(leaf);
  EXPECT_EQ(callers_.verifications(), 2u);
}

TEST_F(TlsCallersTest, RevokedRootCutsOffAtTheNextCall) {
  const TestCert leaf = IssuedBy(root_, LeafTemplate(kAgent, clock_.Now()));
  const CallerPtr caller = Identify(leaf);
  EXPECT_TRUE(callers_.StillVerifies(*caller));
  Trust({SelfSigned(CaTemplate("next", clock_.Now()))});
  EXPECT_EQ(Identify(leaf)->kind, Caller::Kind::kAnonymous);
  EXPECT_FALSE(callers_.StillVerifies(*caller));
}

TEST_F(TlsCallersTest, AddedRootIsTakenUpWithoutDelay) {
  const TestCert next = SelfSigned(CaTemplate("next", clock_.Now()));
  const TestCert leaf = IssuedBy(next, LeafTemplate(kAgent, clock_.Now()));
  EXPECT_EQ(Identify(leaf)->kind, Caller::Kind::kAnonymous);
  clock_.Advance(absl::Seconds(1));  // a refusal is remembered for a second
  Trust({root_, next});
  EXPECT_EQ(Identify(leaf)->kind, Caller::Kind::kTls);
}

TEST_F(TlsCallersTest, SteppedBackClockAsksAgain) {
  const TestCert leaf = IssuedBy(root_, LeafTemplate(kAgent, clock_.Now()));
  EXPECT_EQ(Identify(leaf)->kind, Caller::Kind::kTls);
  clock_.StepWall(-absl::Minutes(5));  // before notBefore
  EXPECT_EQ(Identify(leaf)->kind, Caller::Kind::kAnonymous);
}

}  // namespace
}  // namespace signet::server
