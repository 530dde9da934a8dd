#include "common/crypto/chain_verifier.h"

#include <gtest/gtest.h>

#include "common/crypto/uri_constraints.h"
#include "tests/testing/raw_certificate.h"
#include "tests/testing/run_program.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::crypto {
namespace {

using testing::CaTemplate;
using ::testing::HasSubstr;
using testing::IssuedBy;
using testing::LeafTemplate;
using testing::RawBasicConstraints;
using testing::RawCaUsage;
using testing::RawCertificate;
using testing::RawExtension;
using testing::RawKeyUsage;
using testing::RawLeafUsage;
using testing::RawNameConstraints;
using testing::RawSan;
using testing::SelfSigned;
using testing::StatusIs;
using testing::TestCert;

constexpr auto kRefused = absl::StatusCode::kUnauthenticated;
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);
const char* const kLeafId = "spiffe://example.org/a";

PrivateKey NewKey() { return PrivateKey::Generate(KeyType::kEcP256).value(); }

TestCert Raw(const RawCertificate& raw, const PrivateKey* issuer_key) {
  PrivateKey key = NewKey();
  const PrivateKey signing = issuer_key != nullptr ? *issuer_key : key;
  Certificate certificate = Certificate::Parse(raw.Sign(key.public_key(), signing)).value();
  return {std::move(key), std::move(certificate)};
}
// A CA made by hand; `issuer` null: self-signed.
TestCert RawCa(const std::string& name, const TestCert* issuer, std::vector<RawExtension> extensions) {
  RawCertificate raw{name, issuer != nullptr ? issuer->certificate.common_name() : name, kNow - absl::Hours(1),
                     kNow + absl::Hours(24), std::move(extensions)};
  return Raw(raw, issuer != nullptr ? &issuer->key : nullptr);
}
TestCert RawLeaf(const TestCert& issuer, std::vector<RawExtension> extensions) {
  RawCertificate raw{"leaf", issuer.certificate.common_name(), kNow - absl::Hours(1), kNow + absl::Hours(1),
                     std::move(extensions)};
  return Raw(raw, &issuer.key);
}
std::vector<RawExtension> LeafExtensions(const std::string& uri = kLeafId) {
  return {RawBasicConstraints(false), RawLeafUsage(), RawSan({{6, uri}})};
}
std::vector<RawExtension> CaExtensions() { return {RawBasicConstraints(true), RawCaUsage()}; }

absl::Status Verify(const std::vector<Certificate>& roots, const std::vector<Certificate>& chain,
                    absl::Time now = kNow) {
  return TrustAnchors::Create(roots)->Verify(chain, now);
}

TEST(ChainVerifierTest, AcceptsALeafUnderARootAndUnderIntermediates) {
  const auto root = SelfSigned(CaTemplate("root", kNow));
  const auto a = IssuedBy(root, CaTemplate("a", kNow)), b = IssuedBy(a, CaTemplate("b", kNow));
  SIGNET_EXPECT_OK(Verify({root.certificate}, {IssuedBy(root, LeafTemplate(kLeafId, kNow)).certificate}));
  const auto leaf = IssuedBy(b, LeafTemplate(kLeafId, kNow)).certificate;
  SIGNET_EXPECT_OK(Verify({root.certificate}, {leaf, b.certificate, a.certificate}));
  SIGNET_EXPECT_OK(Verify({root.certificate}, {leaf, a.certificate, b.certificate}));  // a set, in any order
  EXPECT_THAT(Verify({root.certificate}, {leaf, a.certificate}), StatusIs(kRefused));  // a link is missing
  EXPECT_THAT(Verify({root.certificate}, {b.certificate, leaf, a.certificate}).code(), absl::StatusCode::kOk)
      << "the first is what is verified; whether it may be a leaf is the SVID rules' part";
}

TEST(ChainVerifierTest, AnyCertificateOfTheSetIsAnAnchor) {  // foreign bundles may hold intermediates
  const auto root = SelfSigned(CaTemplate("root", kNow));
  const auto a = IssuedBy(root, CaTemplate("a", kNow));
  SIGNET_EXPECT_OK(Verify({a.certificate}, {IssuedBy(a, LeafTemplate(kLeafId, kNow)).certificate}));
}

TEST(ChainVerifierTest, RefusesWithTheReasonAndTheCulprit) {  // X509-23
  const auto root = SelfSigned(CaTemplate("root", kNow)), other = SelfSigned(CaTemplate("other", kNow));
  const auto leaf = IssuedBy(root, LeafTemplate(kLeafId, kNow));
  EXPECT_THAT(Verify({root.certificate}, {}), StatusIs(kRefused, HasSubstr("empty")));
  EXPECT_THAT(Verify({}, {leaf.certificate}), StatusIs(kRefused, HasSubstr("no trust anchor")));
  EXPECT_THAT(TrustAnchors().Verify({leaf.certificate}, kNow), StatusIs(kRefused));
  EXPECT_THAT(Verify({other.certificate}, {leaf.certificate}), StatusIs(kRefused, HasSubstr(kLeafId)));
  // The right name and key identifier, but not the key: an impostor of the root.
  CertificateTemplate t = LeafTemplate(kLeafId, kNow);
  const auto forged =
      IssueCertificate(t, leaf.key.public_key(), root.certificate.subject_der(), root.certificate.subject_key_id(),
                       KeyType::kEcP256, testing::SignerOf(other.key));
  EXPECT_THAT(Verify({root.certificate}, {*forged}), StatusIs(kRefused, HasSubstr("signature")));
}

TEST(ChainVerifierTest, TimesAreThoseOfTheGivenMoment) {
  const auto root = SelfSigned(CaTemplate("root", kNow));
  const auto leaf = IssuedBy(root, LeafTemplate(kLeafId, kNow)).certificate;
  SIGNET_EXPECT_OK(Verify({root.certificate}, {leaf}, leaf.not_before()));
  EXPECT_THAT(Verify({root.certificate}, {leaf}, leaf.not_before() - absl::Seconds(1)),
              StatusIs(kRefused, HasSubstr("not yet valid")));
  SIGNET_EXPECT_OK(Verify({root.certificate}, {leaf}, leaf.not_after() - absl::Seconds(1)));
  EXPECT_THAT(Verify({root.certificate}, {leaf}, leaf.not_after() + absl::Seconds(1)),
              StatusIs(kRefused, HasSubstr("expired")));
  // An anchor that has ended vouches for nobody.
  CertificateTemplate old = CaTemplate("old", kNow);
  old.not_after = kNow - absl::Minutes(1);
  const auto ended = SelfSigned(old);
  EXPECT_THAT(Verify({ended.certificate}, {IssuedBy(ended, LeafTemplate(kLeafId, kNow)).certificate}),
              StatusIs(kRefused, HasSubstr("expired")));
}

TEST(ChainVerifierTest, LongChainsAreRefusedBeforeAnyCryptography) {  // N6
  const auto root = SelfSigned(CaTemplate("root", kNow));
  std::vector<Certificate> chain;
  TestCert issuer = root;
  for (int i = 0; i < 5; ++i) {
    issuer = IssuedBy(issuer, CaTemplate(absl::StrCat("i", i), kNow));
    chain.insert(chain.begin(), issuer.certificate);
  }
  chain.insert(chain.begin(), IssuedBy(issuer, LeafTemplate(kLeafId, kNow)).certificate);
  SIGNET_EXPECT_OK(Verify({root.certificate}, chain));
  chain.push_back(root.certificate);
  EXPECT_THAT(Verify({root.certificate}, chain), StatusIs(kRefused, HasSubstr("more than 6")));
}

TEST(ChainVerifierTest, ALeafSignsNobody) {  // N9: leaf signs leaf
  const auto root = SelfSigned(CaTemplate("root", kNow));
  CertificateTemplate named = LeafTemplate(kLeafId, kNow);
  named.subject.common_name = "leaf";
  const auto leaf = IssuedBy(root, named);
  const auto below = IssuedBy(leaf, LeafTemplate("spiffe://example.org/admin", kNow));
  EXPECT_THAT(Verify({root.certificate}, {below.certificate, leaf.certificate}), StatusIs(kRefused));
  // Not even when it stands in the set of anchors; and no anchor is a leaf (X509-13).
  EXPECT_THAT(Verify({leaf.certificate}, {below.certificate}), StatusIs(kRefused));
  EXPECT_THAT(Verify({leaf.certificate}, {leaf.certificate}), StatusIs(kRefused, HasSubstr("anchor")));
  EXPECT_THAT(Verify({root.certificate}, {root.certificate}), StatusIs(kRefused, HasSubstr("anchor")));
}

TEST(ChainVerifierTest, IssuersNeedCaAndMaySignCertificates) {  // X509-14, X509-15, RFC 5280 6.1.4 (k), (n)
  struct Row {
    const char* what;
    std::vector<RawExtension> extensions;
    int version;
    bool accepted;
  };
  const Row rows[] = {
      {"cA and keyCertSign", CaExtensions(), 3, true},
      {"cA, no keyUsage at all", {RawBasicConstraints(true)}, 3, true},
      {"cA false", {RawBasicConstraints(false), RawCaUsage()}, 3, false},
      {"no basicConstraints", {RawCaUsage()}, 3, false},  // OpenSSL alone lets this pass
      {"no extension at all", {}, 3, false},
      {"version 1", {}, 1, false},
      {"no keyCertSign", {RawBasicConstraints(true), RawKeyUsage("\x07\x80")}, 3, false},
      {"cRLSign only", {RawBasicConstraints(true), RawKeyUsage("\x01\x02")}, 3, false},
  };
  const auto root = RawCa("root", nullptr, CaExtensions());
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    RawCertificate raw{"mid", "root", kNow - absl::Hours(1), kNow + absl::Hours(2), row.extensions, row.version};
    const auto mid = Raw(raw, &root.key);
    const auto leaf = RawLeaf(mid, LeafExtensions());
    EXPECT_EQ(Verify({root.certificate}, {leaf.certificate, mid.certificate}).ok(), row.accepted);
    raw.issuer = "mid";
    const auto self_signed = Raw(raw, nullptr);  // the same as an anchor
    EXPECT_EQ(Verify({self_signed.certificate}, {RawLeaf(self_signed, LeafExtensions()).certificate}).ok(),
              row.accepted);
  }
}

TEST(ChainVerifierTest, PathLength) {  // X509-20
  const auto root = RawCa("root", nullptr, {RawBasicConstraints(true, 0), RawCaUsage()});
  const auto mid = RawCa("mid", &root, CaExtensions());
  SIGNET_EXPECT_OK(Verify({root.certificate}, {RawLeaf(root, LeafExtensions()).certificate}));
  EXPECT_THAT(Verify({root.certificate}, {RawLeaf(mid, LeafExtensions()).certificate, mid.certificate}),
              StatusIs(kRefused, HasSubstr("path length")));
}

TEST(ChainVerifierTest, UnknownCriticalExtensionsRefuseUnknownOthersDoNot) {
  const auto root = RawCa("root", nullptr, CaExtensions());
  auto extensions = LeafExtensions();
  extensions.push_back({"\x2a\x03\x04\x05", false, "\x05"});
  SIGNET_EXPECT_OK(Verify({root.certificate}, {RawLeaf(root, extensions).certificate}));
  extensions.back().critical = true;
  EXPECT_THAT(Verify({root.certificate}, {RawLeaf(root, extensions).certificate}),
              StatusIs(kRefused, HasSubstr("critical")));
}

TEST(ChainVerifierTest, UriNameConstraintsBindTheTrustDomain) {  // X509-21, N10
  struct Row {
    std::vector<std::string> permitted, excluded;
    std::string uri;
    bool accepted;
  };
  const Row rows[] = {
      {{"example.org"}, {}, "spiffe://example.org/a", true},
      {{"EXAMPLE.org"}, {}, "spiffe://example.org/a", true},
      {{"example.org"}, {}, "spiffe://other.org/a", false},
      {{"example.org"}, {}, "spiffe://sub.example.org/a", false},  // an exact host, RFC 5280 4.2.1.10
      {{".example.org"}, {}, "spiffe://sub.example.org/a", true},
      {{".example.org"}, {}, "spiffe://example.org/a", false},
      {{".example.org"}, {}, "spiffe://evilexample.org/a", false},
      {{"example.org", "other.org"}, {}, "spiffe://other.org/a", true},
      {{}, {"example.org"}, "spiffe://example.org/a", false},
      {{}, {"example.org"}, "spiffe://other.org/a", true},
      {{".org"}, {"example.org"}, "spiffe://example.org/a", false},
      {{"example.org"}, {}, "spiffe://other.org/spiffe://example.org", false},
      {{"example.org"}, {}, "spiffe://example.org@other.org/a", false},
      {{"example.org"}, {}, "spiffe://other.org#@example.org/a", false},
      {{"example.org"}, {}, "spiffe://other.org?@example.org/a", false},
      {{"example.org"}, {}, "urn:example.org", false},  // no host
      {{"example.org"}, {}, std::string("spiffe://example.org\0.other.org/a", 33), false},
      {{"example.org"}, {}, std::string("spiffe://other.org\0@example.org/a", 33), false},
      {{"example.org"}, {}, std::string("spiffe://example.org/a\0", 23), false},
      {{"example.org"}, {}, "spiffe://example.org/\xc3\xa4", false},
      {{"example.org"}, {}, "spiffe://example.org/a b", false},
      {{"example.org"}, {}, "spiffe://example.org/" + std::string(2048, 'a'), false},
      {{"example.org"}, {}, "", false},
  };
  const auto root = RawCa("root", nullptr, CaExtensions());
  for (const Row& row : rows) {
    SCOPED_TRACE(absl::StrCat(row.permitted.size(), row.excluded.size(), " ", row.uri));
    auto extensions = CaExtensions();
    extensions.push_back(RawNameConstraints(row.permitted, row.excluded));
    const auto mid = RawCa("mid", &root, extensions);
    const auto leaf = RawLeaf(mid, LeafExtensions(row.uri)).certificate;
    EXPECT_EQ(Verify({root.certificate}, {leaf, mid.certificate}).ok(), row.accepted);
    EXPECT_EQ(Verify({mid.certificate}, {leaf}).ok(), row.accepted) << "an anchor's constraints bind too";
    // Our own check alone says the same, so that neither hides a hole in the other.
    const auto* der = reinterpret_cast<const unsigned char*>(mid.certificate.der().data());
    X509Ptr x509(d2i_X509(nullptr, &der, static_cast<long>(mid.certificate.der().size())));
    EXPECT_EQ(CheckUriConstraints(x509.get(), {leaf}).ok(), row.accepted);
  }
}

TEST(ChainVerifierTest, ASecondUriBeyondTheConstraintRefuses) {
  auto extensions = CaExtensions();
  extensions.push_back(RawNameConstraints({"example.org"}));
  const auto root = RawCa("root", nullptr, extensions);
  const auto leaf = RawLeaf(root, {RawBasicConstraints(false), RawLeafUsage(),
                                   RawSan({{6, "spiffe://example.org/a"}, {6, "spiffe://other.org/a"}})});
  EXPECT_THAT(Verify({root.certificate}, {leaf.certificate}), StatusIs(kRefused));
}

TEST(ChainVerifierTest, NulInAUriIsRefusedWithoutAnyConstraint) {
  const auto root = RawCa("root", nullptr, CaExtensions());
  const auto leaf = RawLeaf(root, LeafExtensions(std::string("spiffe://example.org/a\0/b", 25)));
  EXPECT_THAT(Verify({root.certificate}, {leaf.certificate}), StatusIs(kRefused, HasSubstr("URI name")));
}

TEST(ChainVerifierTest, RootsOfOneNameAreToldApart) {
  // Two generations of a root with one subject, and a leaf without an authority key identifier.
  const auto first = RawCa("root", nullptr, CaExtensions()), second = RawCa("root", nullptr, CaExtensions());
  const auto of_first = RawLeaf(first, LeafExtensions()).certificate;
  const auto of_second = RawLeaf(second, LeafExtensions()).certificate;
  for (const auto& leaf : {of_first, of_second}) {
    SIGNET_EXPECT_OK(Verify({first.certificate, second.certificate}, {leaf}));
    SIGNET_EXPECT_OK(Verify({second.certificate, first.certificate}, {leaf}));
  }
  EXPECT_THAT(Verify({first.certificate}, {of_second}), StatusIs(kRefused));
  const auto third = RawCa("root", nullptr, CaExtensions());
  EXPECT_THAT(Verify({first.certificate, second.certificate}, {RawLeaf(third, LeafExtensions()).certificate}),
              StatusIs(kRefused));
}

TEST(ChainVerifierTest, ExtendedKeyUsageIsNotChecked) {  // go-spiffe's choice: an EKU on a CA binds nobody here
  crypto::DerWriter eku;
  eku.Nest(kDerSequence, [&] { eku.Put(kDerOid, "\x2b\x06\x01\x05\x05\x07\x03\x03"); });  // code signing
  const auto root =
      RawCa("root", nullptr, {RawBasicConstraints(true), RawCaUsage(), {"\x55\x1d\x25", false, eku.Take()}});
  SIGNET_EXPECT_OK(Verify({root.certificate}, {RawLeaf(root, LeafExtensions()).certificate}));
}

TEST(ChainVerifierTest, Sha1SignaturesAreRefused) {
  // ecdsa-with-SHA1 by name: the level is checked before the signature.
  const auto root = RawCa("root", nullptr, CaExtensions());
  RawCertificate raw{"leaf", "root", kNow - absl::Hours(1), kNow + absl::Hours(1), LeafExtensions()};
  raw.signature_oid = "\x2a\x86\x48\xce\x3d\x04\x01";
  EXPECT_THAT(Verify({root.certificate}, {Raw(raw, &root.key).certificate}), StatusIs(kRefused));
}

TEST(ChainVerifierTest, EachFlippedBitOfALeafIsRefused) {  // ID-16: ID and key lie in the signed part
  const auto root = SelfSigned(CaTemplate("root", kNow));
  const auto anchors = TrustAnchors::Create({root.certificate}).value();
  const auto leaf = IssuedBy(root, LeafTemplate(kLeafId, kNow)).certificate;
  for (size_t i = 0; i < leaf.der().size(); ++i) {
    for (int mask : {0x01, 0x80}) {
      std::string der = leaf.der();
      der[i] = static_cast<char>(der[i] ^ mask);
      const auto parsed = Certificate::Parse(der);
      EXPECT_FALSE(parsed.ok() && anchors.Verify({*parsed}, kNow).ok()) << i;
    }
  }
}

TEST(ChainVerifierTest, AgreesWithOpensslsProgram) {
  // The same chains by `openssl verify -partial_chain`, a judge outside this process.
  testing::TempDir dir;
  const auto root = SelfSigned(CaTemplate("root", kNow)), other = SelfSigned(CaTemplate("other", kNow));
  const auto mid = IssuedBy(root, CaTemplate("mid", kNow));
  const auto leaf = IssuedBy(mid, LeafTemplate(kLeafId, kNow)).certificate;
  testing::WriteTestFile(dir.file("mid.pem"), mid.certificate.Pem());
  testing::WriteTestFile(dir.file("leaf.pem"), leaf.Pem());
  for (const auto& anchor : {root, other, mid}) {
    for (const absl::Duration after : {absl::ZeroDuration(), absl::Hours(2)}) {
      testing::WriteTestFile(dir.file("root.pem"), anchor.certificate.Pem());
      const auto verdict = testing::RunProgram(
          absl::StrCat("openssl verify -partial_chain -attime ", absl::ToUnixSeconds(kNow + after), " -CAfile ",
                       dir.file("root.pem"), " -untrusted ", dir.file("mid.pem"), " ", dir.file("leaf.pem")));
      EXPECT_EQ(verdict.exit_code == 0, Verify({anchor.certificate}, {leaf, mid.certificate}, kNow + after).ok())
          << verdict.output;
    }
  }
}

TEST(UriConstraintsTest, Hosts) {
  EXPECT_EQ(UriHost("spiffe://td/x"), "td");
  EXPECT_EQ(UriHost("spiffe://td"), "td");
  EXPECT_EQ(UriHost("spiffe://td:80/x"), "td");
  EXPECT_EQ(UriHost("spiffe://u@td/x"), "td");
  EXPECT_EQ(UriHost("spiffe://a@b@td/x"), "td");
  EXPECT_EQ(UriHost("spiffe://td?x@evil"), "td");
  EXPECT_EQ(UriHost("td/x"), "");
  EXPECT_EQ(UriHost("spiffe:///x"), "");
  EXPECT_TRUE(HostMatches("anything", ""));
  EXPECT_FALSE(HostMatches(".org", ".org"));
}

}  // namespace
}  // namespace signet::crypto
