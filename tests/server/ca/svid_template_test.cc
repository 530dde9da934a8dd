#include "server/ca/svid_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "common/spiffe/wire.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
const absl::Time kNow = absl::FromUnixMillis(1'800'000'000'700);  // not a whole second
const absl::Time kSecond = absl::FromUnixSeconds(1'800'000'000);
const absl::Time kFar = kNow + absl::Hours(24);
const spiffe::TrustDomain kTd = spiffe::TrustDomain::Parse("example.org").value();

spiffe::Id IdOf(absl::string_view text) { return spiffe::Id::Parse(text).value(); }
spiffe::Entry EntryOf(absl::string_view id) {
  return spiffe::Entry{"e1", IdOf(id), IdOf("spiffe://example.org/spire/agent/x/1"), {}};
}
IssuePolicy Policy() { return IssuePolicy{kTd}; }

TEST(SvidTemplateTest, AWorkloadsCertificateFollowsTheEntryAlone) {
  spiffe::Entry entry = EntryOf("spiffe://example.org/web");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto t, WorkloadTemplate(entry, Policy(), kFar, kNow));
  EXPECT_THAT(t.uri_sans, ElementsAre("spiffe://example.org/web"));  // X509-1
  EXPECT_TRUE(t.dns_sans.empty());
  EXPECT_TRUE(t.subject.empty());  // X509-5: the builder then marks the SAN critical
  EXPECT_FALSE(t.is_ca);           // X509-6
  EXPECT_EQ(t.key_usage, crypto::kDigitalSignature | crypto::kKeyEncipherment | crypto::kKeyAgreement);  // X509-8..10
  EXPECT_TRUE(t.server_and_client_auth);  // X509-11, X509-12
  EXPECT_EQ(t.not_before, kSecond - absl::Seconds(10));
  EXPECT_EQ(t.not_after, kSecond + absl::Hours(1));
  EXPECT_EQ(t.serial.size(), 20);  // X509-30
}

TEST(SvidTemplateTest, TheFirstDnsNameIsTheCommonName) {
  spiffe::Entry entry = EntryOf("spiffe://example.org/web");
  entry.dns_names = {"a.example.org", "b.example.org"};
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto t, WorkloadTemplate(entry, Policy(), kFar, kNow));
  EXPECT_EQ(t.subject.common_name, "a.example.org");
  EXPECT_THAT(t.dns_sans, ElementsAre("a.example.org", "b.example.org"));
}

TEST(SvidTemplateTest, ADnsNameTooLongForACommonNameStaysInTheSan) {  // RFC 5280 ub-common-name
  spiffe::Entry entry = EntryOf("spiffe://example.org/web");
  entry.dns_names = {std::string(40, 'a') + "." + std::string(40, 'b')};
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto t, WorkloadTemplate(entry, Policy(), kFar, kNow));
  EXPECT_TRUE(t.subject.empty());
  EXPECT_EQ(t.dns_sans, entry.dns_names);
}

TEST(SvidTemplateTest, TtlOfTheEntryThenOfThePolicyButNeverBeyondTheAuthority) {
  struct Row {
    absl::Duration entry_ttl, policy_ttl;
    absl::Time authority_end, expected_end;
  };
  const Row rows[] = {
      {absl::ZeroDuration(), absl::Minutes(30), kFar, kSecond + absl::Minutes(30)},
      {absl::Minutes(5), absl::Minutes(30), kFar, kSecond + absl::Minutes(5)},
      {absl::Hours(2), absl::Minutes(30), kFar, kSecond + absl::Hours(2)},
      {absl::Hours(48), absl::Minutes(30), kSecond + absl::Hours(24), kSecond + absl::Hours(24)},
      {absl::Hours(48), absl::Minutes(30), kSecond + absl::Milliseconds(2500), kSecond + absl::Seconds(2)},
      {absl::Hours(24 * 36500), absl::Minutes(30), kSecond + absl::Hours(1), kSecond + absl::Hours(1)},
  };
  for (const Row& row : rows) {
    spiffe::Entry entry = EntryOf("spiffe://example.org/web");
    entry.x509_svid_ttl = row.entry_ttl;
    IssuePolicy policy = Policy();
    policy.x509_ttl = row.policy_ttl;
    SIGNET_ASSERT_OK_AND_ASSIGN(const auto t, WorkloadTemplate(entry, policy, row.authority_end, kNow));
    EXPECT_EQ(t.not_after, row.expected_end);
  }
}

TEST(SvidTemplateTest, AnAuthorityThatHasEndedSignsNothing) {
  for (const absl::Time end : {kNow - absl::Hours(1), kNow, kSecond, kSecond + absl::Milliseconds(900)}) {
    EXPECT_THAT(WorkloadTemplate(EntryOf("spiffe://example.org/web"), Policy(), end, kNow),
                StatusIs(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(JwtClaims(IdOf("spiffe://example.org/web"), {"a"}, absl::ZeroDuration(), false, Policy(), end, kNow),
                StatusIs(absl::StatusCode::kFailedPrecondition));
  }
}

TEST(SvidTemplateTest, IdsThatNoWorkloadMayHave) {
  for (const char* id : {"spiffe://example.org",        // X509-4: no path
                         "spiffe://other.org/web",      // not ours
                         "spiffe://example.org/spire",  // reserved
                         "spiffe://example.org/spire/server", "spiffe://example.org/spire/agent/x/1"}) {
    EXPECT_THAT(WorkloadTemplate(EntryOf(id), Policy(), kFar, kNow), StatusIs(kInvalid)) << id;
    EXPECT_THAT(MintTemplate({IdOf(id), {}}, Policy(), kFar, kNow), StatusIs(kInvalid)) << id;
    EXPECT_THAT(JwtClaims(IdOf(id), {"a"}, absl::ZeroDuration(), false, Policy(), kFar, kNow), StatusIs(kInvalid))
        << id;
  }
  SIGNET_EXPECT_OK(WorkloadTemplate(EntryOf("spiffe://example.org/spirelike"), Policy(), kFar, kNow));
}

TEST(SvidTemplateTest, AgentAndServer) {
  IssuePolicy policy = Policy();
  policy.agent_ttl = absl::Minutes(20);
  const spiffe::Id agent = IdOf("spiffe://example.org/spire/agent/join_token/1");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto a, AgentTemplate(agent, policy, kFar, kNow));
  EXPECT_THAT(a.uri_sans, ElementsAre(agent.string()));
  EXPECT_EQ(a.not_after, kSecond + absl::Minutes(20));
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto s, ServerTemplate(policy, kFar, kNow));
  EXPECT_THAT(s.dns_sans, ::testing::IsEmpty());
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto named, ServerTemplate(policy, kFar, kNow, "id.example.org"));
  EXPECT_THAT(named.dns_sans, ::testing::ElementsAre("id.example.org"));
  EXPECT_THAT(s.uri_sans, ElementsAre("spiffe://example.org/spire/server"));
  for (const char* id : {"spiffe://example.org/web", "spiffe://example.org/spire/server", "spiffe://example.org",
                         "spiffe://other.org/spire/agent/x/1"}) {
    EXPECT_THAT(AgentTemplate(IdOf(id), policy, kFar, kNow), StatusIs(kInvalid)) << id;
  }
}

TEST(SvidTemplateTest, MintTakesTheAdministratorsTtl) {
  const spiffe::Id id = IdOf("spiffe://example.org/web");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto t, MintTemplate({id, {"x.org"}, absl::Minutes(7)}, Policy(), kFar, kNow));
  EXPECT_EQ(t.not_after, kSecond + absl::Minutes(7));
  EXPECT_EQ(t.subject.common_name, "x.org");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto d, MintTemplate({id, {}}, Policy(), kFar, kNow));
  EXPECT_EQ(d.not_after, kSecond + absl::Hours(1));
  EXPECT_THAT(MintTemplate({id, {}, absl::Seconds(-1)}, Policy(), kFar, kNow), StatusIs(kInvalid));
  EXPECT_THAT(MintTemplate({id, {}, absl::Milliseconds(10)}, Policy(), kFar, kNow), StatusIs(kInvalid));
  EXPECT_THAT(MintTemplate({id, {"bad name"}}, Policy(), kFar, kNow), StatusIs(kInvalid, HasSubstr("bad name")));
}

TEST(SvidTemplateTest, AnAuthorityIsAnSvidOfTheTrustDomain) {  // X509-14 to X509-18, ID-15
  const auto t = AuthorityTemplate(Policy(), kNow);
  EXPECT_TRUE(t.is_ca);
  EXPECT_EQ(t.key_usage, crypto::kKeyCertSign | crypto::kCrlSign);
  EXPECT_FALSE(t.server_and_client_auth);  // X509-22: it would bind everything below
  EXPECT_THAT(t.uri_sans, ElementsAre("spiffe://example.org"));
  EXPECT_EQ(t.subject.country, "US");
  EXPECT_EQ(t.subject.organization, "SPIFFE");
  EXPECT_FALSE(t.subject.serial_number.empty());
  EXPECT_EQ(t.not_before, kSecond - absl::Seconds(10));
  EXPECT_EQ(t.not_after, kSecond + absl::Hours(24));
  EXPECT_NE(AuthorityTemplate(Policy(), kNow).subject.serial_number, t.subject.serial_number);
}

TEST(SvidTemplateTest, JwtClaimsFollowTheStandard) {
  IssuePolicy policy = Policy();
  policy.jwt_issuer = "https://id.example.org";
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto claims, JwtClaims(IdOf("spiffe://example.org/web"), {"a", "", "b"},
                                                           absl::ZeroDuration(), false, policy, kFar, kNow));
  EXPECT_EQ(claims.subject.string(), "spiffe://example.org/web");  // JWT-8
  EXPECT_THAT(claims.audience, ElementsAre("a", "b"));             // JWT-9
  EXPECT_EQ(claims.issued_at, kSecond);                            // never ahead of the clock
  EXPECT_EQ(claims.expires_at, kSecond + absl::Minutes(5));        // JWT-12
  EXPECT_EQ(claims.issuer, "https://id.example.org");
  EXPECT_EQ(claims.jwt_id, "");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto with_jti, JwtClaims(IdOf("spiffe://example.org/web"), {"a"}, absl::Hours(99),
                                                             true, Policy(), kSecond + absl::Hours(1), kNow));
  EXPECT_EQ(with_jti.expires_at, kSecond + absl::Hours(1));
  EXPECT_EQ(with_jti.jwt_id.size(), 36);
  EXPECT_EQ(with_jti.issuer, "");
  for (const std::vector<std::string>& none : {std::vector<std::string>{}, std::vector<std::string>{"", ""}}) {
    EXPECT_THAT(JwtClaims(IdOf("spiffe://example.org/web"), none, absl::ZeroDuration(), false, Policy(), kFar, kNow),
                StatusIs(kInvalid, HasSubstr("audience")));
  }
}

TEST(SvidTemplateTest, WhateverNameAnEntryMayHaveIsIssuedAndNoOther) {
  const std::string label63(63, 'a');
  const std::string name253 = label63 + "." + label63 + "." + label63 + "." + std::string(61, 'b');
  spiffe::Entry entry = EntryOf("spiffe://example.org/web");
  for (const std::string& name :
       {std::string("a"), std::string("a.b-c.d1"), std::string("a_b"), std::string("*.example.org"), label63, name253,
        std::string(), std::string("."), std::string("a."), std::string("a..b"), std::string("-a"), std::string("*"),
        std::string("a.*.b"), std::string("a b"), std::string("\xc3\xa4.org"), std::string("a\0b", 3), label63 + "a",
        name253 + "b"}) {
    entry.dns_names = {name};
    EXPECT_EQ(WorkloadTemplate(entry, Policy(), kFar, kNow).ok(), spiffe::CheckDnsName(name).ok()) << name;
  }
}

// reliability.md C3 P4: notBefore <= now, notAfter <= min(TTL, CA end); no overflow at 2038, 2106, 2049/2050, 9999.
TEST(SvidTemplateTest, PropertyTtlAlgebra) {
  std::mt19937_64 random(1);
  const int64_t edges[] = {0, 2'147'483'647, 4'294'967'295, 2'524'607'999, 253'402'300'799 - 86'400};
  for (int i = 0; i < 100'000; ++i) {
    const int64_t edge = edges[random() % std::size(edges)];
    const absl::Time now = absl::FromUnixNanos(0) + absl::Seconds(edge + static_cast<int64_t>(random() % 86'400)) +
                           absl::Nanoseconds(random() % 1'000'000'000);
    const absl::Time authority_end =
        now + absl::Milliseconds(static_cast<int64_t>(random() % 200'000'000) - 10'000'000);
    spiffe::Entry entry = EntryOf("spiffe://example.org/web");
    const int shift = static_cast<int>(random() % 63);
    entry.x509_svid_ttl = random() % 8 == 0 ? absl::InfiniteDuration() : absl::Seconds(random() >> shift >> 1);
    const absl::Duration ttl = entry.x509_svid_ttl > absl::ZeroDuration() ? entry.x509_svid_ttl : absl::Hours(1);
    const auto t = WorkloadTemplate(entry, Policy(), authority_end, now);
    if (!t.ok()) {
      ASSERT_LE(authority_end - now, absl::Seconds(1)) << t.status();
      continue;
    }
    ASSERT_LE(t->not_before, now);
    ASSERT_LT(t->not_before, t->not_after);
    ASSERT_LE(t->not_after, authority_end);
    ASSERT_LE(t->not_after, now + ttl);
    ASSERT_GT(t->not_after, now - absl::Seconds(1));
    const auto claims = JwtClaims(entry.spiffe_id, {"a"}, entry.x509_svid_ttl, false, Policy(), authority_end, now);
    ASSERT_TRUE(claims.ok());
    ASSERT_LE(claims->issued_at, now);
    ASSERT_LE(claims->expires_at, authority_end);
  }
}

TEST(SvidTemplateTest, T6SaysToWhomItWasIssuedWhileTheTokenServiceIsOn) {
  const spiffe::Entry entry = EntryOf("spiffe://example.org/agent/a/1");
  const spiffe::Id agent = IdOf("spiffe://example.org/spire/agent/x/1");
  IssuePolicy policy = Policy();
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto off, WorkloadTemplate(entry, policy, kFar, kNow, &agent));
  EXPECT_EQ(off.issued_to, "");
  policy.token_issuer = "https://id.example.org";
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto nobody, WorkloadTemplate(entry, policy, kFar, kNow));
  EXPECT_EQ(nobody.issued_to, "");
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto on, WorkloadTemplate(entry, policy, kFar, kNow, &agent));
  SIGNET_ASSERT_OK_AND_ASSIGN(const auto issued_to, spiffe::ParseIssuedToDer(on.issued_to));
  EXPECT_EQ(issued_to, (spiffe::IssuedTo{entry.id, spiffe::HashOfAgent(agent)}));
  EXPECT_THAT(on.issued_to, ::testing::Not(HasSubstr("spire/agent")));
  EXPECT_FALSE(spiffe::ParseIssuedToDer(on.issued_to + "x").ok());
  EXPECT_FALSE(spiffe::ParseIssuedToDer("").ok());
}

TEST(SvidTemplateTest, T6OfJwtSvidsOnlyThoseForTheTokenServiceAloneSayIt) {
  IssuePolicy policy = Policy();
  policy.token_issuer = "https://id.example.org";
  const spiffe::Id id = IdOf("spiffe://example.org/agent/a/1");
  const spiffe::IssuedTo to{"e", std::string(32, 'h')};
  const auto claims = [&](std::vector<std::string> audience) {
    return JwtClaims(id, std::move(audience), absl::Hours(1), false, policy, kFar, kNow, to).value();
  };
  EXPECT_EQ(claims({"https://id.example.org"}).issued_to, to);
  const auto life = [](const spiffe::JwtSvidClaims& c) { return c.expires_at - c.issued_at; };
  EXPECT_EQ(life(claims({"https://id.example.org"})), absl::Minutes(5));  // token-service 3
  for (const auto& audience : std::vector<std::vector<std::string>>{
           {"other"}, {"https://id.example.org", "other"}, {"https://id.example.org/oauth2/token"}}) {
    EXPECT_FALSE(claims(audience).issued_to.has_value());
    EXPECT_EQ(life(claims(audience)), absl::Hours(1));
  }
  policy.token_issuer.clear();
  EXPECT_FALSE(claims({"https://id.example.org"}).issued_to.has_value());
}

}  // namespace
}  // namespace signet::server
