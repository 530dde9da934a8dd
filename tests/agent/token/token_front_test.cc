// token.sock as workloads see it, its HTTP apart. T6 names the rules of the front; D2_n the items of the list of tests
// that must exist.
#include "agent/token/token_front.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <future>

#include "absl/strings/str_cat.h"
#include "common/jose/jwk.h"
#include "common/net/form.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/agent/token/token_kit.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_peer.h"

namespace signet::agent {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr char kEndpoint[] = "https://id.example.org/oauth2/token";

// Answers what the test lays ready, or 200; keeps what it was asked.
class FakeUpstream final : public Upstream {
 public:
  void Post(Request request, Done done) override {
    {
      MutexLock lock(mutex_);
      asked_.push_back(std::move(request));
    }
    if (before_answer) before_answer();
    absl::StatusOr<Answer> answer = Answer{200, "application/json", R"({"access_token":"t"})", {}};
    if (!answers.empty()) {
      answer = std::move(answers.front());
      answers.pop_front();
    }
    done(std::move(answer));
  }
  void CloseIdle() override {}
  void Stop() override {}
  std::vector<Request> asked() const {
    MutexLock lock(mutex_);
    return asked_;
  }
  std::deque<absl::StatusOr<Answer>> answers;
  std::function<void()> before_answer;

 private:
  mutable Mutex mutex_;
  std::vector<Request> asked_;
};

class TokenFrontTest : public ::testing::Test {
 protected:
  TokenFrontTest() {
    attestors_.push_back(std::make_unique<fakes::FakeWorkloadAttestor>());
    attestation_ = Attestation::Create({}, std::move(attestors_), clock_, metrics_);
    MemorySvidCache::Change change;
    change.bundles = {authority_.bundle()};
    cache_.Apply(std::move(change));
    cache_.SetReady(clock_.Now());
    Register("agent/orders/7");
    pushed_.Opened();
    pushed_.Apply(WholeState(maker_));
    callers_ = std::make_unique<TokenCallers>(cache_, *attestation_, clock_, TokenCallers::Options{});
    front_ = std::make_unique<TokenFront>(
        TokenFrontDeps{*callers_, keys_, upstream_, pushed_, introspection_, clock_, metrics_, ""});
  }
  ~TokenFrontTest() override { callers_->Stop(); }

  void Register(const std::string& path, const std::string& executable = "/bin/app", bool minted = true) {
    spiffe::Entry entry = EntryOf(path, {absl::StrCat("exe:", executable)});
    MemorySvidCache::Change change;
    change.upserts = {entry};
    cache_.Apply(std::move(change));
    if (minted) Mint(path);
  }
  HeldSvid Mint(const std::string& path) {
    HeldSvid held = authority_.Mint(cache_.FindEntry(path), {clock_.Now(), clock_.Steady()});
    cache_.SetSvids({held});
    return held;
  }

  std::future<net::WebResponse> Start(const std::string& path, const net::Form& form,
                                      std::vector<std::pair<std::string, std::string>> headers = {},
                                      const std::string& method = "POST") {
    net::WebRequest request;
    request.method = method;
    request.path = path;
    request.headers = std::move(headers);
    request.headers.emplace_back("content-type", "application/x-www-form-urlencoded");
    request.body = net::FormatForm(form);
    request.unix_peer = connection_;
    auto promise = std::make_shared<std::promise<net::WebResponse>>();
    auto future = promise->get_future();
    front_->Handle(std::move(request), [promise](net::WebResponse answer) { promise->set_value(std::move(answer)); });
    return future;
  }
  net::WebResponse Ask(const std::string& path, const net::Form& form,
                       std::vector<std::pair<std::string, std::string>> headers = {},
                       const std::string& method = "POST") {
    return Start(path, form, std::move(headers), method).get();
  }
  net::WebResponse Token(net::Form more = {}, std::vector<std::pair<std::string, std::string>> headers = {}) {
    net::Form form = {{"grant_type", "client_credentials"}};
    form.insert(form.end(), more.begin(), more.end());
    return Ask("/oauth2/token", form, std::move(headers));
  }
  std::string JktOf(const std::string& proof) {
    const auto judged = oauth::VerifyDpop(proof, "POST", kEndpoint, "", clock_.Now());
    EXPECT_TRUE(judged.ok()) << judged.status();
    return judged.ok() ? judged->jkt : "";
  }

  fakes::FakeClock clock_;
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  TestAuthority authority_{clock_.Now()};
  MemorySvidCache cache_{Td(), clock_, metrics_, {}};
  std::vector<std::unique_ptr<WorkloadAttestor>> attestors_;
  std::unique_ptr<Attestation> attestation_;
  std::shared_ptr<fakes::FakePeerProcess> process_ = std::make_shared<fakes::FakePeerProcess>();
  std::shared_ptr<const Workload> connection_ = std::make_shared<const Workload>(rpc::UnixConnection{}, process_);
  TokenMaker maker_;
  PushedTokens pushed_{clock_};
  Introspection introspection_{pushed_, clock_, metrics_, {}};
  InstanceKeys keys_{clock_, {}};
  FakeUpstream upstream_;
  std::unique_ptr<TokenCallers> callers_;
  std::unique_ptr<TokenFront> front_;
};

MATCHER_P2(Refused, status, error, "") {
  *result_listener << arg.status << " " << arg.body;
  return arg.status == status && arg.body.find(absl::StrCat(R"("error":")", error, R"(")")) != std::string::npos;
}

TEST_F(TokenFrontTest, T6PassesTheFormOnAsTheWorkloadItself) {
  const net::WebResponse answer =
      Token({{"resource", kOrders}, {"resource", "https://b.example.org/"}, {"scope", "a b&c=d"}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, R"({"access_token":"t"})");
  EXPECT_THAT(answer.headers, Contains(Pair("Cache-Control", "no-store")));
  ASSERT_THAT(upstream_.asked(), SizeIs(1));
  const Upstream::Request asked = upstream_.asked()[0];
  EXPECT_EQ(asked.url, kEndpoint);
  EXPECT_EQ(asked.entry_id, "agent/orders/7");
  EXPECT_EQ(asked.svid->id.string(), "spiffe://example.org/agent/orders/7");
  EXPECT_EQ(*net::ParseForm(asked.form), (net::Form{{"grant_type", "client_credentials"},
                                                    {"resource", kOrders},
                                                    {"resource", "https://b.example.org/"},
                                                    {"scope", "a b&c=d"},
                                                    {"client_id", "spiffe://example.org/agent/orders/7"}}));
  EXPECT_FALSE(JktOf(asked.dpop).empty());
}

TEST_F(TokenFrontTest, T6AttestsThePeerForEachRequest) {
  EXPECT_EQ(Token().status, 200);
  process_->Exec("/bin/other");
  EXPECT_THAT(Token(), Refused(403, "access_denied"));
  EXPECT_THAT(upstream_.asked(), SizeIs(1));
}

TEST_F(TokenFrontTest, T6RefusesAProcessWithoutAnIdentity) {
  MemorySvidCache::Change change;
  change.removed_ids = {"agent/orders/7"};
  cache_.Apply(std::move(change));
  for (const char* path : {"/oauth2/token", "/oauth2/dpop", "/oauth2/introspect"}) {
    EXPECT_THAT(Ask(path, {{"client_id", "spiffe://example.org/agent/orders/7"}, {"token", "x"}}),
                ::testing::AnyOf(Refused(403, "access_denied"), Refused(401, "invalid_client")));
    EXPECT_THAT(Ask(path, {{"token", "x"}}), Refused(403, "access_denied"));
  }
  EXPECT_THAT(upstream_.asked(), IsEmpty());
}

TEST_F(TokenFrontTest, T6AnEntryThatWasWithdrawnIsRefusedAtOnceThoughItsSvidIsHeld) {
  EXPECT_EQ(Token().status, 200);
  MemorySvidCache::Change change;
  change.removed_ids = {"agent/orders/7"};
  cache_.Apply(std::move(change));
  EXPECT_THAT(Token(), Refused(403, "access_denied"));
}

TEST_F(TokenFrontTest, T6SeveralIdentitiesNeedClientId) {
  Register("agent/planner/1");
  Register("agent/foreign/1", "/bin/other");
  EXPECT_THAT(Token(), Refused(400, "invalid_request"));
  EXPECT_THAT(Token({{"client_id", "spiffe://example.org/agent/foreign/1"}}), Refused(401, "invalid_client"));
  EXPECT_THAT(Token({{"client_id", "spiffe://example.org/agent/planner"}}), Refused(401, "invalid_client"));
  EXPECT_THAT(upstream_.asked(), IsEmpty());
  EXPECT_EQ(Token({{"client_id", "spiffe://example.org/agent/planner/1"}}).status, 200);
  EXPECT_EQ(upstream_.asked().back().svid->id.string(), "spiffe://example.org/agent/planner/1");
}

TEST_F(TokenFrontTest, T6RefusesCredentialsAndWhatAProxyWouldSay) {
  for (const char* header : {"authorization", "forwarded", "client-cert", "client-cert-chain", "x-forwarded-for",
                             "x-forwarded-client-cert", "proxy-authorization"}) {
    EXPECT_THAT(Token({}, {{header, "x"}}), Refused(400, "invalid_request")) << header;
  }
  for (const char* field : {"client_assertion", "client_assertion_type", "client_secret"}) {
    EXPECT_THAT(Token({{field, "x"}}), Refused(400, "invalid_request")) << field;
  }
  EXPECT_THAT(upstream_.asked(), IsEmpty());
}

TEST_F(TokenFrontTest, T6ReadsTheFormStrictly) {
  EXPECT_THAT(Token({{"grant_type", "refresh_token"}}), Refused(400, "invalid_request"));
  EXPECT_THAT(Token({{"client_id", "a"}, {"client_id", "b"}}), Refused(400, "invalid_request"));
  EXPECT_THAT(Token({{"scope", "a"}}, {{"content-type", "application/json"}}), Refused(400, "invalid_request"));
  EXPECT_THAT(upstream_.asked(), IsEmpty());
}

TEST_F(TokenFrontTest, D2_8TheKeyOutlivesTheSvidThatRotates) {
  EXPECT_EQ(Token().status, 200);
  const HeldSvid next = Mint("agent/orders/7");
  for (int i = 0; i < 2000 && upstream_.asked().back().svid != next.svid; ++i) {
    clock_.Advance(absl::Milliseconds(10));
    ASSERT_EQ(Token().status, 200);
  }
  const std::vector<Upstream::Request> asked = upstream_.asked();
  EXPECT_EQ(asked.back().svid, next.svid);
  EXPECT_NE(asked.back().svid, asked.front().svid);
  EXPECT_EQ(JktOf(asked.back().dpop), JktOf(asked.front().dpop));
}

TEST_F(TokenFrontTest, EachEntryHasAKeyOfItsOwn) {
  Register("agent/planner/1");
  EXPECT_EQ(Token({{"client_id", "spiffe://example.org/agent/orders/7"}}).status, 200);
  EXPECT_EQ(Token({{"client_id", "spiffe://example.org/agent/planner/1"}}).status, 200);
  const std::vector<Upstream::Request> asked = upstream_.asked();
  EXPECT_NE(JktOf(asked[0].dpop), JktOf(asked[1].dpop));
}

TEST_F(TokenFrontTest, ATokenForTheCertificateIsAskedForWithoutAProof) {
  EXPECT_EQ(Token({{"token_binding", "x5t"}}).status, 200);
  EXPECT_THAT(upstream_.asked().back().dpop, IsEmpty());
  EXPECT_THAT(upstream_.asked().back().form, HasSubstr("token_binding=x5t"));
  EXPECT_THAT(Token({{"token_binding", "none"}}), Refused(400, "invalid_request"));
}

TEST_F(TokenFrontTest, T6AWorkloadsOwnProofPassesOnlyForTheTokenEndpoint) {
  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  const auto proof = [&](const std::string& method, const std::string& uri) {
    return oauth::MakeDpop(key, method, uri, "", "", clock_.Now()).value();
  };
  const std::string good = proof("POST", kEndpoint);
  EXPECT_EQ(Token({}, {{"dpop", good}}).status, 200);
  EXPECT_EQ(upstream_.asked().back().dpop, good);
  for (const std::string& bad : {proof("GET", kEndpoint), proof("POST", kOrders),
                                 proof("POST", "http://localhost/oauth2/token"), std::string("x")}) {
    EXPECT_THAT(Token({}, {{"dpop", bad}}), Refused(400, "invalid_dpop_proof"));
  }
  EXPECT_THAT(Token({}, {{"dpop", good}, {"dpop", good}}), Refused(400, "invalid_dpop_proof"));
  EXPECT_THAT(upstream_.asked(), SizeIs(1));
}

TEST_F(TokenFrontTest, AnswersTheServersNonceOnce) {
  const Upstream::Answer wants{400, "application/json", R"({"error":"use_dpop_nonce"})", {{"dpop-nonce", "n1"}}};
  upstream_.answers = {wants};
  EXPECT_EQ(Token().status, 200);
  ASSERT_THAT(upstream_.asked(), SizeIs(2));
  EXPECT_EQ(oauth::VerifyDpop(upstream_.asked()[1].dpop, "POST", kEndpoint, "", clock_.Now())->nonce, "n1");
  upstream_.answers = {wants, wants};
  EXPECT_THAT(Token(), Refused(400, "use_dpop_nonce"));
}

TEST_F(TokenFrontTest, PassesTheServersRefusalOn) {
  upstream_.answers = {Upstream::Answer{400, "application/json", R"({"error":"invalid_scope"})", {}}};
  EXPECT_THAT(Token(), Refused(400, "invalid_scope"));
}

TEST_F(TokenFrontTest, WhatIsNoJsonIsNoAnswerOfATokenService) {
  upstream_.answers = {Upstream::Answer{200, "text/html", "<html>access_token</html>", {}}};
  const net::WebResponse answer = Token();
  EXPECT_THAT(answer, Refused(503, "temporarily_unavailable"));
  EXPECT_THAT(answer.body, Not(HasSubstr("html")));
}

TEST_F(TokenFrontTest, SaysThatTheServerIsAwayWithoutSayingMore) {
  upstream_.answers = {absl::UnavailableError("https://id.example.org: connection refused")};
  net::WebResponse answer = Token();
  EXPECT_THAT(answer, Refused(503, "temporarily_unavailable"));
  EXPECT_THAT(answer.body, Not(HasSubstr("refused")));
  EXPECT_THAT(answer.headers, Contains(Pair("Retry-After", "1")));
}

TEST_F(TokenFrontTest, T6NothingLeavesWhenTheProcessIsGoneMeanwhile) {
  upstream_.before_answer = [this] { process_->Exit(); };
  const net::WebResponse answer = Token();
  EXPECT_THAT(answer, Refused(403, "access_denied"));
  EXPECT_THAT(answer.body, Not(HasSubstr("access_token")));
}

TEST_F(TokenFrontTest, WaitsForAnSvidThatIsNotMintedAndNotForever) {
  MemorySvidCache::Change change;
  change.removed_ids = {"agent/orders/7"};
  cache_.Apply(std::move(change));
  Register("agent/late/1", "/bin/app", false);
  auto first = Start("/oauth2/token", {{"grant_type", "client_credentials"}});
  Mint("agent/late/1");
  while (first.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
    clock_.Advance(absl::Milliseconds(1));
  }
  EXPECT_EQ(first.get().status, 200);

  change.removed_ids = {"agent/late/1"};
  cache_.Apply(change);
  Register("agent/never/1", "/bin/app", false);
  auto second = Start("/oauth2/token", {{"grant_type", "client_credentials"}});
  while (second.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) clock_.Advance(absl::Seconds(1));
  EXPECT_THAT(second.get(), Refused(503, "temporarily_unavailable"));
}

TEST_F(TokenFrontTest, MakesAProofForACallOfAResource) {
  EXPECT_EQ(Token().status, 200);
  oauth::AccessToken claims = maker_.Claims(clock_.Now());
  claims.binding = {.jkt = JktOf(upstream_.asked()[0].dpop)};
  const std::string token = maker_.Sign(claims);
  const net::WebResponse answer =
      Ask("/oauth2/dpop", {{"htm", "POST"}, {"htu", "https://mcp.example.org/orders/call"}, {"access_token", token}});
  ASSERT_EQ(answer.status, 200) << answer.body;
  const std::string proof = answer.body.substr(9, answer.body.size() - 11);
  const auto judged = oauth::VerifyDpop(proof, "POST", "https://mcp.example.org/orders/call", token, clock_.Now());
  ASSERT_TRUE(judged.ok()) << judged.status() << answer.body;
  EXPECT_EQ(judged->jkt, claims.binding.jkt);

  claims.binding = {.jkt = "another"};
  EXPECT_THAT(Ask("/oauth2/dpop", {{"htm", "GET"}, {"htu", kOrders}, {"access_token", maker_.Sign(claims)}}),
              Refused(400, "invalid_request"));
  EXPECT_THAT(Ask("/oauth2/dpop", {{"htm", "GET"}, {"htu", kOrders}}), Refused(400, "invalid_request"));
  EXPECT_THAT(Ask("/oauth2/dpop", {{"htm", "GET"}, {"htu", kOrders}, {"access_token", "x.y.z"}}),
              Refused(400, "invalid_request"));
}

TEST_F(TokenFrontTest, T6NoProofIsMadeThatTheTokenEndpointWouldTake) {
  EXPECT_EQ(Token().status, 200);
  oauth::AccessToken claims = maker_.Claims(clock_.Now());
  claims.binding = {.jkt = JktOf(upstream_.asked()[0].dpop)};
  const std::string token = maker_.Sign(claims);
  for (const char* uri : {kEndpoint, "HTTPS://ID.example.org/oauth2/token", "https://id.example.org:443/oauth2/token",
                          "https://id.example.org/oauth2/%74oken", "https://id.example.org/x/../oauth2/token",
                          "https://id.example.org//oauth2/token", "https://id.example.org/OAuth2/token",
                          "https://id.example.org/oauth2/introspect", "https://id.example.org/oauth2/token?x=1",
                          "https://id.example.org/oauth2/token#x", "id.example.org/oauth2/token", ""}) {
    EXPECT_THAT(Ask("/oauth2/dpop", {{"htm", "POST"}, {"htu", uri}, {"access_token", token}}),
                Refused(400, "invalid_request"))
        << uri;
  }
}

TEST_F(TokenFrontTest, T4IntrospectsFromPushedStateElseAsksTheServerElseSaysNo) {
  Register("agent/tools/1", "/bin/tools");
  process_->Exec("/bin/tools");
  const oauth::AccessToken claims = maker_.Claims(clock_.Now());
  const net::Form form = {{"token", maker_.Sign(claims)}, {"peer_x5t#S256", "peer"}};
  net::WebResponse answer = Ask("/oauth2/introspect", form);
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr(R"("active":true)"));
  EXPECT_THAT(upstream_.asked(), IsEmpty());

  clock_.Advance(absl::Seconds(2));  // no heartbeat
  upstream_.answers = {Upstream::Answer{200, "application/json", R"({"active":true,"sub":"s"})", {}}};
  answer = Ask("/oauth2/introspect", form);
  EXPECT_EQ(answer.body, R"({"active":true,"sub":"s"})");
  ASSERT_THAT(upstream_.asked(), SizeIs(1));
  EXPECT_EQ(upstream_.asked()[0].url, "https://id.example.org/oauth2/introspect");
  EXPECT_EQ(upstream_.asked()[0].svid->id.string(), kServer);
  EXPECT_THAT(upstream_.asked()[0].form, HasSubstr("peer_x5t%23S256=peer"));

  upstream_.answers = {absl::UnavailableError("away"), Upstream::Answer{500, "", "", {}}};
  EXPECT_EQ(Ask("/oauth2/introspect", form).body, R"({"active":false})");
  EXPECT_EQ(Ask("/oauth2/introspect", form).body, R"({"active":false})");
  EXPECT_THAT(Ask("/oauth2/introspect", {{"x", "y"}}), Refused(400, "invalid_request"));
}

TEST_F(TokenFrontTest, T4AProcessThatServesNothingLearnsNothing) {
  const oauth::AccessToken claims = maker_.Claims(clock_.Now());
  const net::WebResponse answer =
      Ask("/oauth2/introspect", {{"token", maker_.Sign(claims)}, {"peer_x5t#S256", "peer"}});
  EXPECT_EQ(answer.body, R"({"active":false})");
}

TEST_F(TokenFrontTest, TellsTheServerThatItIsAsked) {
  EXPECT_FALSE(pushed_.wanted());
  EXPECT_EQ(Ask("/livez", {}, {}, "GET").status, 200);
  Token();
  EXPECT_FALSE(pushed_.wanted()) << "a token takes no state";
  Ask("/oauth2/introspect", {{"token", "x"}});
  EXPECT_TRUE(pushed_.wanted());
}

TEST_F(TokenFrontTest, KnowsItsPathsAndMethods) {
  EXPECT_EQ(Ask("/livez", {}).status, 405);
  EXPECT_EQ(Ask("/oauth2/token", {}, {}, "GET").status, 405);
  EXPECT_EQ(Ask("/oauth2/authorize", {}).status, 404);
}

TEST_F(TokenFrontTest, WithoutAPeerThatWasPinnedNobodyIsServed) {
  connection_ = nullptr;
  for (const char* path : {"/oauth2/token", "/oauth2/dpop", "/oauth2/introspect"}) {
    EXPECT_THAT(Ask(path, {{"token", "x"}}), Refused(403, "access_denied"));
  }
}

TEST_F(TokenFrontTest, UntilTheServerHasToldWhereItIsThereIsNoToken) {
  PushedTokens nothing{clock_};
  front_ = std::make_unique<TokenFront>(
      TokenFrontDeps{*callers_, keys_, upstream_, nothing, introspection_, clock_, metrics_, ""});
  EXPECT_THAT(Token(), Refused(503, "temporarily_unavailable"));
  EXPECT_THAT(upstream_.asked(), IsEmpty());
  front_ = std::make_unique<TokenFront>(
      TokenFrontDeps{*callers_, keys_, upstream_, nothing, introspection_, clock_, metrics_, "https://10.0.0.1:8444/"});
  EXPECT_EQ(Token().status, 200);
  EXPECT_EQ(upstream_.asked()[0].url, "https://10.0.0.1:8444/oauth2/token");
}

}  // namespace
}  // namespace signet::agent
