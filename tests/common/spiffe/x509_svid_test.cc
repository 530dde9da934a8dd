#include "common/spiffe/x509_svid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::spiffe {
namespace {

using ::signet::testing::CaTemplate;
using ::signet::testing::IsOk;
using ::signet::testing::IssuedBy;
using ::signet::testing::LeafTemplate;
using ::signet::testing::SelfSigned;
using ::signet::testing::StatusIs;
using ::signet::testing::TestCert;
using ::testing::HasSubstr;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class X509SvidTest : public ::testing::Test {
 protected:
  AnchorsOf Anchors() {
    return [this](const TrustDomain& td) -> std::shared_ptr<const crypto::TrustAnchors> {
      if (td.name() == "td") return Only(root_);
      if (td.name() == "foreign") return Only(foreign_root_);
      if (td.name() == "revoked") return std::make_shared<crypto::TrustAnchors>();
      return nullptr;
    };
  }
  static std::shared_ptr<const crypto::TrustAnchors> Only(const TestCert& root) {
    return std::make_shared<crypto::TrustAnchors>(*crypto::TrustAnchors::Create({&root.certificate, 1}));
  }
  absl::StatusOr<Id> Verify(const std::vector<crypto::Certificate>& chain, absl::Time now = kNow) {
    return VerifyX509Svid(chain, Anchors(), now);
  }
  TestCert Leaf(const crypto::CertificateTemplate& t) { return IssuedBy(root_, t); }

  TestCert root_ = SelfSigned(CaTemplate("root", kNow));
  TestCert foreign_root_ = SelfSigned(CaTemplate("foreign root", kNow));
};

TEST_F(X509SvidTest, ProvesTheIdOfAGoodLeaf) {
  const TestCert leaf = Leaf(LeafTemplate("spiffe://td/w", kNow));
  SIGNET_ASSERT_OK_AND_ASSIGN(const Id id, Verify({leaf.certificate}));
  EXPECT_EQ(id.string(), "spiffe://td/w");
}

TEST_F(X509SvidTest, OtherNamesAreAllowed) {  // X509-3
  auto t = LeafTemplate("spiffe://td/w", kNow);
  t.dns_sans = {"a.example", "b.example"};
  EXPECT_THAT(Verify({Leaf(t).certificate}), IsOk());
}

struct BadLeaf {
  const char* why;
  void (*change)(crypto::CertificateTemplate&);
  const char* message;
};
void PrintTo(const BadLeaf& leaf, std::ostream* out) { *out << leaf.why; }
class BadLeafTest : public X509SvidTest, public ::testing::WithParamInterface<BadLeaf> {};

TEST_P(BadLeafTest, IsRefusedOnEveryPath) {
  crypto::CertificateTemplate t = LeafTemplate("spiffe://td/w", kNow);
  GetParam().change(t);
  const TestCert leaf = Leaf(t);
  EXPECT_THAT(IdFromLeaf(leaf.certificate),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
  EXPECT_THAT(Verify({leaf.certificate}), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr(GetParam().message)));
  EXPECT_THAT(X509Svid::Create({leaf.certificate}, leaf.key), StatusIs(absl::StatusCode::kInvalidArgument));
}

INSTANTIATE_TEST_SUITE_P(
    X509Svid, BadLeafTest,
    ::testing::Values(
        BadLeaf{"no URI", [](auto& leaf) { leaf.uri_sans.clear(); }, "no URI SAN"},  // X509-2
        BadLeaf{"two URIs", [](auto& leaf) { leaf.uri_sans.push_back("spiffe://td/x"); },
                "more than one URI SAN"},  // X509-2
        BadLeaf{"one twice", [](auto& leaf) { leaf.uri_sans.push_back(leaf.uri_sans[0]); },
                "more than one URI SAN"},  // X509-2
        BadLeaf{"second URI of another kind", [](auto& leaf) { leaf.uri_sans.push_back("https://x"); },
                "more than one"},
        BadLeaf{"scheme", [](auto& leaf) { leaf.uri_sans = {"https://td/x"}; }, "spiffe://"},        // X509-26
        BadLeaf{"scheme case", [](auto& leaf) { leaf.uri_sans = {"SPIFFE://td/x"}; }, "spiffe://"},  // X509-26
        BadLeaf{"root ID", [](auto& leaf) { leaf.uri_sans = {"spiffe://td"}; }, "no path"},          // X509-27
        BadLeaf{"trailing slash", [](auto& leaf) { leaf.uri_sans = {"spiffe://td/"}; }, "slash"},    // X509-27
        BadLeaf{"fragment", [](auto& leaf) { leaf.uri_sans = {"spiffe://td/w#"}; }, "allowed"},
        BadLeaf{"a CA", [](auto& leaf) { leaf.is_ca = true, leaf.subject.common_name = "x"; }, "is a CA"},  // X509-24
        BadLeaf{"keyCertSign", [](auto& leaf) { leaf.key_usage |= crypto::kKeyCertSign; }, "keyCertSign"},  // X509-25
        BadLeaf{"cRLSign", [](auto& leaf) { leaf.key_usage |= crypto::kCrlSign; }, "cRLSign"}));            // X509-25

TEST_F(X509SvidTest, SeesANulInTheName) {  // N10: our own builder does not make such a leaf, so it is made by hand
  std::string der = Leaf(LeafTemplate("spiffe://td/w@x", kNow)).certificate.der();
  der[der.find("w@x") + 1] = '\0';
  SIGNET_ASSERT_OK_AND_ASSIGN(const crypto::Certificate leaf, crypto::Certificate::Parse(der));
  EXPECT_THAT(IdFromLeaf(leaf), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("allowed")));
  EXPECT_THAT(Verify({leaf}), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("allowed")));
}

TEST_F(X509SvidTest, OnlyTheBundleOfItsOwnTrustDomainCounts) {  // X509-28
  const TestCert cross = IssuedBy(foreign_root_, LeafTemplate("spiffe://td/w", kNow));
  EXPECT_THAT(Verify({cross.certificate}), StatusIs(absl::StatusCode::kUnauthenticated));
  const TestCert own = IssuedBy(foreign_root_, LeafTemplate("spiffe://foreign/w", kNow));
  EXPECT_THAT(Verify({own.certificate}), IsOk());
}

TEST_F(X509SvidTest, WithoutABundleNothingIsTrusted) {  // X509-29, BND-7
  EXPECT_THAT(Verify({Leaf(LeafTemplate("spiffe://unknown/w", kNow)).certificate}),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("no bundle of trust domain \"unknown\"")));
  EXPECT_THAT(Verify({Leaf(LeafTemplate("spiffe://revoked/w", kNow)).certificate}),
              StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(Verify({}), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("empty chain")));
}

TEST_F(X509SvidTest, ValidatesThePath) {  // X509-23
  const TestCert leaf = Leaf(LeafTemplate("spiffe://td/w", kNow));
  EXPECT_THAT(Verify({leaf.certificate}, kNow + absl::Hours(2)), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(Verify({leaf.certificate}, kNow - absl::Hours(2)), StatusIs(absl::StatusCode::kUnauthenticated));
  const TestCert impostor = IssuedBy(SelfSigned(CaTemplate("root", kNow)), LeafTemplate("spiffe://td/w", kNow));
  EXPECT_THAT(Verify({impostor.certificate}), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(X509SvidTest, IntermediatesMustBeSigningCertificates) {  // X509-14, X509-15, X509-13
  const TestCert intermediate = IssuedBy(root_, CaTemplate("intermediate", kNow));
  const TestCert leaf = IssuedBy(intermediate, LeafTemplate("spiffe://td/w", kNow));
  EXPECT_THAT(Verify({leaf.certificate, intermediate.certificate}), IsOk());
  EXPECT_THAT(Verify({leaf.certificate}), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(Verify({intermediate.certificate}), StatusIs(absl::StatusCode::kUnauthenticated));

  const TestCert other_leaf = Leaf(LeafTemplate("spiffe://td/issuer", kNow));
  const TestCert by_leaf = IssuedBy(other_leaf, LeafTemplate("spiffe://td/w", kNow));
  EXPECT_THAT(Verify({by_leaf.certificate, other_leaf.certificate}), StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(X509SvidTest, AnSvidIsAChainWithItsKey) {
  const TestCert intermediate = IssuedBy(root_, CaTemplate("intermediate", kNow));
  const TestCert leaf = IssuedBy(intermediate, LeafTemplate("spiffe://td/w", kNow));
  SIGNET_ASSERT_OK_AND_ASSIGN(const X509Svid svid,
                              X509Svid::Create({leaf.certificate, intermediate.certificate}, leaf.key));
  EXPECT_EQ(svid.id.string(), "spiffe://td/w");
  EXPECT_EQ(svid.ChainDer(), leaf.certificate.der() + intermediate.certificate.der());
  EXPECT_EQ(svid.ChainPem(), leaf.certificate.Pem() + intermediate.certificate.Pem());
  EXPECT_THAT(X509Svid::Create({}, leaf.key), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(X509Svid::Create({leaf.certificate, leaf.certificate}, leaf.key),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a CA")));
  EXPECT_THAT(X509Svid::Create({leaf.certificate}, intermediate.key),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("private key")));
  auto t = LeafTemplate("spiffe://td/w", kNow);
  t.key_usage = crypto::kKeyAgreement;
  const TestCert no_signature = Leaf(t);
  EXPECT_THAT(X509Svid::Create({no_signature.certificate}, no_signature.key),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("digitalSignature")));
}

}  // namespace
}  // namespace signet::spiffe
