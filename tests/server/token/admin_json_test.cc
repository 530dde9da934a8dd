#include "server/token/admin_json.h"

#include <deque>
#include <functional>
#include <future>

#include <gmock/gmock.h>
#include <google/protobuf/empty.pb.h>
#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

namespace v1 = token::v1;

// Notes the calls; answers each with what was prepared, or with what it was asked when the types are the same.
class FakeAdministration final : public Administration {
 public:
  void Call(absl::string_view rpc, const AdminCaller& caller, const google::protobuf::Message& request,
            google::protobuf::Message* response, absl::AnyInvocable<void(absl::Status)> done) override {
    calls.push_back(absl::StrCat(rpc, " ", request.ShortDebugString()));
    callers.push_back(caller.name);
    if (fill) {
      fill(rpc, request, *response);
    } else if (response->GetDescriptor() == request.GetDescriptor()) {
      response->CopyFrom(request);
    }
    done(status);
  }
  std::vector<std::string> calls, callers;
  absl::Status status;
  std::function<void(absl::string_view, const google::protobuf::Message&, google::protobuf::Message&)> fill;
};

class AdminJsonTest : public ::testing::Test {
 protected:
  net::WebResponse Ask(const std::string& method, const std::string& path, const std::string& body = "",
                       const std::string& query = "", const std::string& type = "application/json") {
    net::WebRequest request;
    request.method = method;
    request.path = path;
    request.query = query;
    request.body = body;
    if (!type.empty()) request.headers.emplace_back("content-type", type);
    std::promise<net::WebResponse> answer;
    json_.Handle(request, {.name = "spiffe://example.org/ops", .administrator = true},
                 [&](net::WebResponse response) { answer.set_value(std::move(response)); });
    return answer.get_future().get();
  }
  // Answered 200 by exactly this call.
  void ExpectCall(const std::string& method, const std::string& path, const std::string& body,
                  const std::string& call) {
    administration_.calls.clear();
    const net::WebResponse answer = Ask(method, path, body);
    EXPECT_EQ(answer.status, 200) << method << " " << path << ": " << answer.body;
    EXPECT_THAT(administration_.calls, ElementsAre(call)) << method << " " << path;
  }
  // Refused without a call.
  void ExpectRefused(const net::WebResponse& answer, int status, const std::string& text) {
    EXPECT_EQ(answer.status, status) << answer.body;
    EXPECT_THAT(answer.body, HasSubstr(text));
    EXPECT_THAT(administration_.calls, IsEmpty());
  }

  FakeAdministration administration_;
  AdminJson json_{administration_};
};

TEST_F(AdminJsonTest, EachPathIsItsCall) {
  const std::string id = "/v1/identities/spiffe%3A%2F%2Fexample.org%2Fagent%2Fa", key = "spiffe://example.org/agent/a";
  ExpectCall("GET", "/v1/identities", "", "ListIdentities ");
  ExpectCall("POST", "/v1/identities", R"({"owner": "t"})", R"(CreateIdentity owner: "t")");
  ExpectCall("GET", id, "", "GetIdentity id: \"" + key + "\"");
  ExpectCall("GET", "/v1/identities/" + key, "", "GetIdentity id: \"" + key + "\"");
  ExpectCall("PUT", id, R"({"owner": "t"})", "UpdateIdentity spiffe_id: \"" + key + "\" owner: \"t\"");
  ExpectCall("POST", id + ":suspend", R"({"reason": "r"})",
             "SetIdentityState spiffe_id: \"" + key + "\" state: \"suspended\" reason: \"r\"");
  ExpectCall("POST", id + ":activate", "{}", "SetIdentityState spiffe_id: \"" + key + "\" state: \"active\"");
  ExpectCall("POST", id + ":resume", "{}", "SetIdentityState spiffe_id: \"" + key + "\" state: \"active\"");
  ExpectCall("POST", id + ":retire", "{}", "SetIdentityState spiffe_id: \"" + key + "\" state: \"retired\"");
  ExpectCall("POST", "/v1/issuers", R"({"url": "https://i"})", R"(PutIssuer url: "https://i")");
  ExpectCall("DELETE", "/v1/issuers/https%3A%2F%2Fi", "", R"(DeleteIssuer id: "https://i")");
  ExpectCall("PUT", "/v1/resources/https%3A%2F%2Fr", "{}", R"(PutResource uri: "https://r")");
  ExpectCall("GET", "/v1/resources/https%3A%2F%2Fr", "", R"(GetResource id: "https://r")");
  ExpectCall("POST", "/v1/grants", "{}", "CreateGrant ");
  ExpectCall("POST", "/v1/grants/g-1:revoke", R"({"reason": "r"})",
             R"(Revoke kind: "grant" entity: "g-1" reason: "r")");
  ExpectCall("POST", "/v1/tasks", R"({"grant": "g-1"})", R"(CreateTask grant: "g-1")");
  ExpectCall("GET", "/v1/tasks/task-1", "", R"(GetTask id: "task-1")");
  ExpectCall("POST", "/v1/tasks/task-1:close", "{}", R"(CloseTask id: "task-1")");
  ExpectCall("POST", "/v1/user-rights", "{}", "PutUserRights ");
  ExpectCall("POST", "/v1/revocations", R"({"kind": "token", "entity": "j"})", R"(Revoke kind: "token" entity: "j")");
  ExpectCall("POST", "/v1/revocations:reinstate", R"({"kind": "user"})", R"(Reinstate kind: "user")");
  ExpectCall("GET", "/v1/signing-keys", "", "ListSigningKeys ");
  ExpectCall("POST", "/v1/signing-keys", "{}", "PrepareSigningKey ");
  ExpectCall("POST", "/v1/signing-keys/k-1:activate", "{}", R"(ActivateSigningKey id: "k-1")");
  ExpectCall("POST", "/v1/signing-keys:rotate", "{}", "RotateSigningKey ");
  ExpectCall("GET", "/v1/chains/txn-1", "", R"(GetChain id: "txn-1")");
  ExpectCall("GET", "/v1/chains/txn-1/hash", "", R"(GetChain id: "txn-1/hash")");
  ExpectCall("POST", "/v1/audit:verify", "{}", "VerifyAudit ");
  ExpectCall("GET", "/v1/alerts", "", "ListAlerts ");
  ExpectCall("POST", "/v1/explain", R"({"grant": "g"})", R"(Explain grant: "g")");
  EXPECT_EQ(administration_.callers.back(), "spiffe://example.org/ops");

  administration_.calls.clear();
  EXPECT_EQ(Ask("GET", "/v1/audit", "", "after_seq=7&limit=5&txn=a%20b").status, 200);
  EXPECT_EQ(Ask("GET", "/v1/grants", "", "page_size=5&page_token=9").status, 200);
  EXPECT_THAT(administration_.calls, ElementsAre(R"(ListAudit after_seq: 7 limit: 5 txn: "a b")",
                                                 R"(ListGrants page_size: 5 page_token: "9")"));
}

TEST_F(AdminJsonTest, AnswersInTheNamesOfTheApi) {
  const net::WebResponse answer = Ask("POST", "/v1/grants", R"({"user": {"issuer": "i"}, "max_depth": 2})");
  EXPECT_EQ(answer.content_type, "application/json");
  EXPECT_EQ(boost::json::parse(answer.body), boost::json::parse(R"({"user": {"issuer": "i"}, "max_depth": 2})"));
  EXPECT_THAT(answer.headers, ElementsAre(std::pair("Cache-Control", "no-store")));
}

TEST_F(AdminJsonTest, RefusesWhatIsNoStrictJsonOfTheMessage) {
  const auto post = [&](const std::string& body, const std::string& type = "application/json") {
    return Ask("POST", "/v1/grants", body, "", type);
  };
  ExpectRefused(post(R"({"id": "a", "id": "b"})"), 400, "body");
  ExpectRefused(post(R"({"unknown": 1})"), 400, "unknown");
  ExpectRefused(post(R"({"max_depth": "many"})"), 400, "body");
  ExpectRefused(post(""), 400, "body");
  ExpectRefused(post("{} {}"), 400, "body");
  // A form of a foreign page may be sent with the administrator's certificate, but never as JSON.
  ExpectRefused(post("{}", "text/plain"), 400, "Content-Type");
  ExpectRefused(post("{}", ""), 400, "Content-Type");
  ExpectRefused(Ask("POST", "/v1/tasks/task-1:close", "", "", "application/x-www-form-urlencoded"), 400,
                "Content-Type");
  EXPECT_EQ(post("{}", "Application/JSON; charset=utf-8").status, 200);
}

TEST_F(AdminJsonTest, RefusesPathsAndQueriesThatMeanNothing) {
  for (const char* path : {"/v1/", "/v1/none", "/v1/identities/", "/v1/chains", "/v1/audit:none", "/v1/tasks:close",
                           "/v1/tasks/t:suspend"}) {
    ExpectRefused(Ask("GET", path), 404, "no such path");
  }
  ExpectRefused(Ask("DELETE", "/v1/grants/g-1"), 405, "means nothing");
  ExpectRefused(Ask("GET", "/v1/tasks/%4"), 400, "'%'");
  ExpectRefused(Ask("GET", "/v1/tasks/%00"), 400, "NUL");
  ExpectRefused(Ask("GET", "/v1/grants", "", "page_size=many"), 400, "page_size");
  ExpectRefused(Ask("GET", "/v1/grants", "", "other=1"), 400, "other");
  ExpectRefused(Ask("GET", "/v1/grants", "{}"), 400, "body");
  ExpectRefused(Ask("PUT", "/v1/issuers/https%3A%2F%2Fa", R"({"url": "https://b"})"), 400, "names another");
  EXPECT_TRUE(AdminJson::Owns("/v1/grants"));
  EXPECT_FALSE(AdminJson::Owns("/v10/grants"));
}

TEST_F(AdminJsonTest, StatusesAreHttpsAndInternalDetailStays) {
  const std::vector<std::pair<absl::Status, int>> cases = {
      {absl::InvalidArgumentError("why"), 400},   {absl::PermissionDeniedError("why"), 403},
      {absl::NotFoundError("why"), 404},          {absl::AlreadyExistsError("why"), 409},
      {absl::AbortedError("why"), 409},           {absl::FailedPreconditionError("why"), 409},
      {absl::ResourceExhaustedError("why"), 429}, {absl::UnavailableError("why"), 503},
      {absl::UnauthenticatedError("why"), 401}};
  for (const auto& [status, http] : cases) {
    administration_.status = status;
    const net::WebResponse answer = Ask("GET", "/v1/grants");
    EXPECT_EQ(answer.status, http) << status;
    EXPECT_EQ(boost::json::parse(answer.body).at("error").at("message"), "why");
  }
  administration_.status = absl::DataLossError("/var/lib/secret/path");
  const net::WebResponse answer = Ask("GET", "/v1/grants");
  EXPECT_EQ(answer.status, 500);
  EXPECT_THAT(answer.body, Not(HasSubstr("secret")));
}

TEST_F(AdminJsonTest, ToolsAreChangedOneByOneUnderTheVersion) {
  administration_.fill = [](absl::string_view rpc, const google::protobuf::Message& request,
                            google::protobuf::Message& response) {
    if (rpc == "PutResource") return response.CopyFrom(request);
    auto& resource = static_cast<v1::Resource&>(response);
    resource.set_uri("https://r");
    resource.set_version(7);
    resource.add_tools()->set_name("query");
    resource.add_tools()->set_name("refund");
  };
  const std::string tools = "/v1/resources/https%3A%2F%2Fr/tools", read = R"(GetResource id: "https://r")",
                    head = R"(PutResource uri: "https://r" version: 7 tools { name: "query" })";
  const auto body = [](const net::WebResponse& answer) { return boost::json::parse(answer.body); };
  EXPECT_EQ(body(Ask("GET", tools)), boost::json::parse(R"({"tools": [{"name": "query"}, {"name": "refund"}]})"));
  EXPECT_EQ(body(Ask("GET", tools + "/refund")), boost::json::parse(R"({"name": "refund"})"));
  EXPECT_EQ(Ask("GET", tools + "/none").status, 404);

  administration_.calls.clear();
  EXPECT_EQ(body(Ask("POST", tools, R"({"name": "new", "risk": "low"})")),
            boost::json::parse(R"({"name": "new", "risk": "low"})"));
  EXPECT_THAT(administration_.calls,
              ElementsAre(read, head + R"( tools { name: "refund" } tools { name: "new" risk: "low" })"));
  administration_.calls.clear();
  EXPECT_EQ(Ask("PUT", tools + "/refund", R"({"risk": "low"})").status, 200);
  EXPECT_THAT(administration_.calls, ElementsAre(read, head + R"( tools { name: "refund" risk: "low" })"));
  administration_.calls.clear();
  EXPECT_EQ(body(Ask("DELETE", tools + "/refund")), boost::json::parse(R"({"tools": [{"name": "query"}]})"));
  EXPECT_THAT(administration_.calls, ElementsAre(read, head));
  EXPECT_EQ(Ask("DELETE", tools + "/none").status, 404);
  EXPECT_EQ(Ask("DELETE", tools).status, 405);
  EXPECT_EQ(Ask("PUT", tools + "/refund", R"({"name": "query"})").status, 400);
  EXPECT_EQ(Ask("POST", tools, "{}").status, 400);
  administration_.status = absl::NotFoundError("none");
  EXPECT_EQ(Ask("POST", tools, R"({"name": "new"})").status, 404);
}

// --- who calls over HTTPS
// ----------------------------------------------------------------------------------------------

class FakeClients final : public ClientAuthenticator {
 public:
  absl::StatusOr<Client> Authenticate(const TokenRequest& request, absl::Time) override {
    asked.push_back(request.form.at("client_id"));
    if (!status.ok()) return status;
    Client client;
    client.id = request.form.at("client_id");
    return client;
  }
  absl::Status status;
  std::vector<std::string> asked;
};

class AdminCallersTest : public ::testing::Test {
 protected:
  AdminCallersTest() {
    for (const char* name : {"example.org", "partner.org"}) {
      spiffe::Bundle bundle{
          .trust_domain = spiffe::TrustDomain::Parse(name).value(), .x509_authorities = {}, .jwt_authorities = {}};
      bundle.x509_authorities.push_back({CaOf(name).certificate});
      bundles_[name] = std::make_shared<const spiffe::Bundle>(std::move(bundle));
    }
  }
  const testing::TestCert& CaOf(const std::string& name) {
    auto it = cas_.find(name);
    if (it == cas_.end()) {
      it = cas_.emplace(name, testing::SelfSigned(testing::CaTemplate(name, kit_.clock.Now()))).first;
    }
    return it->second;
  }
  absl::StatusOr<AdminCaller> Identify(const std::string& id, const std::string& signed_by = "example.org") {
    net::WebRequest request;
    request.client_chain = {
        testing::IssuedBy(CaOf(signed_by), testing::LeafTemplate(id, kit_.clock.Now())).certificate};
    return callers_.Identify(request);
  }

  ApiKit kit_;
  std::map<std::string, testing::TestCert> cas_;
  std::map<std::string, std::shared_ptr<const spiffe::Bundle>> bundles_;
  FakeClients clients_;
  AdminCallers callers_{Own(), [this](const spiffe::TrustDomain& td) { return bundles_[std::string(td.name())]; },
                        kit_.authorizer, clients_, kit_.clock};
};

TEST_F(AdminCallersTest, AnAdministratorIsOneByItsSvid) {
  const AdminCaller caller = Identify("spiffe://example.org/ops/admin").value();
  EXPECT_EQ(caller.name, "spiffe://example.org/ops/admin");
  EXPECT_TRUE(caller.administrator);
  EXPECT_THAT(clients_.asked, IsEmpty());  // minted for an operator, it need not come from an agent
}

TEST_F(AdminCallersTest, T7NobodyOfAnotherTrustDomainAdministers) {
  // An administrator of SPIRE's side by configuration, yet not here.
  EXPECT_THAT(Identify("spiffe://partner.org/admin", "partner.org"), StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(clients_.asked, IsEmpty());
}

TEST_F(AdminCallersTest, T8AWorkloadProvesItselfAsAtTheTokenEndpoint) {
  const AdminCaller caller = Identify("spiffe://example.org/console").value();
  EXPECT_EQ(caller.name, "spiffe://example.org/console");
  EXPECT_FALSE(caller.administrator);
  clients_.status = absl::UnauthenticatedError("its agent is banned");
  EXPECT_THAT(Identify("spiffe://example.org/console"),
              StatusIs(absl::StatusCode::kUnauthenticated, Not(HasSubstr("banned"))));
}

TEST_F(AdminCallersTest, WhoIsNotProvenIsNobody) {
  EXPECT_THAT(callers_.Identify(net::WebRequest()), StatusIs(absl::StatusCode::kUnauthenticated));
  EXPECT_THAT(Identify("spiffe://example.org/ops/admin", "partner.org"), StatusIs(absl::StatusCode::kUnauthenticated));
}

}  // namespace
}  // namespace signet::server
