#include "server/token/endpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "absl/strings/str_cat.h"
#include "common/jose/jws.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

class FakeService final : public TokenService {
 public:
  void Token(TokenRequest request, AnswerDone done) override { Answer("token", request, std::move(done)); }
  void Introspect(TokenRequest request, AnswerDone done) override { Answer("introspect", request, std::move(done)); }
  void Revoke(TokenRequest request, AnswerDone done) override { Answer("revoke", request, std::move(done)); }
  void Explain(token::v1::ExplainRequest,
               absl::AnyInvocable<void(absl::StatusOr<token::v1::ExplainResponse>)> done) override {
    done(absl::UnimplementedError(""));
  }

 private:
  static void Answer(const char* what, const TokenRequest& request, AnswerDone done) {
    done({200, absl::StrCat(what, " ", request.Get("token")), {{"Cache-Control", "no-store"}}});
  }
};

class FakeSigner final : public TokenSigner {
 public:
  FakeSigner() {
    const auto key = [] { return crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value().public_key(); };
    tokens_ = std::make_shared<const oauth::Keys>(oauth::Keys{{"token-kid", key()}});
    receipts_ = std::make_shared<const oauth::Keys>(oauth::Keys{{"receipt-kid", key()}, {"retired-kid", key()}});
  }
  absl::StatusOr<std::string> SignToken(const oauth::AccessToken&) override { return "t"; }
  absl::StatusOr<std::string> SignReceipt(const oauth::Receipt&) override { return "r"; }
  absl::StatusOr<std::string> SignRecord(absl::string_view, absl::string_view) override { return "s"; }
  std::shared_ptr<const oauth::Keys> token_keys() const override { return tokens_; }
  std::shared_ptr<const oauth::Keys> receipt_keys() const override { return receipts_; }
  std::string active_kid() const override { return "token-kid"; }
  absl::Time active_not_after() const override { return absl::InfiniteFuture(); }

 private:
  std::shared_ptr<const oauth::Keys> tokens_, receipts_;
};

class FakeAudit final : public AuditLog {
 public:
  void Append(boost::json::object, Consume, StatusCompletion done) override { done(absl::OkStatus()); }
  std::string CountRefusal(const std::string& reason, const std::string&) override {
    return absl::StrCat("e-", reason);
  }
  std::string head() const override { return ""; }
  void SetOnHead(OnHead) override {}
  Verification Verify(const std::string&, const std::string&) override { return {}; }
};

class EndpointsTest : public ::testing::Test {
 protected:
  net::WebHandler Make(const std::string& issuer) {
    return MakeTokenEndpoints({.issuer = issuer,
                               .jwt_issuer = absl::StrCat(issuer, "/spiffe"),
                               .service = service_,
                               .signer = signer_,
                               .audit = audit_,
                               .jwt_svid_keys = [] { return std::string(R"({"keys":[{"kid":"svid-kid"}]})"); },
                               .administration =
                                   [](net::WebRequest request, net::Respond respond) {
                                     net::WebResponse response;
                                     response.body = absl::StrCat("admin ", request.method, " ", request.path);
                                     respond(std::move(response));
                                   }});
  }
  net::WebResponse Ask(const std::string& method, const std::string& path, const std::string& body = "") {
    net::WebRequest request;
    request.method = method;
    request.path = path;
    request.body = body;
    request.headers = {{"content-type", "application/x-www-form-urlencoded"}};
    request.peer = "127.0.0.1:1";
    net::WebResponse answer;
    answer.status = 0;
    handler_(std::move(request), [&](net::WebResponse response) { answer = std::move(response); });
    return answer;
  }
  boost::json::object Json(const std::string& path) {
    const net::WebResponse answer = Ask("GET", path);
    EXPECT_EQ(answer.status, 200) << path;
    EXPECT_EQ(answer.content_type, "application/json");
    return boost::json::parse(answer.body).as_object();
  }

  FakeService service_;
  FakeSigner signer_;
  FakeAudit audit_;
  net::WebHandler handler_ = Make("https://id.example.org");
};

TEST_F(EndpointsTest, MetadataSaysWhatIsThereAndNothingElse) {  // RFC 8414
  const boost::json::object json = Json("/.well-known/oauth-authorization-server");
  EXPECT_EQ(json.at("issuer"), "https://id.example.org");
  EXPECT_EQ(json.at("token_endpoint"), "https://id.example.org/oauth2/token");
  EXPECT_EQ(json.at("jwks_uri"), "https://id.example.org/jwks");
  EXPECT_EQ(json.at("introspection_endpoint"), "https://id.example.org/oauth2/introspect");
  EXPECT_EQ(json.at("revocation_endpoint"), "https://id.example.org/oauth2/revoke");
  EXPECT_EQ(json.at("mtls_endpoint_aliases").at("token_endpoint"), "https://id.example.org/oauth2/token");
  EXPECT_EQ(json.at("tls_client_certificate_bound_access_tokens"), true);
  const std::string text = boost::json::serialize(json);
  EXPECT_THAT(text, AllOf(HasSubstr("spiffe_x509"), HasSubstr("private_key_jwt"), HasSubstr("mcp_tool_call"),
                          Not(HasSubstr("client_secret")), Not(HasSubstr("authorization_endpoint"))));
  EXPECT_THAT(Ask("GET", "/.well-known/oauth-authorization-server").headers,
              Contains(Pair("Cache-Control", HasSubstr("max-age"))));
}

TEST_F(EndpointsTest, T5EachKindOfKeyStandsInItsOwnSet) {
  const std::string tokens = Ask("GET", "/jwks").body, receipts = Ask("GET", "/receipt-jwks").body,
                    svids = Ask("GET", "/spiffe/jwks").body;
  EXPECT_THAT(tokens, AllOf(HasSubstr("token-kid"), Not(HasSubstr("receipt-kid")), Not(HasSubstr("svid-kid"))));
  EXPECT_THAT(receipts, AllOf(HasSubstr("receipt-kid"), HasSubstr("retired-kid"), Not(HasSubstr("token-kid"))));
  EXPECT_THAT(svids, AllOf(HasSubstr("svid-kid"), Not(HasSubstr("token-kid"))));
  const boost::json::object spiffe = Json("/spiffe/.well-known/openid-configuration");
  EXPECT_EQ(spiffe.at("issuer"), "https://id.example.org/spiffe");
  EXPECT_EQ(spiffe.at("jwks_uri"), "https://id.example.org/spiffe/jwks");
}

TEST_F(EndpointsTest, HandsRequestsOn) {
  EXPECT_EQ(Ask("POST", "/oauth2/token", "token=x").body, "token x");
  EXPECT_EQ(Ask("POST", "/oauth2/introspect", "token=y").body, "introspect y");
  EXPECT_EQ(Ask("POST", "/oauth2/revoke", "token=z").body, "revoke z");
  EXPECT_EQ(Ask("DELETE", "/v1/issuers/x").body, "admin DELETE /v1/issuers/x");
}

TEST_F(EndpointsTest, ARequestThatCannotBeReadIsCountedInTheAudit) {
  const net::WebResponse answer = Ask("POST", "/oauth2/token", "a=1&a=2");
  EXPECT_EQ(answer.status, 400);
  EXPECT_THAT(answer.body,
              AllOf(HasSubstr("\"error\":\"invalid_request\""), HasSubstr("\"error_id\":\"e-malformed\"")));
  EXPECT_THAT(answer.headers, Contains(Pair("Cache-Control", "no-store")));
  EXPECT_EQ(Ask("POST", "/oauth2/token", "client_secret=s").status, 401);
}

TEST_F(EndpointsTest, KnowsItsPathsAndTheirMethods) {
  for (const char* path : {"/", "/oauth2/authorize", "/jwks/", "/JWKS", "/v1", "/oauth2/token/", "//jwks", "/spiffe"}) {
    EXPECT_EQ(Ask("GET", path).status, 404) << path;
  }
  const net::WebResponse get = Ask("GET", "/oauth2/token");
  EXPECT_EQ(get.status, 405);
  EXPECT_THAT(get.headers, Contains(Pair("Allow", "POST")));
  const net::WebResponse post = Ask("POST", "/jwks");
  EXPECT_EQ(post.status, 405);
  EXPECT_THAT(post.headers, Contains(Pair("Allow", "GET, HEAD")));
  EXPECT_EQ(Ask("HEAD", "/jwks").status, 200);
}

TEST_F(EndpointsTest, AnIssuerWithAPathHasAllBelowIt) {  // RFC 8414 3.1
  handler_ = Make("https://id.example.org/agents");
  for (const char* path :
       {"/.well-known/oauth-authorization-server/agents", "/agents/.well-known/oauth-authorization-server"}) {
    EXPECT_EQ(Json(path).at("token_endpoint"), "https://id.example.org/agents/oauth2/token");
  }
  EXPECT_EQ(Ask("GET", "/jwks").status, 404);
  EXPECT_EQ(Ask("GET", "/agents/jwks").status, 200);
  EXPECT_EQ(Ask("POST", "/agents/oauth2/token", "token=x").body, "token x");
  EXPECT_EQ(Ask("GET", "/agents/v1/tasks").body, "admin GET /v1/tasks");
}

}  // namespace
}  // namespace signet::server
