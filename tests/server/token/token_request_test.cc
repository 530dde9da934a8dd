#include "server/token/token_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

net::WebRequest Form(std::string body) {
  net::WebRequest request;
  request.method = "POST";
  request.path = "/oauth2/token";
  request.headers = {{"content-type", "application/x-www-form-urlencoded"}};
  request.body = std::move(body);
  request.peer = "127.0.0.1:5";
  return request;
}
// The error code; empty: read.
std::string ErrorOf(net::WebRequest request) {
  TokenRequest out;
  const auto error = TokenRequest::Parse(std::move(request), out);
  if (!error.has_value()) return "";
  EXPECT_EQ(error->status, error->error == "invalid_client" ? 401 : 400);
  EXPECT_FALSE(error->description.empty());
  return error->error;
}

TEST(TokenRequestTest, ReadsAForm) {
  TokenRequest out;
  net::WebRequest request = Form(
      "grant_type=client_credentials&client_id=spiffe%3A%2F%2Ftd%2Fa&scope=a+b&resource=https://r1&resource=https://r2"
      "&audience=x&empty=&client_assertion=j.w.t&client_assertion_type=t");
  request.headers.emplace_back("dpop", "proof");
  request.headers[0].second = "application/x-www-form-urlencoded;charset=UTF-8";
  ASSERT_FALSE(TokenRequest::Parse(std::move(request), out).has_value());
  EXPECT_EQ(out.Get("grant_type"), "client_credentials");
  EXPECT_EQ(out.Get("client_id"), "spiffe://td/a");
  EXPECT_EQ(out.Get("scope"), "a b");
  EXPECT_THAT(out.resources, ElementsAre("https://r1", "https://r2"));
  EXPECT_THAT(out.audiences, ElementsAre("x"));
  EXPECT_EQ(out.form.count("empty"), 0u);  // RFC 6749 3.1
  EXPECT_EQ(out.Get("absent"), "");
  EXPECT_EQ(out.client_assertion, "j.w.t");
  EXPECT_EQ(out.client_assertion_type, "t");
  EXPECT_EQ(out.form.count("client_assertion"), 0u);  // never beside what is logged
  EXPECT_EQ(out.dpop, "proof");
  EXPECT_EQ(out.peer, "127.0.0.1:5");
}

TEST(TokenRequestTest, RefusesWhatIsNotOneForm) {
  net::WebRequest json = Form("grant_type=x");
  json.headers = {{"content-type", "application/json"}};
  EXPECT_EQ(ErrorOf(json), "invalid_request");
  json.headers.clear();
  EXPECT_EQ(ErrorOf(json), "invalid_request");
  json.headers = {{"content-type", "application/x-www-form-urlencoded"}, {"content-type", "text/plain"}};
  EXPECT_EQ(ErrorOf(json), "invalid_request");
  net::WebRequest query = Form("grant_type=x");
  query.query = "client_id=a";
  EXPECT_EQ(ErrorOf(query), "invalid_request");
  for (const char* body : {"a", "=b", "a=%", "a=%zz", "a=%ff", "a=%00", "a=\x01", "a=b&&c=d"}) {
    EXPECT_EQ(ErrorOf(Form(body)), "invalid_request") << body;
  }
}

TEST(TokenRequestTest, RefusesRepeatedParameters) {
  EXPECT_EQ(ErrorOf(Form("grant_type=a&grant_type=a")), "invalid_request");
  EXPECT_EQ(ErrorOf(Form("scope=a&x=1&scope=b")), "invalid_request");
  EXPECT_EQ(ErrorOf(Form("client_assertion=a&client_assertion=b&client_assertion_type=t")), "invalid_request");
  EXPECT_EQ(ErrorOf(Form("sc%6fpe=a&scope=b")), "invalid_request");  // the same name, written otherwise
  std::string resources = "resource=a";
  for (int i = 0; i < 16; ++i) absl::StrAppend(&resources, "&resource=a");
  EXPECT_EQ(ErrorOf(Form(resources)), "invalid_request");
  net::WebRequest proofs = Form("grant_type=a");
  proofs.headers.emplace_back("dpop", "a");
  proofs.headers.emplace_back("dpop", "b");
  EXPECT_EQ(ErrorOf(proofs), "invalid_dpop_proof");
}

TEST(TokenRequestTest, RefusesWhatIsTooLarge) {
  EXPECT_EQ(ErrorOf(Form(absl::StrCat("a=", std::string(64 * 1024, 'x')))), "invalid_request");
  const std::string jwt(16 * 1024 + 1, 'x');
  for (const char* name : {"subject_token", "actor_token", "token", "refresh_token"}) {
    EXPECT_EQ(ErrorOf(Form(absl::StrCat(name, "=", jwt))), "invalid_request");
    EXPECT_EQ(ErrorOf(Form(absl::StrCat(name, "=", jwt.substr(1)))), "");
  }
  EXPECT_EQ(ErrorOf(Form(absl::StrCat("client_assertion_type=t&client_assertion=", jwt))), "invalid_request");
  net::WebRequest proof = Form("grant_type=a");
  proof.headers.emplace_back("dpop", std::string(8 * 1024 + 1, 'x'));
  EXPECT_EQ(ErrorOf(proof), "invalid_request");
}

TEST(TokenRequestTest, RefusesSecretsAndMoreThanOneMethod) {
  EXPECT_EQ(ErrorOf(Form("client_id=a&client_secret=s")), "invalid_client");
  net::WebRequest basic = Form("grant_type=a");
  basic.headers.emplace_back("authorization", "Basic YTpi");
  EXPECT_EQ(ErrorOf(basic), "invalid_client");
  EXPECT_EQ(ErrorOf(Form("client_assertion=a")), "invalid_request");
  EXPECT_EQ(ErrorOf(Form("client_assertion_type=a")), "invalid_request");
  net::WebRequest both = Form("client_assertion=a&client_assertion_type=t");
  both.client_chain = {
      signet::testing::SelfSigned(signet::testing::LeafTemplate("spiffe://td/a", absl::Now())).certificate};
  EXPECT_EQ(ErrorOf(both), "invalid_request");
}

TEST(TokenRequestTest, AnswersNeverHoldWhatWasSent) {
  TokenRequest out;
  const auto error = TokenRequest::Parse(Form("very-secret=a&very-secret=b"), out);
  ASSERT_TRUE(error.has_value());
  EXPECT_THAT(error->description, Not(HasSubstr("secret")));
  EXPECT_THAT(error->detail, HasSubstr("very-secret"));
}

}  // namespace
}  // namespace signet::server
