#include "server/token/client_auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "absl/strings/str_cat.h"
#include "common/crypto/certificate_fields.h"
#include "common/crypto/digest.h"
#include "common/jose/jwk.h"
#include "common/jose/jws.h"
#include "common/spiffe/issued_to.h"
#include "tests/server/token/registry_kit.h"
#include "tests/testing/raw_certificate.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::signet::testing::CaTemplate;
using ::signet::testing::IssuedBy;
using ::signet::testing::LeafTemplate;
using ::signet::testing::RawCertificate;
using ::signet::testing::SelfSigned;
using ::signet::testing::SignerOf;
using ::signet::testing::StatusIs;
using ::signet::testing::TestCert;
using ::testing::HasSubstr;

constexpr char kIssuer[] = "https://id.example.org";
constexpr char kOrders[] = "spiffe://example.org/agent/orders/7c1f";
constexpr char kJwtSpiffe[] = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
constexpr char kJwtBearer[] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

TestCert Root(const std::string& name, absl::Time now) { return SelfSigned(CaTemplate(name, now)); }

class ClientAuthTest : public ::testing::Test {
 protected:
  ClientAuthTest() {
    IdentityRecord orders;
    orders.spiffe_id = "spiffe://example.org/agent/orders";
    orders.owner = "team";
    orders.state = IdentityState::kActive;
    kit_.Create(orders);
    orders.spiffe_id = "spiffe://partner.org/agent/far/1";
    kit_.Create(orders);
    kit_.CatchUp();
    entry_.id = "entry-1";
    Apply();
    auth_ = MakeClientAuthenticator({.trust_domain = TestTrustDomain(),
                                     .issuer = kIssuer,
                                     .index = *index_,
                                     .registry = *kit_.registry,
                                     .clients = {{"program", {{"p1", program_.public_key()}}},
                                                 {kOrders, {{"p1", program_.public_key()}}}}});
  }

  // What memory knows: the members as they are.
  void Apply() {
    EntryIndex::Update update;
    update.whole = true;
    update.seq = ++seq_;
    for (const char* path : {"/spire/agent/x", "/spire/agent/y"}) {
      auto agent = std::make_shared<AgentRecord>(AgentRecord{.id = TestId(path)});
      agent->banned = banned_;
      if (!gone_ || path != std::string("/spire/agent/x")) update.agents.emplace_back(agent->id, std::move(agent));
    }
    if (entry_.id != "") update.entries.emplace_back(entry_.id, std::make_shared<const spiffe::Entry>(entry_));
    auto own = std::make_shared<spiffe::Bundle>(spiffe::Bundle{TestTrustDomain(), {}, {}});
    own->x509_authorities.push_back({root_.certificate, false});
    own->jwt_authorities.push_back({"k1", jwt_key_.public_key(), absl::InfiniteFuture(), false});
    update.bundles.emplace_back(TestTrustDomain(), own);
    auto partner = std::make_shared<spiffe::Bundle>(spiffe::Bundle{TestTrustDomain("partner.org"), {}, {}});
    partner->x509_authorities.push_back({partner_.certificate, false});
    partner->jwt_authorities.push_back({"far", partner_.key.public_key(), absl::InfiniteFuture(), false});
    update.bundles.emplace_back(TestTrustDomain("partner.org"), partner);
    index_->Apply(std::move(update));
  }

  static std::string IssuedTo(const std::string& entry = "entry-1", const std::string& agent = "/spire/agent/x") {
    return spiffe::IssuedToDer({entry, spiffe::HashOfAgent(TestId(agent))});
  }
  crypto::CertificateTemplate Leaf(const std::string& id = kOrders) const {
    crypto::CertificateTemplate t = LeafTemplate(id, now_);
    t.issued_to = IssuedTo();
    return t;
  }
  absl::StatusOr<Client> Mtls(std::vector<crypto::Certificate> chain, const std::string& client_id = kOrders) {
    TokenRequest request;
    request.client_chain = std::move(chain);
    if (!client_id.empty()) request.form["client_id"] = client_id;
    return auth_->Authenticate(request, now_);
  }
  absl::StatusOr<Client> Mtls(const crypto::CertificateTemplate& t) {
    return Mtls({IssuedBy(root_, t).certificate}, t.uri_sans.empty() ? "" : t.uri_sans[0]);
  }
  absl::StatusOr<Client> Mtls(RawCertificate raw) {
    const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
    raw.issuer = "root";
    raw.not_before = now_ - absl::Minutes(1);
    raw.not_after = now_ + absl::Hours(1);
    auto certificate = crypto::Certificate::Parse(raw.Sign(key.public_key(), root_.key));
    if (!certificate.ok()) return certificate.status();
    return Mtls({*certificate});
  }

  boost::json::object SvidClaims(const std::string& subject = kOrders) const {
    return {{"sub", subject},
            {"aud", kIssuer},
            {"iat", absl::ToUnixSeconds(now_)},
            {"exp", absl::ToUnixSeconds(now_) + 300},
            {std::string(spiffe::kIssuedToClaim),
             spiffe::ClaimOf({"entry-1", spiffe::HashOfAgent(TestId("/spire/agent/x"))})}};
  }
  static std::string Sign(const boost::json::object& claims, const std::string& kid, const crypto::PrivateKey& key,
                          const std::string& type = "JWT") {
    boost::json::object header{{"alg", "ES256"}};
    if (!kid.empty()) header["kid"] = kid;
    if (!type.empty()) header["typ"] = type;
    return jose::SignCompact(boost::json::serialize(header), boost::json::serialize(claims), key.type(), SignerOf(key))
        .value();
  }
  absl::StatusOr<Client> Assert(const std::string& assertion, const std::string& type = kJwtSpiffe,
                                const std::string& client_id = "", const std::string& dpop = "proof") {
    TokenRequest request;
    request.client_assertion = assertion;
    request.client_assertion_type = type;
    request.dpop = dpop;
    if (!client_id.empty()) request.form["client_id"] = client_id;
    return auth_->Authenticate(request, now_);
  }
  absl::StatusOr<Client> Svid(const boost::json::object& claims) { return Assert(Sign(claims, "k1", jwt_key_)); }

  boost::json::object ProgramClaims() const {
    return {{"iss", "program"},
            {"sub", "program"},
            {"aud", kIssuer},
            {"jti", "j1"},
            {"iat", absl::ToUnixSeconds(now_)},
            {"exp", absl::ToUnixSeconds(now_) + 60}};
  }
  absl::StatusOr<Client> Program(const boost::json::object& claims, const std::string& type = "JWT") {
    return Assert(Sign(claims, "p1", program_, type), kJwtBearer, "", "");
  }

  // Refused as all are, and with the work of all.
  void ExpectRefused(const std::function<absl::StatusOr<Client>()>& ask, const std::string& why) {
    const uint64_t before = auth_->verifications();
    EXPECT_THAT(ask(), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr(why)));
    EXPECT_EQ(auth_->verifications(), before + 1) << why;
  }

  RegistryKit kit_;
  const absl::Time now_ = kit_.now;
  const TestCert root_ = Root("root", now_), partner_ = Root("partner", now_), stranger_ = Root("root", now_);
  const crypto::PrivateKey jwt_key_ = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const crypto::PrivateKey program_ = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const std::unique_ptr<EntryIndex> index_ = EntryIndex::Create(TestTrustDomain());
  spiffe::Entry entry_ = TestEntry("/agent/orders/7c1f", {"unix:uid:1"}, "/spire/agent/x");
  bool banned_ = false, gone_ = false;
  uint64_t seq_ = 0;
  std::unique_ptr<ClientAuthenticator> auth_;
};

TEST_F(ClientAuthTest, AnX509SvidSaysWhoWhereAndUntilWhen) {
  const TestCert leaf = IssuedBy(root_, Leaf());
  SIGNET_ASSERT_OK_AND_ASSIGN(const Client client, Mtls({leaf.certificate}));
  EXPECT_EQ(client.method, ClientAuthMethod::kX509Svid);
  EXPECT_EQ(client.id, kOrders);
  EXPECT_EQ(client.definition, "spiffe://example.org/agent/orders");
  ASSERT_NE(client.identity, nullptr);
  EXPECT_EQ(client.node, oauth::Hash("spiffe://example.org/spire/agent/x"));
  EXPECT_EQ(client.instance, InstanceHash(kOrders, client.node));
  EXPECT_TRUE(client.own_trust_domain);
  EXPECT_EQ(client.x5t_s256, jose::Base64UrlEncode(crypto::Sha256(leaf.certificate.der())));
  EXPECT_EQ(client.credential, leaf.certificate.SerialDecimal());
  EXPECT_EQ(client.not_after, leaf.certificate.not_after());
  EXPECT_LT(client.planned_rotation, client.not_after - absl::Minutes(25));
  EXPECT_TRUE(client.once.empty());
}

TEST_F(ClientAuthTest, AProvenChainIsRememberedUntilTheBundleChanges) {
  const crypto::Certificate leaf = IssuedBy(root_, Leaf()).certificate;
  for (int i = 0; i < 5; ++i) SIGNET_EXPECT_OK(Mtls({leaf}));
  EXPECT_EQ(auth_->verifications(), 1u);
  Apply();  // another bundle, as far as anybody knows
  SIGNET_EXPECT_OK(Mtls({leaf}));
  EXPECT_EQ(auth_->verifications(), 2u);
}

TEST_F(ClientAuthTest, D2_2X509SvidsThatAreNoneAreAllRefusedAlike) {
  const auto leaf = [&](auto change) {
    crypto::CertificateTemplate t = Leaf();
    change(t);
    return [this, t] { return Mtls({IssuedBy(root_, t).certificate}); };
  };
  ExpectRefused(leaf([](auto& t) { t.uri_sans.push_back("spiffe://example.org/other"); }), "");
  ExpectRefused(leaf([](auto& t) { t.uri_sans.clear(); }), "");
  ExpectRefused(leaf([](auto& t) {
                  t.is_ca = true;
                  t.subject.common_name = "ca";
                }),
                "");
  ExpectRefused(leaf([](auto& t) { t.key_usage = crypto::kKeyAgreement; }), "digitalSignature");
  ExpectRefused(leaf([](auto& t) { t.key_usage = 0; }), "digitalSignature");
  ExpectRefused(leaf([this](auto& t) { t.not_after = now_ - absl::Seconds(5); }), "");
  ExpectRefused(leaf([this](auto& t) { t.not_before = now_ + absl::Minutes(5); }), "");
  // Chains to the root of another trust domain, to one that has our root's name, to one of the system's kind.
  ExpectRefused([&] { return Mtls({IssuedBy(partner_, Leaf()).certificate}); }, "");
  ExpectRefused([&] { return Mtls({IssuedBy(stranger_, Leaf()).certificate}); }, "");
  ExpectRefused([&] { return Mtls({SelfSigned(Leaf()).certificate}); }, "");
  ExpectRefused([&] { return Mtls(Leaf("spiffe://nobody.org/agent/orders/1")); }, "no bundle");
  // client_id: absent, or not the SAN. Also of a chain that is remembered.
  const crypto::Certificate good = IssuedBy(root_, Leaf()).certificate;
  ExpectRefused([&] { return Mtls({good}, ""); }, "no client_id");
  ExpectRefused([&] { return Mtls({good}, "spiffe://example.org/agent/orders"); }, "client_id");
  ExpectRefused([&] { return Mtls({good}, "spiffe://example.org/agent/orders/7C1F"); }, "client_id");
  SIGNET_EXPECT_OK(Mtls({good}));
}

TEST_F(ClientAuthTest, ACertificateThatMayNotBeAClientIsNone) {
  const auto raw = [](std::vector<absl::string_view> usages) {
    RawCertificate certificate;
    crypto::DerWriter out;
    out.Nest(crypto::kDerSequence, [&] {
      for (absl::string_view usage : usages) out.Put(crypto::kDerOid, usage);
    });
    certificate.extensions = {testing::RawLeafUsage(),
                              testing::RawSan({{6, kOrders}}),
                              {std::string(crypto::kOidIssuedTo), false, IssuedTo()}};
    if (!usages.empty()) certificate.extensions.push_back({"\x55\x1d\x25", false, out.Take()});
    return certificate;
  };
  constexpr absl::string_view kServer = "\x2b\x06\x01\x05\x05\x07\x03\x01",
                              kClient = "\x2b\x06\x01\x05\x05\x07\x03\x02",
                              kAny = absl::string_view("\x55\x1d\x25\x00", 4);
  ExpectRefused([&] { return Mtls(raw({kServer})); }, "clientAuth");
  SIGNET_EXPECT_OK(Mtls(raw({})));
  SIGNET_EXPECT_OK(Mtls(raw({kServer, kClient})));
  SIGNET_EXPECT_OK(Mtls(raw({kAny})));
}

TEST_F(ClientAuthTest, T6AnSvidMustSayWhichAgentItWasIssuedTo) {
  crypto::CertificateTemplate minted = Leaf();
  minted.issued_to.clear();  // MintX509SVID: nobody attested
  ExpectRefused([&] { return Mtls(minted); }, "issued");
  minted.issued_to = "garbage";
  ExpectRefused([&] { return Mtls(minted); }, "issued");
  minted.issued_to = IssuedTo("entry-1", "/spire/agent/never");
  ExpectRefused([&] { return Mtls(minted); }, "gone");
  minted.issued_to = IssuedTo("entry-1", "/spire/agent/y");  // an agent, but not the entry's
  ExpectRefused([&] { return Mtls(minted); }, "not its agent's");
  minted.issued_to = IssuedTo("entry-2");
  ExpectRefused([&] { return Mtls(minted); }, "not its agent's");
  boost::json::object claims = SvidClaims();
  claims.erase(std::string(spiffe::kIssuedToClaim));
  ExpectRefused([&] { return Svid(claims); }, "issued");
}

TEST_F(ClientAuthTest, T6AnSvidCountsNoLongerThanItsEntryItsAgentAndItsKey) {
  const crypto::Certificate leaf = IssuedBy(root_, Leaf()).certificate;
  const std::string token = Sign(SvidClaims(), "k1", jwt_key_);
  const auto both = [&](const std::string& why) {
    ExpectRefused([&] { return Mtls({leaf}); }, why);
    ExpectRefused([&] { return Assert(token); }, why);
  };
  const auto good = [&] {
    SIGNET_EXPECT_OK(Mtls({leaf}));
    SIGNET_EXPECT_OK(Assert(token));
  };
  good();
  banned_ = true;  // with keys that were exported before
  Apply();
  both("banned");
  banned_ = false;
  gone_ = true;
  Apply();
  both("gone");
  gone_ = false;
  entry_.parent_id = TestId("/spire/agent/y");  // moved to another node
  Apply();
  both("not its agent's");
  entry_.parent_id = TestId("/spire/agent/x");
  entry_.spiffe_id = TestId("/agent/orders/other");
  Apply();
  both("not its agent's");
  entry_.spiffe_id = TestId("/agent/orders/7c1f");
  Apply();
  good();
  const spiffe::Entry kept = entry_;
  entry_.id.clear();  // deleted
  Apply();
  both("not its agent's");
  entry_ = kept;
  Apply();
  good();
  // The authority that signed it leaves the bundle: also what is remembered is void at once.
  EntryIndex::Update update;
  update.seq = ++seq_;
  auto other = std::make_shared<spiffe::Bundle>(spiffe::Bundle{TestTrustDomain(), {}, {}});
  other->x509_authorities.push_back({stranger_.certificate, false});
  update.bundles.emplace_back(TestTrustDomain(), other);
  index_->Apply(std::move(update));
  both("");
}

TEST_F(ClientAuthTest, D2_1AJwtSvidIsForTheIssuerAloneAndMayComeAgain) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const Client client, Svid(SvidClaims()));
  EXPECT_EQ(client.method, ClientAuthMethod::kJwtSvid);
  EXPECT_EQ(client.id, kOrders);
  EXPECT_EQ(client.definition, "spiffe://example.org/agent/orders");
  EXPECT_EQ(client.instance, InstanceHash(kOrders, client.node));
  EXPECT_TRUE(client.once.empty());  // an agent caches it: the same again is fine
  SIGNET_EXPECT_OK(Svid(SvidClaims()));
  SIGNET_EXPECT_OK(Assert(Sign(SvidClaims(), "k1", jwt_key_), kJwtSpiffe, kOrders));

  const auto with = [&](const char* name, boost::json::value value) {
    boost::json::object claims = SvidClaims();
    claims[name] = std::move(value);
    return [this, claims] { return Svid(claims); };
  };
  ExpectRefused(with("aud", "https://id.example.org/oauth2/token"), "");
  ExpectRefused(with("aud", boost::json::array{kIssuer, "other"}), "more audiences");
  ExpectRefused(with("aud", boost::json::array{kIssuer, kIssuer}), "more audiences");
  ExpectRefused(with("aud", "https://id.example.org/"), "");
  SIGNET_EXPECT_OK(with("aud", boost::json::array{kIssuer})());
}

TEST_F(ClientAuthTest, AJwtSvidIsShortLivedSignedByTheBundleAndComesWithAProof) {
  const int64_t now = absl::ToUnixSeconds(now_);
  const auto with = [&](const char* name, boost::json::value value) {
    boost::json::object claims = SvidClaims();
    claims[name] = std::move(value);
    return [this, claims] { return Svid(claims); };
  };
  ExpectRefused(with("exp", now + 301), "5 minutes");
  ExpectRefused(with("iat", now - 1), "5 minutes");
  ExpectRefused(with("exp", now - 1), "");
  ExpectRefused(with("exp", now), "expired");
  ExpectRefused(with("nbf", now + 120), "");
  boost::json::object no_iat = SvidClaims();
  no_iat.erase("iat");
  ExpectRefused([&] { return Svid(no_iat); }, "iat");
  const std::string good = Sign(SvidClaims(), "k1", jwt_key_);
  ExpectRefused([&] { return Assert(good, kJwtSpiffe, "", ""); }, "DPoP");
  ExpectRefused([&] { return Assert(good, kJwtSpiffe, "spiffe://example.org/agent/orders"); }, "client_id");
  ExpectRefused([&] { return Assert(good, kJwtBearer); }, "");  // one kind is not another
  ExpectRefused([&] { return Assert(good, "urn:made-up"); }, "unknown");
  ExpectRefused([&] { return Assert(Sign(SvidClaims(), "k1", program_)); }, "");       // another's key
  ExpectRefused([&] { return Assert(Sign(SvidClaims(), "k2", jwt_key_)); }, "");       // a kid that is nowhere
  ExpectRefused([&] { return Assert(Sign(SvidClaims(), "far", partner_.key)); }, "");  // of another domain's bundle
  ExpectRefused([&] { return Svid(SvidClaims("spiffe://nobody.org/agent/orders/1")); }, "");
  ExpectRefused([&] { return Assert(good + "x"); }, "");
  ExpectRefused([&] { return Assert("a.b.c"); }, "");
  // T5: another kind of JWT, though the key fits.
  for (const char* type : {"at+jwt", "dpop+jwt", "signet-receipt+jwt"}) {
    ExpectRefused([&] { return Assert(Sign(SvidClaims(), "k1", jwt_key_, type)); }, "");
  }
}

TEST_F(ClientAuthTest, OneMethodARequest) {
  TokenRequest request;
  ExpectRefused([&] { return auth_->Authenticate(request, now_); }, "no client certificate");
  request.client_chain = {IssuedBy(root_, Leaf()).certificate};
  request.form["client_id"] = kOrders;
  SIGNET_EXPECT_OK(auth_->Authenticate(request, now_));
  request.client_assertion = Sign(SvidClaims(), "k1", jwt_key_);
  request.client_assertion_type = kJwtSpiffe;
  request.dpop = "proof";
  ExpectRefused([&] { return auth_->Authenticate(request, now_); }, "more than one");
}

TEST_F(ClientAuthTest, D2_1APrivateKeyJwtIsForTheIssuerAloneAndCountsOnce) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const Client client, Program(ProgramClaims()));
  EXPECT_EQ(client.method, ClientAuthMethod::kPrivateKeyJwt);
  EXPECT_EQ(client.id, "program");
  EXPECT_FALSE(client.own_trust_domain);
  EXPECT_EQ(client.identity, nullptr);
  EXPECT_EQ(client.instance, "");
  ASSERT_EQ(client.once.size(), 1u);  // consumed with the answer: the second is kAlreadyExists
  EXPECT_GT(client.once[0].second, now_ + absl::Seconds(60));
  SIGNET_ASSERT_OK_AND_ASSIGN(const Client again, Program(ProgramClaims()));
  EXPECT_EQ(again.once[0].first, client.once[0].first);
  boost::json::object other = ProgramClaims();
  other["jti"] = "j2";
  EXPECT_NE(Program(other).value().once[0].first, client.once[0].first);

  const auto with = [&](const char* name, boost::json::value value) {
    boost::json::object claims = ProgramClaims();
    claims[name] = std::move(value);
    return [this, claims] { return Program(claims); };
  };
  const int64_t now = absl::ToUnixSeconds(now_);
  ExpectRefused(with("aud", "https://id.example.org/oauth2/token"), "aud");
  ExpectRefused(with("aud", boost::json::array{kIssuer, "other"}), "aud");
  ExpectRefused(with("aud", boost::json::array{}), "aud");
  ExpectRefused(with("iss", "other"), "iss");
  ExpectRefused(with("jti", ""), "jti");
  ExpectRefused(with("jti", boost::json::string(257, 'j')), "jti");
  ExpectRefused(with("exp", now), "expired");
  ExpectRefused(with("exp", now + 3661), "1 hour");
  ExpectRefused(with("nbf", now + 61), "");
  ExpectRefused(with("iat", now + 61), "");
  for (const char* name : {"jti", "exp", "sub", "iss", "aud"}) {
    boost::json::object claims = ProgramClaims();
    claims.erase(name);
    ExpectRefused([&] { return Program(claims); }, "");
  }
  boost::json::object unknown = ProgramClaims();
  unknown["iss"] = unknown["sub"] = "nobody";
  ExpectRefused([&] { return Program(unknown); }, "no such client");
  ExpectRefused([&] { return Assert(Sign(ProgramClaims(), "p1", jwt_key_), kJwtBearer); }, "");
  ExpectRefused([&] { return Assert(Sign(ProgramClaims(), "p2", program_), kJwtBearer); }, "kid");
  ExpectRefused([&] { return Assert(Sign(ProgramClaims(), "p1", program_), kJwtBearer, "other"); }, "client_id");
  SIGNET_EXPECT_OK(Assert(Sign(ProgramClaims(), "", program_), kJwtBearer));  // its only key
}

TEST_F(ClientAuthTest, AConfiguredClientBelowAnIdentityIsAnInstanceOfIt) {
  boost::json::object claims = ProgramClaims();
  claims["iss"] = claims["sub"] = kOrders;
  SIGNET_ASSERT_OK_AND_ASSIGN(const Client client, Program(claims));
  EXPECT_EQ(client.id, kOrders);
  EXPECT_EQ(client.definition, "spiffe://example.org/agent/orders");
}

TEST_F(ClientAuthTest, D2_1APrivateKeyJwtIsNoOtherKindOfJwt) {
  for (const char* type : {"", "JWT", "client-authentication+jwt"}) {
    SIGNET_EXPECT_OK(Program(ProgramClaims(), type)) << type;
  }
  for (const char* type : {"dpop+jwt", "oauth-authz-req+jwt", "at+jwt", "jwt", "signet-receipt+jwt"}) {
    ExpectRefused([&] { return Program(ProgramClaims(), type); }, "another kind");
  }
}

TEST_F(ClientAuthTest, D2_6AnIdentityIsFoundBySegmentsAndNeverByPrefixOrCase) {
  const auto definition = [&](const std::string& path) -> std::string {
    entry_.spiffe_id = TestId(path);
    Apply();
    return Mtls(Leaf(absl::StrCat("spiffe://example.org", path))).value().definition;
  };
  EXPECT_EQ(definition("/agent/orders/1"), "spiffe://example.org/agent/orders");
  EXPECT_EQ(definition("/agent/orders"), "spiffe://example.org/agent/orders");
  EXPECT_EQ(definition("/agent/orders-evil"), "");
  EXPECT_EQ(definition("/agent/orders-evil/1"), "");
  EXPECT_EQ(definition("/agent/Orders/1"), "");
  EXPECT_EQ(definition("/agent/orders/1/2"), "");
  EXPECT_EQ(definition("/other/agent/orders/1"), "");
  for (const char* id : {"spiffe://EXAMPLE.org/agent/orders/1", "SPIFFE://example.org/agent/orders/1",
                         "spiffe://example.org/agent/orders%2f1", "spiffe://example.org/agent//orders/1",
                         "spiffe://example.org/agent/../agent/orders/1", "spiffe://example.org/agent/orders/1/"}) {
    ExpectRefused([&] { return Mtls(Leaf(id)); }, "");
  }
}

TEST_F(ClientAuthTest, T7AFederatedClientIsKnownByItsFullSpiffeIdAlone) {
  const auto from_partner = [&](const std::string& id) {
    crypto::CertificateTemplate t = LeafTemplate(id, now_);
    return Mtls({IssuedBy(partner_, t).certificate}, id);
  };
  SIGNET_ASSERT_OK_AND_ASSIGN(const Client far, from_partner("spiffe://partner.org/agent/far/1"));
  EXPECT_FALSE(far.own_trust_domain);
  EXPECT_EQ(far.definition, "spiffe://partner.org/agent/far/1");
  EXPECT_EQ(far.instance, "");
  SIGNET_ASSERT_OK_AND_ASSIGN(const Client below, from_partner("spiffe://partner.org/agent/far/1/2"));
  EXPECT_EQ(below.identity, nullptr);
  // Its domain's own root vouches, and no other.
  ExpectRefused(
      [&] {
        return Mtls({IssuedBy(root_, LeafTemplate("spiffe://partner.org/agent/far/1", now_)).certificate},
                    "spiffe://partner.org/agent/far/1");
      },
      "");
  // What a foreign CA says about agents of ours counts for nothing.
  crypto::CertificateTemplate claims_agent = LeafTemplate("spiffe://partner.org/agent/far/1", now_);
  claims_agent.issued_to = IssuedTo();
  EXPECT_EQ(Mtls({IssuedBy(partner_, claims_agent).certificate}, "spiffe://partner.org/agent/far/1").value().node, "");
}

}  // namespace
}  // namespace signet::server
