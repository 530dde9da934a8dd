#include "server/ca/certificate_authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "common/crypto/der.h"
#include "common/crypto/digest.h"
#include "common/keymanager/memory_key_manager.h"
#include "common/log/log.h"
#include "common/spiffe/x509_svid.h"
#include "server/ca/authority_rotator.h"
#include "tests/fakes/fake_authority_store.h"
#include "tests/fakes/fake_clock.h"

#include "tests/testing/run_program.h"
#include "tests/testing/sanitizers.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::server {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::RunProgram;
using testing::StatusIs;

// A CA as the server has it: rotated authorities, a fake clock.
class Ca {
 public:
  explicit Ca(crypto::KeyType type = crypto::KeyType::kEcP256) {
    log::SetLevel(log::Level::kWarn);
    policy_.ca_ttl = absl::Hours(24);
    AuthorityRotator::Options options{"s", policy_, type, type};
    rotator_ = AuthorityRotator::Create(std::move(options), keys_, store_, store_, health_, clock_).value();
    authority_ = std::make_unique<CertificateAuthority>(policy_, keys_, rotator_->authorities(), clock_);
  }
  const CertificateAuthority& operator*() const { return *authority_; }
  const CertificateAuthority* operator->() const { return authority_.get(); }
  const crypto::Certificate& Root() const {
    root_ = rotator_->authorities().Get()->x509->certificate;
    return root_;
  }
  std::shared_ptr<const crypto::TrustAnchors> Anchors() const {
    return std::make_shared<crypto::TrustAnchors>(crypto::TrustAnchors::Create({Root()}).value());
  }
  std::shared_ptr<const spiffe::Bundle> Bundle() {
    return std::make_shared<spiffe::Bundle>(store_.GetBundle(policy_.trust_domain).value());
  }
  fakes::FakeClock& clock() { return clock_; }
  AuthorityRotator& rotator() { return *rotator_; }

 private:
  IssuePolicy policy_{spiffe::TrustDomain::Parse("example.org").value()};
  fakes::FakeClock clock_;
  fakes::FakeAuthorityStore store_;
  MemoryKeyManager keys_;
  telemetry::Health health_;
  std::unique_ptr<AuthorityRotator> rotator_;
  std::unique_ptr<CertificateAuthority> authority_;
  mutable crypto::Certificate root_;
};

spiffe::Id IdOf(absl::string_view text) { return spiffe::Id::Parse(text).value(); }
spiffe::Entry EntryOf(absl::string_view id) {
  return spiffe::Entry{"e1", IdOf(id), IdOf("spiffe://example.org/p"), {}};
}
crypto::PublicKey NewKey() { return crypto::PrivateKey::Generate(crypto::KeyType::kEcP256)->public_key(); }

TEST(CertificateAuthorityTest, WhatItIssuesVerifiesAgainstTheBundle) {
  Ca ca;
  const auto anchors = [&](const spiffe::TrustDomain&) { return ca.Anchors(); };
  const auto verify = [&](const IssuedX509& issued) {
    return spiffe::VerifyX509Svid(issued.chain, anchors, ca.clock().Now());
  };
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto workload, ca->SignWorkload(EntryOf("spiffe://example.org/web"), NewKey()));
  ASSERT_EQ(workload.chain.size(), 1);  // a self-signed root stays out of the chain
  EXPECT_EQ(workload.expires_at, workload.chain[0].not_after());
  SIGNET_ASSERT_OK_AND_ASSIGN(const spiffe::Id id, verify(workload));
  EXPECT_EQ(id.string(), "spiffe://example.org/web");
  const spiffe::Id agent = IdOf("spiffe://example.org/spire/agent/x509pop/1");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto for_agent, ca->SignAgent(agent, NewKey()));
  EXPECT_EQ(*verify(for_agent), agent);
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto for_server, ca->SignServer(NewKey()));
  EXPECT_EQ(verify(for_server)->string(), "spiffe://example.org/spire/server");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto minted, ca->Mint({IdOf("spiffe://example.org/m"), {"m.org"}}, NewKey()));
  EXPECT_EQ(verify(minted)->string(), "spiffe://example.org/m");
}

TEST(CertificateAuthorityTest, AnUpstreamChainStandsBehindTheLeaf) {
  Ca ca;
  ActiveAuthorities active = *ca.rotator().authorities().Get();
  active.x509->upstream_chain = {ca.Root()};
  LatestValue<ActiveAuthorities> authorities(active);
  MemoryKeyManager keys;
  SIGNET_ASSERT_OK(keys.GenerateKey("x509-CA-A", crypto::KeyType::kEcP256));
  CertificateAuthority authority(ca->policy(), keys, authorities, ca.clock());
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto issued, authority.SignServer(NewKey()));
  ASSERT_EQ(issued.chain.size(), 3);
  EXPECT_EQ(issued.chain[1], ca.Root());
}

TEST(CertificateAuthorityTest, WithoutAnAuthorityItIsUnavailable) {
  Ca ca;
  MemoryKeyManager keys;
  LatestValue<ActiveAuthorities> none;
  CertificateAuthority authority(ca->policy(), keys, none, ca.clock());
  EXPECT_THAT(authority.SignServer(NewKey()), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(authority.SignJwt(IdOf("spiffe://example.org/a"), {"a"}, absl::ZeroDuration(), false),
              StatusIs(absl::StatusCode::kUnavailable));
  // Authorities that nobody replaces: the rotator's own are renewed as soon as the clock moves.
  const LatestValue<ActiveAuthorities> left(*ca.rotator().authorities().Get());
  const CertificateAuthority ended(ca->policy(), keys, left, ca.clock());
  ca.clock().Advance(absl::Hours(25));
  EXPECT_THAT(ended.SignServer(NewKey()), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("ended")));
  EXPECT_THAT(ended.SignJwt(IdOf("spiffe://example.org/a"), {"a"}, absl::ZeroDuration(), false),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("ended")));
}

TEST(CertificateAuthorityTest, JwtSvidsVerifyAgainstTheBundle) {
  for (crypto::KeyType type : {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384, crypto::KeyType::kRsa2048}) {
    Ca ca(type);
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto jwt,
                                ca->SignJwt(IdOf("spiffe://example.org/a"), {"aud"}, absl::Minutes(1), true));
    EXPECT_EQ(jwt.expires_at - jwt.issued_at, absl::Minutes(1));
    const auto bundle = ca.Bundle();
    SIGNET_ASSERT_OK_AND_ASSIGN(
        const auto valid, spiffe::ValidateJwtSvid(
                              jwt.token, "aud", [&](const spiffe::TrustDomain&) { return bundle; }, ca.clock().Now()));
    EXPECT_EQ(valid.id.string(), "spiffe://example.org/a");
    EXPECT_EQ(valid.expires_at, jwt.expires_at);
  }
}

// X509-1, X509-5 to X509-12, X509-30: the bytes as OpenSSL's own program reads them.
TEST(CertificateAuthorityTest, OpensslReadsTheShapeTheStandardWants) {
  Ca ca;
  testing::TempDir dir;
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto issued, ca->SignWorkload(EntryOf("spiffe://example.org/web"), NewKey()));
  testing::WriteTestFile(dir.file("leaf.der"), issued.chain[0].der());
  const auto text = RunProgram("openssl x509 -inform DER -noout -text -in " + dir.file("leaf.der"));
  ASSERT_EQ(text.exit_code, 0) << text.output;
  EXPECT_THAT(text.output, HasSubstr("Version: 3 (0x2)"));
  EXPECT_THAT(text.output, ContainsRegex("Subject: \n"));
  EXPECT_THAT(text.output,
              ContainsRegex("X509v3 Key Usage: critical\n *Digital Signature, Key Encipherment, Key Agreement\n"));
  EXPECT_THAT(
      text.output,
      ContainsRegex("X509v3 Extended Key Usage: \n *TLS Web Server Authentication, TLS Web Client Authentication\n"));
  EXPECT_THAT(text.output, ContainsRegex("X509v3 Basic Constraints: critical\n *CA:FALSE\n"));
  EXPECT_THAT(text.output,
              ContainsRegex("X509v3 Subject Alternative Name: critical\n *URI:spiffe://example.org/web\n"));
  EXPECT_THAT(text.output, HasSubstr("X509v3 Subject Key Identifier"));
  EXPECT_THAT(text.output, HasSubstr("X509v3 Authority Key Identifier"));
  const auto dump = RunProgram("openssl asn1parse -inform DER -i -in " + dir.file("leaf.der"));
  EXPECT_EQ(dump.exit_code, 0);
  EXPECT_THAT(dump.output, Not(HasSubstr("BAD")));
  EXPECT_THAT(dump.output, Not(HasSubstr("Error")));
  EXPECT_THAT(dump.output, Not(HasSubstr("BOOLEAN           :0")));  // DER leaves FALSE out

  spiffe::Entry named = EntryOf("spiffe://example.org/web");
  named.dns_names = {"web.example.org", "www.example.org"};
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto with_names, ca->SignWorkload(named, NewKey()));
  testing::WriteTestFile(dir.file("named.der"), with_names.chain[0].der());
  const auto names = RunProgram("openssl x509 -inform DER -noout -text -in " + dir.file("named.der"));
  EXPECT_THAT(names.output, HasSubstr("Subject: CN = web.example.org"));
  EXPECT_THAT(names.output, ContainsRegex("X509v3 Subject Alternative Name: \n"));  // not critical: there is a subject
  EXPECT_THAT(names.output, HasSubstr("DNS:web.example.org, DNS:www.example.org, URI:spiffe://example.org/web"));

  testing::WriteTestFile(dir.file("root.der"), ca.Root().der());
  const auto root = RunProgram("openssl x509 -inform DER -noout -text -in " + dir.file("root.der"));
  EXPECT_THAT(root.output, ContainsRegex("Subject: C = US, O = SPIFFE, serialNumber = [0-9]+\n"));
  EXPECT_THAT(root.output, ContainsRegex("X509v3 Basic Constraints: critical\n *CA:TRUE\n"));             // X509-14
  EXPECT_THAT(root.output, ContainsRegex("X509v3 Key Usage: critical\n *Certificate Sign, CRL Sign\n"));  // X509-15
  EXPECT_THAT(root.output, HasSubstr("URI:spiffe://example.org\n"));                                      // X509-17
  EXPECT_THAT(root.output, Not(HasSubstr("Extended Key Usage")));                                         // X509-22
}

TEST(CertificateAuthorityTest, OpensslVerifiesWhatIsIssuedUnderEachKeyType) {
  std::vector<crypto::PublicKey> leaf_keys;
  for (crypto::KeyType type : {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384, crypto::KeyType::kRsa2048}) {
    leaf_keys.push_back(crypto::PrivateKey::Generate(type)->public_key());
  }
  for (crypto::KeyType type :
       {crypto::KeyType::kEcP256, crypto::KeyType::kEcP384, crypto::KeyType::kRsa2048, crypto::KeyType::kRsa4096}) {
    Ca ca(type);
    testing::TempDir dir;
    testing::WriteTestFile(dir.file("root.pem"), ca.Root().Pem());
    for (const crypto::PublicKey& key : leaf_keys) {
      SIGNET_ASSERT_OK_AND_ASSIGN(const auto issued, ca->SignWorkload(EntryOf("spiffe://example.org/web"), key));
      testing::WriteTestFile(dir.file("leaf.pem"), issued.chain[0].Pem());
      const auto verdict =
          RunProgram(absl::StrCat("openssl verify -x509_strict -attime ", absl::ToUnixSeconds(ca.clock().Now()),
                                  " -CAfile ", dir.file("root.pem"), " ", dir.file("leaf.pem")));
      EXPECT_EQ(verdict.exit_code, 0) << verdict.output;
    }
  }
}

TEST(CertificateAuthorityTest, AThousandSerialsArePositiveShortAndUnique) {  // X509-30, P5
  Ca ca;
  const crypto::PublicKey key = NewKey();
  std::set<std::string> serials;
  for (int i = 0; i < 1000; ++i) {
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto issued, ca->SignWorkload(EntryOf("spiffe://example.org/web"), key));
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto parsed, crypto::Certificate::Parse(issued.chain[0].der()));
    ASSERT_LE(parsed.serial().size(), 20);
    ASSERT_FALSE(parsed.serial().empty());
    ASSERT_TRUE(serials.insert(parsed.serial()).second);
    ASSERT_LE(parsed.not_after(), ca.Root().not_after());
  }
}

// N1 (CVE-2021-27098): whatever a CSR asks for, what is issued is a pure function of entry, key and time.
class RandomCsr {
 public:
  explicit RandomCsr(unsigned seed) : random_(seed) {}

  // A request with SANs of every kind, extensions, attributes and subjects, signed properly with `key`.
  std::string Make(const crypto::PrivateKey& key) {
    crypto::DerWriter info;
    info.Nest(crypto::kDerSequence, [&] {
      info.PutSmall(0);
      info.Nest(crypto::kDerSequence, [&] { PutSubject(info); });
      info.PutRaw(key.public_key().spki_der());
      info.Nest(crypto::DerContextConstructed(0), [&] {
        if (Chance(9, 10)) PutExtensionRequest(info);
        if (Chance(1, 4)) PutChallengePassword(info);
      });
    });
    const std::string to_sign = info.Take();
    crypto::DerWriter request;
    request.Nest(crypto::kDerSequence, [&] {
      request.PutRaw(to_sign);
      request.Nest(crypto::kDerSequence, [&] { request.Put(crypto::kDerOid, "\x2a\x86\x48\xce\x3d\x04\x03\x02"); });
      request.PutBitString(key.Sign(crypto::HashAlgorithm::kSha256, to_sign).value());
    });
    return request.Take();
  }

 private:
  unsigned Draw(size_t below) { return static_cast<unsigned>(random_() % below); }
  bool Chance(unsigned of, unsigned in) { return Draw(in) < of; }
  std::string Name() {
    static const std::string names[] = {"spiffe://example.org/admin",
                                        "spiffe://other.org/x",
                                        "spiffe://example.org",
                                        "spiffe://example.org/spire/server",
                                        "https://x",
                                        "evil.example.org",
                                        "*",
                                        std::string("spiffe://example.org/a\0b", 24),
                                        "",
                                        std::string(300, 'x')};
    return names[Draw(std::size(names))];
  }
  void PutSubject(crypto::DerWriter& out) {
    for (unsigned i = Draw(4); i > 0; --i) {
      out.Nest(crypto::kDerSet, [&] {
        out.Nest(crypto::kDerSequence, [&] {
          out.Put(crypto::kDerOid, Chance(1, 2) ? "\x55\x04\x03" : "\x55\x04\x0a");
          out.Put(crypto::kDerUtf8String, Name());
        });
      });
    }
  }
  void PutSans(crypto::DerWriter& out) {
    out.Nest(crypto::kDerSequence, [&] {
      for (unsigned i = Draw(5); i > 0; --i) {
        static const int kinds[] = {1, 2, 6, 6, 7, 8};
        const int kind = kinds[Draw(std::size(kinds))];
        out.Put(crypto::DerContext(kind), kind == 7 ? std::string("\x7f\x00\x00\x01", 4) : Name());
      }
    });
  }
  void PutExtension(crypto::DerWriter& out, absl::string_view oid, const std::function<void()>& value) {
    out.Nest(crypto::kDerSequence, [&] {
      out.Put(crypto::kDerOid, oid);
      if (Chance(1, 2)) out.PutTrue();
      out.Nest(crypto::kDerOctetString, value);
    });
  }
  void PutExtensionRequest(crypto::DerWriter& out) {
    out.Nest(crypto::kDerSequence, [&] {
      out.Put(crypto::kDerOid, "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e");
      out.Nest(crypto::kDerSet, [&] {
        out.Nest(crypto::kDerSequence, [&] {
          if (Chance(3, 4)) PutExtension(out, "\x55\x1d\x11", [&] { PutSans(out); });
          if (Chance(1, 2)) {  // basicConstraints: a CA
            PutExtension(out, "\x55\x1d\x13", [&] { out.Nest(crypto::kDerSequence, [&] { out.PutTrue(); }); });
          }
          if (Chance(1, 2)) PutExtension(out, "\x55\x1d\x0f", [&] { out.Put(crypto::kDerBitString, "\x01\x06"); });
          if (Chance(1, 2)) {  // extKeyUsage: any
            PutExtension(out, "\x55\x1d\x25", [&] {
              out.Nest(crypto::kDerSequence,
                       [&] { out.Put(crypto::kDerOid, absl::string_view("\x55\x1d\x25\x00", 4)); });
            });
          }
          if (Chance(1, 4)) PutExtension(out, "\x2a\x03\x04", [&] { out.PutRaw(Name()); });
        });
      });
    });
  }
  void PutChallengePassword(crypto::DerWriter& out) {
    out.Nest(crypto::kDerSequence, [&] {
      out.Put(crypto::kDerOid, "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07");
      out.Nest(crypto::kDerSet, [&] { out.Put(crypto::kDerUtf8String, Name()); });
    });
  }

  std::mt19937 random_;
};

// The certificate without what is random in it: serial number and signature.
struct Shape {
  std::vector<std::string> uris, dns;
  std::string subject, issuer, key, ski, aki;
  absl::Time from, to;
  bool ca;
  uint16_t usage;
  friend bool operator==(const Shape&, const Shape&) = default;
};
Shape ShapeOf(const crypto::Certificate& c) {
  return {c.uri_sans(),       c.dns_sans(),         c.subject_der(), c.issuer_der(), c.public_key().spki_der(),
          c.subject_key_id(), c.authority_key_id(), c.not_before(),  c.not_after(),  c.is_ca(),
          c.key_usage()};
}

// 100 000 requests in four parts, so that each fits a test's time on a busy machine.
class NothingButTheKey : public ::testing::TestWithParam<unsigned> {};

TEST_P(NothingButTheKey, IsTakenFromACsr) {
  Ca ca;
  RandomCsr requests(GetParam());
  const auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const spiffe::Entry entry = EntryOf("spiffe://example.org/web");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto first, ca->SignWorkload(entry, key.public_key()));
  const Shape expected = ShapeOf(first.chain[0]);
  int accepted = 0;
  const int rounds = testing::kSanitized ? 1'500 : 25'000;
  for (int i = 0; i < rounds; ++i) {
    const auto csr = crypto::CertificateRequest::ParseAndVerify(requests.Make(key));
    if (!csr.ok()) continue;
    ++accepted;
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto issued, ca->SignWorkload(entry, csr->public_key()));
    ASSERT_EQ(ShapeOf(issued.chain[0]), expected);
    if (i % 100 == 0) {  // and as the bytes say it, not only as the value does
      SIGNET_ASSERT_OK_AND_ASSIGN(const auto parsed, crypto::Certificate::Parse(issued.chain[0].der()));
      ASSERT_EQ(ShapeOf(parsed), expected);
    }
  }
  EXPECT_EQ(accepted, rounds);  // none is malformed: all the oddities are well-formed ones
}

INSTANTIATE_TEST_SUITE_P(Seeds, NothingButTheKey, ::testing::Values(1u, 2u, 3u, 4u));

}  // namespace
}  // namespace signet::server
