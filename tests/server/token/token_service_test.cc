#include "server/token/token_service.h"

#include <gtest/gtest.h>

#include "tests/server/token/service_kit.h"

namespace signet::server {
namespace {

class TokenServiceTest : public ::testing::Test {
 protected:
  // An orders:read token of the planner's own authority.
  void GiveOwnAuthority() {
    IdentityRecord record = kit.world.planner;
    record.own_authority = ExpandScopes(kit.world.orders_resource, {"orders:read"}, nullptr);
    record.version = 0;
    kit.Write<IdentityRecord>([&](auto done) { kit.store->UpdateIdentity(record, kit.clock.Now(), std::move(done)); });
  }
  static FormFields OwnAuthority() {
    return {{"grant_type", "client_credentials"}, {"resource", World::kOrdersUri}, {"scope", "orders:read"}};
  }

  ServiceKit kit;
};

// --- client_credentials ----------------------------------------------------------------------------------------------

TEST_F(TokenServiceTest, ClientCredentialsGiveOwnAuthority) {
  GiveOwnAuthority();
  const Read read = kit.Token(kit.planner, OwnAuthority());
  ASSERT_EQ(read.status, 200) << read.text;
  EXPECT_EQ(read.Get("token_type"), "DPoP");
  EXPECT_EQ(read.Get("scope"), "orders:read");
  const oauth::AccessToken token = kit.Parse(read.token());
  EXPECT_EQ(token.subject, kit.planner);
  EXPECT_EQ(token.subject_profile, "ai_agent");
  EXPECT_EQ(token.audience, World::kOrdersUri);
  EXPECT_TRUE(token.actors.empty());
  EXPECT_TRUE(token.context.grant.empty());
  EXPECT_FALSE(token.binding.jkt.empty());
  EXPECT_FALSE(read.body.contains("refresh_token"));  // RFC 6749 4.4.3
  EXPECT_EQ(read.body.at("expires_in").as_int64(), 300);
}

TEST_F(TokenServiceTest, T1OwnAuthorityIsEmptyUntilItIsGiven) {
  const Read read = kit.Token(kit.planner, OwnAuthority());
  EXPECT_EQ(read.status, 400);
  EXPECT_EQ(read.error(), "invalid_scope");
}

TEST_F(TokenServiceTest, T1WithoutAnIdentityRecordNothingIsIssued) {
  kit.AddInstance("spiffe://td/agent/stranger/1");
  const Read read = kit.Token("spiffe://td/agent/stranger/1", OwnAuthority());
  EXPECT_EQ(read.error(), "unauthorized_client");
}

TEST_F(TokenServiceTest, T1OwnAuthorityIsNeverASubjectToken) {
  GiveOwnAuthority();
  const std::string own = kit.Token(kit.planner, OwnAuthority()).token();
  const Read narrowed = kit.Exchange(kit.planner, own, {{"resource", World::kOrdersUri}});
  EXPECT_EQ(narrowed.error(), "invalid_request");
  EXPECT_EQ(narrowed.reason(), "own_authority");
  EXPECT_EQ(kit.Exchange(kit.orders, own, {{"resource", World::kOrdersUri}}).status, 400);
}

TEST_F(TokenServiceTest, T1OwnAuthorityHasNoTask) {
  GiveOwnAuthority();
  FormFields fields = OwnAuthority();
  fields["task"] = "task-1";
  EXPECT_EQ(kit.Token(kit.planner, fields).error(), "invalid_request");
}

TEST_F(TokenServiceTest, AnswersAreNotStored) {
  std::promise<TokenAnswer> answer;
  kit.service->Token(kit.RequestOf(kit.planner, OwnAuthority()),
                     [&](TokenAnswer a) { answer.set_value(std::move(a)); });
  const TokenAnswer got = answer.get_future().get();
  EXPECT_NE(std::find(got.headers.begin(), got.headers.end(),
                      std::make_pair(std::string("Cache-Control"), std::string("no-store"))),
            got.headers.end());
}

TEST_F(TokenServiceTest, AStrangerGetsOneTextAndAnIdOfTheRecord) {
  const Read read = kit.Token("spiffe://td/agent/nobody/1", OwnAuthority());
  EXPECT_EQ(read.status, 401);
  EXPECT_EQ(read.error(), "invalid_client");
  EXPECT_FALSE(read.Get("error_id").empty());
}

TEST_F(TokenServiceTest, ErrorIdFindsTheAuditRecord) {
  const Read read = kit.Token(kit.planner, OwnAuthority());
  const auto records = kit.Audit();
  EXPECT_EQ(records.back().at("error_id").as_string(), read.Get("error_id"));
  EXPECT_EQ(records.back().at("outcome").as_string(), "refused");
  EXPECT_EQ(records.back().at("who").at("client").as_string(), kit.planner);
}

TEST_F(TokenServiceTest, UnknownGrantTypeIsRefused) {
  EXPECT_EQ(kit.Token(kit.planner, {{"grant_type", "password"}}).error(), "unsupported_grant_type");
  EXPECT_EQ(kit.Token(kit.planner, {}).error(), "invalid_request");
}

// --- binding ---------------------------------------------------------------------------------------------------------

TEST_F(TokenServiceTest, WithoutAProofNothingIsIssuedForAResourceThatDemandsOne) {
  GiveOwnAuthority();
  const Read read = kit.Send(kit.RequestOf(kit.planner, OwnAuthority(), /*dpop=*/false));
  EXPECT_EQ(read.error(), "invalid_request");
}

TEST_F(TokenServiceTest, CertificateBindingEndsWithThePlannedRotation) {
  GiveOwnAuthority();
  Client client = kit.clients.Get(kit.planner);
  client.planned_rotation = kit.clock.Now() + absl::Seconds(30);
  kit.clients.Add(client);
  FormFields fields = OwnAuthority();
  fields["token_binding"] = "x5t";
  const Read read = kit.Token(kit.planner, fields);
  ASSERT_EQ(read.status, 200) << read.text;
  EXPECT_EQ(read.Get("token_type"), "Bearer");
  EXPECT_EQ(read.body.at("expires_in").as_int64(), 30);
  EXPECT_EQ(kit.Parse(read.token()).binding.x5t_s256, client.x5t_s256);
}

TEST_F(TokenServiceTest, PlainBearerOnlyWhereTheResourceSaysSoAndItIsAudited) {
  GiveOwnAuthority();
  ResourceRecord weak = kit.world.orders_resource;
  weak.minimum_binding = oauth::MinimumBinding::kBearer;
  kit.Put(weak);
  const Read read = kit.Send(kit.RequestOf(kit.planner, OwnAuthority(), /*dpop=*/false));
  ASSERT_EQ(read.status, 200) << read.text;
  EXPECT_TRUE(kit.Parse(read.token()).binding.bearer());
  EXPECT_EQ(kit.Audit().back().at("binding").at("type").as_string(), "bearer");
}

TEST_F(TokenServiceTest, T3AProofIsUsedOnce) {
  GiveOwnAuthority();
  const TokenRequest request = kit.RequestOf(kit.planner, OwnAuthority());
  EXPECT_EQ(kit.Send(request).status, 200);
  EXPECT_EQ(kit.Send(request).error(), "invalid_dpop_proof");
}

TEST_F(TokenServiceTest, T3ARefusedRequestUsesItsProofUpToo) {
  FormFields fields = OwnAuthority();
  const TokenRequest request = kit.RequestOf(kit.planner, fields);
  EXPECT_EQ(kit.Send(request).error(), "invalid_scope");
  GiveOwnAuthority();
  EXPECT_EQ(kit.Send(request).error(), "invalid_dpop_proof");
}

TEST_F(TokenServiceTest, AProofForAnotherPlaceIsRefused) {
  GiveOwnAuthority();
  TokenRequest request = kit.RequestOf(kit.planner, OwnAuthority());
  request.dpop = oauth::MakeDpop(kit.dpop_keys.at(kit.planner), "POST", "https://evil.example/oauth2/token", "", "",
                                 kit.clock.Now())
                     .value();
  EXPECT_EQ(kit.Send(request).error(), "invalid_dpop_proof");
}

TEST_F(TokenServiceTest, AJwtSvidNeedsAProofBesideIt) {
  GiveOwnAuthority();
  Client client = kit.clients.Get(kit.planner);
  client.method = ClientAuthMethod::kJwtSvid;
  kit.clients.Add(client);
  ResourceRecord weak = kit.world.orders_resource;  // where a bearer token would do
  weak.minimum_binding = oauth::MinimumBinding::kBearer;
  kit.Put(weak);
  EXPECT_EQ(kit.Send(kit.RequestOf(kit.planner, OwnAuthority(), false)).error(), "invalid_request");
  EXPECT_EQ(kit.Token(kit.planner, OwnAuthority()).status, 200);
}

TEST_F(TokenServiceTest, AnAssertionsJtiIsUsedOnce) {
  GiveOwnAuthority();
  Client client = kit.clients.Get(kit.planner);
  client.once = {{"jti of the assertion", kit.clock.Now() + absl::Minutes(5)}};
  kit.clients.Add(client);
  FormFields fields = OwnAuthority();
  fields["token_binding"] = "x5t";
  EXPECT_EQ(kit.Token(kit.planner, fields).status, 200);
  const Read again = kit.Token(kit.planner, fields);
  EXPECT_EQ(again.error(), "invalid_client");
  EXPECT_EQ(again.status, 401);
}

// --- exchange --------------------------------------------------------------------------------------------------------

TEST_F(TokenServiceTest, FirstHopNamesUserAndActor) {
  const Read read = kit.Exchange(kit.planner, kit.UserToken(), kit.FirstHop());
  ASSERT_EQ(read.status, 200) << read.text;
  EXPECT_EQ(read.Get("issued_token_type"), ServiceKit::kAccessToken);
  EXPECT_EQ(read.Get("token_type"), "DPoP");
  const oauth::AccessToken token = kit.Parse(read.token());
  EXPECT_EQ(token.subject, oauth::UserSubject(World::kUserIssuer, "u-1"));
  EXPECT_EQ(token.subject_profile, "user");
  ASSERT_EQ(token.actors.size(), 1u);
  EXPECT_EQ(token.actors[0].subject, kit.planner);
  EXPECT_EQ(token.actors[0].issuer, "spiffe://td");
  EXPECT_EQ(token.context.task, "task-1");
  EXPECT_EQ(token.context.session, "s-1");
  EXPECT_EQ(token.context.grant, "g-1");
  EXPECT_EQ(token.context.depth, 1);
  EXPECT_EQ(token.context.receipts, 1);
  EXPECT_EQ(token.receipts.size(), 1u);
}

TEST_F(TokenServiceTest, TheChainGrowsByWhoPresentsAndProvesOffline) {
  const std::string first = kit.FirstToken();
  const Read read = kit.Exchange(kit.worker, first, {{"resource", World::kOrdersUri}, {"scope", "orders:read"}});
  ASSERT_EQ(read.status, 200) << read.text;
  const oauth::AccessToken token = kit.Parse(read.token());
  ASSERT_EQ(token.actors.size(), 2u);
  EXPECT_EQ(token.actors[0].subject, kit.worker);
  EXPECT_EQ(token.actors[1].subject, kit.planner);
  EXPECT_EQ(token.context.depth, 2);
  EXPECT_EQ(token.context.root, kit.Parse(first).jwt_id);
  EXPECT_EQ(token.context.parent, oauth::Hash(kit.Parse(first).jwt_id));
  EXPECT_EQ(token.txn, kit.Parse(first).txn);
  EXPECT_LE(token.expires_at, kit.Parse(first).expires_at);
  const oauth::ChainFinding finding = oauth::VerifyChain(kit.Receipts(token), read.token(), *kit.signer.receipt_keys(),
                                                         *kit.signer.token_keys(), ServiceKit::kIssuer);
  EXPECT_TRUE(finding.proven) << finding.problem;
  EXPECT_EQ(finding.hops.size(), 2u);
}

TEST_F(TokenServiceTest, TheActorNarrowsItsOwnTokenInPlace) {
  const std::string first = kit.FirstToken();
  const Read read = kit.Exchange(kit.planner, first, {{"scope", "work:run"}});
  ASSERT_EQ(read.status, 200) << read.text;
  const oauth::AccessToken token = kit.Parse(read.token());
  EXPECT_EQ(token.actors.size(), 1u);
  EXPECT_EQ(token.context.depth, 1);
  EXPECT_EQ(token.scope, "work:run");
  const oauth::ChainFinding finding = oauth::VerifyChain(kit.Receipts(token), read.token(), *kit.signer.receipt_keys(),
                                                         *kit.signer.token_keys(), ServiceKit::kIssuer);
  EXPECT_TRUE(finding.proven) << finding.problem;
}

TEST_F(TokenServiceTest, PartialGrantTellsTheReducedScope) {
  const Read read =
      kit.Exchange(kit.planner, kit.UserToken(), {{"resource", World::kWorkerUri}, {"scope", "work:run work:unknown"}});
  ASSERT_EQ(read.status, 200) << read.text;
  EXPECT_EQ(read.Get("scope"), "work:run");
}

TEST_F(TokenServiceTest, ToolsAreAskedByAuthorizationDetails) {
  FormFields fields{{"resource", World::kOrdersUri}};
  fields["authorization_details"] =
      R"([{"type":"mcp_tool_call","locations":["https://orders.example/mcp"],"tools":["query"],)"
      R"("constraints":{"customer":{"in":["c-17"]}},"max_calls":7}])";
  const Read read = kit.Exchange(kit.planner, kit.UserToken(), fields);
  ASSERT_EQ(read.status, 200) << read.text;
  const oauth::AccessToken token = kit.Parse(read.token());
  ASSERT_EQ(token.atoms.size(), 1u);
  EXPECT_EQ(token.atoms[0].action, "query");
  EXPECT_EQ(token.context.calls, 7);
  EXPECT_EQ(read.body.at("authorization_details").as_array().size(), 1u);
}

TEST_F(TokenServiceTest, RequestsThatAreNoExchangeAreRefused) {
  const std::string user = kit.UserToken();
  EXPECT_EQ(kit.Exchange(kit.planner, "", kit.FirstHop()).error(), "invalid_request");
  FormFields wrong_type = kit.FirstHop();
  wrong_type["subject_token_type"] = "urn:ietf:params:oauth:token-type:id_token";
  EXPECT_EQ(kit.Exchange(kit.planner, user, wrong_type).error(), "invalid_request");
  FormFields refresh = kit.FirstHop();
  refresh["requested_token_type"] = "urn:ietf:params:oauth:token-type:refresh_token";
  EXPECT_EQ(kit.Exchange(kit.planner, user, refresh).error(), "invalid_request");
  FormFields half = kit.FirstHop();
  half["actor_token"] = user;
  EXPECT_EQ(kit.Exchange(kit.planner, user, half).error(), "invalid_request");
  EXPECT_EQ(kit.Exchange(kit.planner, "not.a.token", kit.FirstHop()).error(), "invalid_request");
}

TEST_F(TokenServiceTest, ReasonsAreForTheOwnTrustDomainOnly) {
  Client client = kit.clients.Get(kit.planner);
  FormFields fields{{"resource", World::kOtherUri}, {"scope", "x"}};
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), fields).reason(), "consent_boundary");
  client.own_trust_domain = false;
  kit.clients.Add(client);
  EXPECT_EQ(kit.Exchange(kit.planner, kit.UserToken(), fields).reason(), "");
}

}  // namespace
}  // namespace signet::server
