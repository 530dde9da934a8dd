#include "server/token/administration.h"

#include <atomic>
#include <future>
#include <thread>

#include <google/protobuf/empty.pb.h>
#include <google/protobuf/util/json_util.h>
#include <boost/json.hpp>

#include "absl/strings/str_cat.h"
#include "server/token/admin_input.h"
#include "tests/fakes/fake_token_signer.h"
#include "tests/server/token/registry_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::google::protobuf::Empty;
using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

namespace v1 = token::v1;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kDenied = absl::StatusCode::kPermissionDenied;
constexpr char kIdp[] = "https://idp.example.org/realms/a";
constexpr char kOrders[] = "https://mcp.example.org/orders";
constexpr char kPlanner[] = "spiffe://example.org/agent/planner";
constexpr char kWorker[] = "spiffe://example.org/agent/worker";
constexpr char kConsole[] = "spiffe://example.org/console";

template <typename Record>
Record FromJson(const std::string& json) {
  Record record;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &record);
  EXPECT_TRUE(status.ok()) << status.ToString() << "\n" << json;
  return record;
}

// Two slots, as the rotator has.
class FakeTokenKeys final : public TokenKeys {
 public:
  absl::StatusOr<std::vector<Key>> ListTokenKeys() override { return keys; }
  absl::StatusOr<Key> PrepareTokenKey() override {
    std::erase_if(keys, [](const Key& key) { return key.slot.state != SlotState::kActive; });
    keys.push_back({absl::StrCat("k", ++made), {SlotState::kPrepared, absl::Now(), absl::Now() + absl::Hours(1)}});
    return keys.back();
  }
  absl::StatusOr<Key> ActivateTokenKey(const std::string& kid) override {
    for (Key& key : keys) {
      if (key.kid != kid || key.slot.state != SlotState::kPrepared) continue;
      for (Key& other : keys) other.slot.state = SlotState::kOld;
      key.slot.state = SlotState::kActive;
      return key;
    }
    return absl::NotFoundError("no such key is prepared");
  }
  std::vector<Key> keys = {{"k1", {SlotState::kActive, absl::Now(), absl::Now() + absl::Hours(1)}}};
  int made = 1;
};

class AdministrationTest : public ::testing::Test {
 protected:
  AdministrationTest() {
    audit_ = AuditLog::Create({.server_id = "s1"}, *kit_.store, signer_, kit_.clock).value();
    administration_ = MakeAdministration(
        {.trust_domain = TestTrustDomain(),
         .server_id = "s1",
         .own_issuers = {"https://id.example.org", "https://id.example.org/spiffe"},
         .store = *kit_.store,
         .registry = *kit_.registry,
         .wait_for = [this](uint64_t seq, absl::Duration timeout) { return kit_.applier->WaitFor(seq, timeout); },
         .revoker = revoker_,
         .audit = *audit_,
         .alerts = alerts_,
         .signer = signer_,
         .keys = token_keys_,
         .explain =
             [](const v1::ExplainRequest& request, Completion<v1::ExplainResponse> done) {
               v1::ExplainResponse response;
               response.set_outcome(request.resource());
               done(response);
             },
         .clock = kit_.clock});
  }
  ~AdministrationTest() override { administration_.reset(); }

  template <typename Response, typename Request>
  absl::StatusOr<Response> Call(const std::string& rpc, const Request& request, AdminCaller caller = {"local uid 0"}) {
    Response response;
    const absl::Status status = testing::AwaitStatus(
        [&](auto done) { administration_->Call(rpc, caller, request, &response, std::move(done)); });
    if (!status.ok()) return status;
    return response;
  }
  static v1::GetRequest ById(const std::string& id) {
    v1::GetRequest request;
    request.set_id(id);
    return request;
  }
  absl::StatusOr<v1::Resource> PutOrders(const std::string& more = "") {
    return Call<v1::Resource>("PutResource", Orders(more));
  }
  static v1::Resource Orders(const std::string& more = "") {
    return FromJson<v1::Resource>(absl::StrCat(
        R"({"uri": "HTTPS://MCP.example.org:443/orders", "minimum_binding": "dpop",
            "scopes": {"orders:read": {"actions": ["orders:read", "orders:list"]}}, "default_scopes": ["orders:read"],
            "tools": [{"name": "query", "scopes": ["orders:read"], "risk": "medium",
                       "input_schema": {"type": "object", "maxProperties": 2}},
                      {"name": "refund", "input_schema": {"type": "object"}}])",
        more, "}"));
  }
  v1::Identity Identity(const std::string& id) {
    return FromJson<v1::Identity>(absl::StrCat(R"({"spiffe_id": ")", id, R"(", "owner": "team", "state": "active",
        "ceiling": [{"resource": "https://mcp.example.org/orders", "scopes": ["orders:read"], "tools": ["refund"]}]})"));
  }
  absl::StatusOr<v1::Identity> Create(const std::string& id) {
    return Call<v1::Identity>("CreateIdentity", Identity(id));
  }
  static v1::Issuer Idp(const std::string& url = kIdp) {
    return FromJson<v1::Issuer>(absl::StrCat(
        R"({"url": ")", url, R"(", "jwks_uri": "https://idp.example.org/jwks", "audiences": ["signet"]})"));
  }
  v1::Grant Grant(const std::string& more = "") {
    return FromJson<v1::Grant>(absl::StrCat(R"({"user": {"issuer": ")", kIdp,
                                            R"(", "subject": "alice"}, "identity": ")", kPlanner, R"(",
            "actors": [")",
                                            kWorker, R"("], "principals": [")", kConsole, R"("], "text": "May it?",
            "authority": [{"resource": ")",
                                            kOrders, R"(", "scopes": ["orders:read"]}],
            "expires_at": ")",
                                            At(absl::Hours(24)), R"(")", more, "}"));
  }
  std::string At(absl::Duration ahead) {
    return absl::FormatTime("%Y-%m-%d%ET%H:%M:%SZ", kit_.clock.Now() + ahead, absl::UTCTimeZone());
  }
  // Resource, issuer, two agents and a grant.
  std::string World() {
    SIGNET_EXPECT_OK(PutOrders());
    SIGNET_EXPECT_OK(Call<v1::Issuer>("PutIssuer", Idp()));
    SIGNET_EXPECT_OK(Create(kPlanner));
    SIGNET_EXPECT_OK(Create(kWorker));
    return Call<v1::Grant>("CreateGrant", Grant()).value().id();
  }
  v1::Task Task(const std::string& grant) {
    v1::Task task;
    task.set_grant(grant);
    return task;
  }
  std::vector<std::string> Names(const google::protobuf::RepeatedPtrField<v1::Atom>& atoms) {
    std::vector<std::string> names;
    for (const v1::Atom& atom : atoms) names.push_back(absl::StrCat(atom.tool() ? "tool " : "", atom.action()));
    return names;
  }
  // "call outcome" of every administrative audit record.
  std::vector<std::string> Audited() {
    std::vector<std::string> told;
    const AuditRecord last = kit_.store->LastAudit("s1").value();
    const std::vector<AuditRecord> records = kit_.store->ReadAudit("s1", last.epoch, 0, 0).value();
    for (const AuditRecord& record : records) {
      const boost::json::object body = boost::json::parse(record.body).get_object();
      if (body.at("event") != "administration") continue;
      told.push_back(absl::StrCat(std::string(body.at("call").get_string().c_str()), " ",
                                  std::string(body.at("outcome").get_string().c_str())));
    }
    return told;
  }

  RegistryKit kit_;
  fakes::FakeTokenSigner signer_;
  FakeTokenKeys token_keys_;
  telemetry::Metrics metrics_registry_;
  Metrics metrics_{metrics_registry_};
  Alerts alerts_{kit_.clock, metrics_};
  IssuanceGate gate_{*kit_.registry};
  Executor revoking_{{"revoke", 1, 64}};
  Revoker revoker_{*kit_.store, gate_,
                   [this](uint64_t seq, absl::Duration timeout) { return kit_.applier->WaitFor(seq, timeout); },
                   revoking_, kit_.clock};
  std::unique_ptr<AuditLog> audit_;
  std::unique_ptr<Administration> administration_;
};

TEST_F(AdministrationTest, AnIdentityIsOneSegmentBelowAgent) {
  for (const char* bad : {"", "spiffe://example.org", "spiffe://example.org/agent", "spiffe://example.org/agent/a/b",
                          "spiffe://example.org/agents/a", "spiffe://example.org/agent/a%2Fb", "https://example.org/a",
                          "spiffe://example.org/agent//a", "SPIFFE://example.org/agent/a"}) {
    v1::Identity identity;
    identity.set_spiffe_id(bad);
    identity.set_owner("team");
    EXPECT_THAT(Call<v1::Identity>("CreateIdentity", identity), StatusIs(kInvalid, HasSubstr("spiffe_id"))) << bad;
  }
  v1::Identity identity;
  identity.set_spiffe_id("spiffe://example.org/agent/a");
  EXPECT_THAT(Call<v1::Identity>("CreateIdentity", identity), StatusIs(kInvalid, HasSubstr("owner")));
  identity.set_owner("team");
  EXPECT_EQ(Call<v1::Identity>("CreateIdentity", identity).value().state(), "draft");
  EXPECT_THAT(Call<v1::Identity>("CreateIdentity", identity), StatusIs(absl::StatusCode::kAlreadyExists));
  identity.set_spiffe_id("spiffe://partner.org/any/client");  // T7: in full
  SIGNET_EXPECT_OK(Call<v1::Identity>("CreateIdentity", identity));
  EXPECT_THAT(Audited(), ElementsAre("CreateIdentity refused", "CreateIdentity refused", "CreateIdentity refused",
                                     "CreateIdentity refused", "CreateIdentity refused", "CreateIdentity refused",
                                     "CreateIdentity refused", "CreateIdentity refused", "CreateIdentity refused",
                                     "CreateIdentity refused", "CreateIdentity done", "CreateIdentity refused",
                                     "CreateIdentity done"));
}

TEST_F(AdministrationTest, NumbersAndWordsOutOfTheirRangeAreRefused) {
  const auto with = [&](const std::string& more) {
    return Call<v1::Identity>(
        "CreateIdentity",
        FromJson<v1::Identity>(absl::StrCat(R"({"spiffe_id": ")", kPlanner, R"(", "owner": "t", )", more, "}")));
  };
  EXPECT_THAT(with(R"("max_depth": 6)"), StatusIs(kInvalid, HasSubstr("max_depth")));
  EXPECT_THAT(with(R"("max_depth": -1)"), StatusIs(kInvalid, HasSubstr("max_depth")));
  EXPECT_THAT(with(R"("risk": "some")"), StatusIs(kInvalid, HasSubstr("risk")));
  EXPECT_THAT(with(R"("token_ttl": "2h")"), StatusIs(kInvalid, HasSubstr("token_ttl")));
  EXPECT_THAT(with(R"("token_ttl": "1500ms")"), StatusIs(kInvalid, HasSubstr("token_ttl")));
  EXPECT_THAT(with(R"("state": "suspended")"), StatusIs(kInvalid, HasSubstr("state")));
  EXPECT_THAT(with(R"("ceiling": [{"resource": "https://none.example.org", "scopes": ["a"]}])"),
              StatusIs(kInvalid, HasSubstr("ceiling[0]: resource")));
  EXPECT_THAT(with(R"("max_depth": 5)"), IsOk());
}

TEST_F(AdministrationTest, T9AuthorityIsStoredAsAtomsOfThatMoment) {
  const v1::Resource resource = PutOrders().value();
  EXPECT_EQ(resource.uri(), kOrders);  // canonical
  const v1::Identity identity = Create(kPlanner).value();
  EXPECT_THAT(Names(identity.ceiling_atoms()), ElementsAre("orders:list", "orders:read", "tool query", "tool refund"));
  EXPECT_EQ(identity.ceiling_atoms(2).tool_hash(), resource.tools(0).hash());
  EXPECT_TRUE(identity.ceiling().empty());

  // The scope grows and a tool changes: what is stored does not.
  v1::Resource more = Orders();
  (*more.mutable_scopes())["orders:read"].add_actions("orders:erase");
  more.mutable_tools(0)->set_description("now does other things");
  const v1::Resource changed = Call<v1::Resource>("PutResource", more).value();
  EXPECT_NE(changed.tools(0).hash(), resource.tools(0).hash());
  EXPECT_EQ(Call<v1::Identity>("GetIdentity", ById(kPlanner)).value().ceiling_atoms(2).tool_hash(),
            resource.tools(0).hash());

  // Read, changed elsewhere and written back: authority stays as it is.
  v1::Identity back = identity;
  back.set_owner("other team");
  const v1::Identity updated = Call<v1::Identity>("UpdateIdentity", back).value();
  EXPECT_THAT(Names(updated.ceiling_atoms()), ElementsAre("orders:list", "orders:read", "tool query", "tool refund"));
  EXPECT_EQ(updated.owner(), "other team");
  EXPECT_THAT(Call<v1::Identity>("UpdateIdentity", back), StatusIs(absl::StatusCode::kAborted));  // version 1 is gone
  back.set_version(0);
  back.clear_ceiling_atoms();
  EXPECT_TRUE(Call<v1::Identity>("UpdateIdentity", back).value().ceiling_atoms().empty());
}

TEST_F(AdministrationTest, T9WhatNamesNothingIsRefused) {
  SIGNET_ASSERT_OK(PutOrders());
  const auto with = [&](const std::string& authority) {
    v1::Identity identity = Identity(kPlanner);
    *identity.mutable_ceiling(0) = FromJson<v1::Authority>(authority);
    return Call<v1::Identity>("CreateIdentity", identity);
  };
  const std::string uri = absl::StrCat(R"("resource": ")", kOrders, R"(")");
  EXPECT_THAT(with("{" + uri + R"(, "scopes": ["orders:none"]})"), StatusIs(kInvalid, HasSubstr("orders:none")));
  EXPECT_THAT(with("{" + uri + R"(, "tools": ["none"]})"), StatusIs(kInvalid, HasSubstr("none")));
  EXPECT_THAT(with("{" + uri + "}"), StatusIs(kInvalid, HasSubstr("scope or a tool")));
  EXPECT_THAT(with("{" + uri + R"(, "tools": ["refund"], "constraints": {"amount": 7}})"),
              StatusIs(kInvalid, HasSubstr("amount")));
  const auto bounded = with("{" + uri + R"(, "tools": ["refund"], "constraints": {"amount": {"max": 50}}})");
  SIGNET_ASSERT_OK(bounded);
  EXPECT_EQ(
      bounded->ceiling_atoms(0).constraints().fields().at("amount").struct_value().fields().at("max").number_value(),
      50);
}

TEST_F(AdministrationTest, T9TheToolHashCoversWhatTheRegistrarSaw) {
  const auto hash = [](const std::string& json) { return ToolHash(FromJson<v1::Tool>(json)).value(); };
  const std::string base = hash(R"({"name": "t", "description": "d", "input_schema": {"a": 1, "b": [true, null]},
                                    "output_schema": {}, "annotations": {"title": "T"}})");
  EXPECT_EQ(base.size(), 64u);
  EXPECT_EQ(base, hash(R"({"annotations": {"title": "T"}, "input_schema": {"b": [true, null], "a": 1.0},
                           "name": "t", "description": "d", "output_schema": {}, "risk": "low", "read_only": true})"));
  for (const char* other : {R"({"name": "u", "description": "d", "input_schema": {"a": 1, "b": [true, null]},
                                "output_schema": {}, "annotations": {"title": "T"}})",
                            R"({"name": "t", "description": "e", "input_schema": {"a": 1, "b": [true, null]},
                                "output_schema": {}, "annotations": {"title": "T"}})",
                            R"({"name": "t", "description": "d", "input_schema": {"a": 2, "b": [true, null]},
                                "output_schema": {}, "annotations": {"title": "T"}})",
                            R"({"name": "t", "description": "d", "input_schema": {"a": 1, "b": [true, null]},
                                "annotations": {"title": "T"}})",
                            R"({"name": "t", "description": "d", "input_schema": {"a": 1, "b": [true, null]},
                                "output_schema": {}, "annotations": {"title": "U"}})"}) {
    EXPECT_NE(hash(other), base) << other;
  }
  // Written back without schemas, it keeps its hash; with them, the hash must be theirs.
  const v1::Resource stored = PutOrders().value();
  EXPECT_EQ(Call<v1::Resource>("PutResource", stored).value().tools(0).hash(), stored.tools(0).hash());
  v1::Resource wrong = Orders();
  wrong.mutable_tools(0)->set_hash(std::string(64, 'a'));
  EXPECT_THAT(Call<v1::Resource>("PutResource", wrong), StatusIs(kInvalid, HasSubstr("tools[0]: hash")));
}

TEST_F(AdministrationTest, T9LooseningVoidsGrantsAndDeletedNamesStayDeleted) {
  const std::string grant = World();
  v1::Resource looser = Orders();
  looser.set_minimum_binding("bearer");
  SIGNET_ASSERT_OK(Call<v1::Resource>("PutResource", looser));
  EXPECT_EQ(Call<v1::Grant>("GetGrant", ById(grant)).value().state(), "void");
  EXPECT_THAT(Call<v1::Task>("CreateTask", Task(grant)), StatusIs(absl::StatusCode::kFailedPrecondition));

  v1::Resource fewer = looser;
  fewer.mutable_tools()->RemoveLast();
  EXPECT_EQ(Call<v1::Resource>("PutResource", fewer).value().tools_size(), 1);
  EXPECT_THAT(Call<v1::Resource>("PutResource", looser), StatusIs(absl::StatusCode::kAlreadyExists));
  SIGNET_ASSERT_OK(Call<Empty>("DeleteResource", ById(kOrders)));
  EXPECT_THAT(Call<v1::Resource>("GetResource", ById(kOrders)), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(Call<v1::ListResourcesResponse>("ListResources", v1::ListRequest()).value().resources(), IsEmpty());
  EXPECT_THAT(PutOrders(), StatusIs(absl::StatusCode::kAlreadyExists));
}

TEST_F(AdministrationTest, T5IssuersAndResourcesNeverShareAName) {
  const auto put = [&](const std::string& uri) {
    v1::Resource resource;
    resource.set_uri(uri);
    return Call<v1::Resource>("PutResource", resource);
  };
  EXPECT_THAT(put("https://id.example.org"), StatusIs(kInvalid, HasSubstr("issuer of our own")));
  EXPECT_THAT(put("https://ID.example.org:443/spiffe"), StatusIs(kInvalid, HasSubstr("issuer of our own")));
  EXPECT_THAT(put("spiffe://example.org/agent/a"), StatusIs(kInvalid));
  SIGNET_ASSERT_OK(Call<v1::Issuer>("PutIssuer", Idp()));
  EXPECT_THAT(put("HTTPS://idp.example.org/realms/a"), StatusIs(kInvalid, HasSubstr("issuer of users")));
  SIGNET_ASSERT_OK(put("https://mcp.example.org"));
  EXPECT_THAT(Call<v1::Issuer>("PutIssuer", Idp("https://mcp.example.org:443")),
              StatusIs(kInvalid, HasSubstr("a resource")));
  EXPECT_THAT(Call<v1::Issuer>("PutIssuer", Idp("https://id.example.org")), StatusIs(kInvalid));
}

TEST_F(AdministrationTest, T7AUserIsAStableNameOfARegisteredIssuer) {
  for (const char* claim : {"email", "preferred_username", "Email", "upn", "name"}) {
    v1::Issuer issuer = Idp();
    issuer.set_user_claim(claim);
    EXPECT_THAT(Call<v1::Issuer>("PutIssuer", issuer), StatusIs(kInvalid, HasSubstr("user_claim"))) << claim;
  }
  World();
  v1::Grant grant = Grant();
  grant.mutable_user()->set_subject("spiffe://example.org/agent/planner/1");
  EXPECT_THAT(Call<v1::Grant>("CreateGrant", grant), StatusIs(kInvalid, HasSubstr("user.subject")));
  grant.mutable_user()->set_subject("SPIFFE://example.org/x");
  EXPECT_THAT(Call<v1::Grant>("CreateGrant", grant), StatusIs(kInvalid, HasSubstr("user.subject")));
  grant = Grant();
  grant.mutable_user()->set_issuer("https://other.example.org");
  EXPECT_THAT(Call<v1::Grant>("CreateGrant", grant), StatusIs(kInvalid, HasSubstr("user.issuer")));
  v1::UserRights rights;
  rights.mutable_user()->set_issuer("spiffe://example.org");
  rights.mutable_user()->set_subject("alice");
  EXPECT_THAT(Call<v1::UserRights>("PutUserRights", rights), StatusIs(kInvalid));
  *rights.mutable_user() = Grant().user();
  *rights.add_authority() = Grant().authority(0);
  EXPECT_EQ(Call<v1::UserRights>("PutUserRights", rights).value().atoms_size(), 3);
}

TEST_F(AdministrationTest, AnIssuerSaysWhereItsKeysAreAndWhatIsReservedForExchange) {
  const auto refuses = [&](const std::function<void(v1::Issuer&)>& change, const std::string& field) {
    v1::Issuer issuer = Idp();
    change(issuer);
    EXPECT_THAT(Call<v1::Issuer>("PutIssuer", issuer), StatusIs(kInvalid, HasSubstr(field)));
  };
  refuses([](v1::Issuer& i) { i.clear_audiences(); }, "audiences");
  refuses([](v1::Issuer& i) { i.clear_jwks_uri(); }, "jwks_uri");
  refuses([](v1::Issuer& i) { i.set_jwks_json("{\"keys\": []}"); }, "jwks_uri");
  refuses([](v1::Issuer& i) { i.set_jwks_uri("http://idp.example.org/jwks"); }, "jwks_uri");
  refuses([](v1::Issuer& i) { i.set_url("http://idp.example.org"); }, "url");
  refuses([](v1::Issuer& i) { i.set_url("https://idp.example.org?x=1"); }, "url");
  refuses(
      [](v1::Issuer& i) {
        i.clear_jwks_uri();
        i.set_jwks_json("{\"keys\": 7}");
      },
      "jwks_json");
  v1::Issuer local = Idp("http://localhost:8080/realms/demo");
  SIGNET_EXPECT_OK(Call<v1::Issuer>("PutIssuer", local));
  SIGNET_EXPECT_OK(Call<Empty>("DeleteIssuer", ById(local.url())));
  EXPECT_THAT(Call<v1::Issuer>("GetIssuer", ById(local.url())), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(AdministrationTest, AGrantKeepsToItsAudiencesAndItsTime) {
  World();
  const auto with = [&](const std::function<void(v1::Grant&)>& change) {
    v1::Grant grant = Grant();
    change(grant);
    return Call<v1::Grant>("CreateGrant", grant);
  };
  EXPECT_THAT(with([&](v1::Grant& g) { g.set_expires_at(At(-absl::Seconds(5))); }),
              StatusIs(kInvalid, HasSubstr("expires_at")));
  EXPECT_THAT(with([&](v1::Grant& g) { g.set_expires_at(At(absl::Hours(24 * 400))); }),
              StatusIs(kInvalid, HasSubstr("expires_at")));
  EXPECT_THAT(with([](v1::Grant& g) { g.set_expires_at("tomorrow"); }), StatusIs(kInvalid, HasSubstr("expires_at")));
  EXPECT_THAT(with([](v1::Grant& g) { g.clear_authority(); }), StatusIs(kInvalid, HasSubstr("authority")));
  EXPECT_THAT(with([](v1::Grant& g) { g.set_identity("spiffe://example.org/agent/none"); }),
              StatusIs(kInvalid, HasSubstr("identity")));
  EXPECT_THAT(with([](v1::Grant& g) { g.add_actors("spiffe://example.org/agent/none"); }),
              StatusIs(kInvalid, HasSubstr("actors")));
  v1::Resource other;
  other.set_uri("https://mcp.example.org/other");
  SIGNET_ASSERT_OK(Call<v1::Resource>("PutResource", other));
  EXPECT_THAT(with([](v1::Grant& g) { g.add_audiences("https://mcp.example.org/other"); }),
              StatusIs(kInvalid, HasSubstr("audiences")));
  const v1::Grant stored = with([](v1::Grant&) {}).value();
  EXPECT_THAT(stored.audiences(), ElementsAre(kOrders));
  EXPECT_EQ(stored.text(), "");
  EXPECT_EQ(stored.text_hash(), oauth::Hash("May it?"));
}

TEST_F(AdministrationTest, T7TheAuditNamesWhatWasMadeByWhomAndForWhichUser) {
  const std::string grant = World();
  const AuditRecord last = kit_.store->LastAudit("s1").value();
  const boost::json::object body = boost::json::parse(last.body).get_object();
  EXPECT_EQ(body.at("call"), "CreateGrant");
  EXPECT_EQ(body.at("target"), boost::json::string(grant));  // although the server made it
  EXPECT_EQ(body.at("who"), boost::json::parse(R"({"client": "local uid 0"})"));
  EXPECT_EQ(body.at("for"), boost::json::parse(absl::StrCat(R"({"issuer": ")", kIdp, R"(", "user": "alice"})")));
}

TEST_F(AdministrationTest, ARefusedRequestFillsTheAuditOnlySoFar) {
  v1::RevokeRequest request;
  request.set_kind("none");
  request.set_reason("a");
  for (int i = 0; i < 100'000; ++i) request.mutable_reason()->append("\xc3\xa9");
  EXPECT_THAT(Call<v1::Revocation>("Revoke", request), StatusIs(kInvalid));
  EXPECT_LT(kit_.store->LastAudit("s1").value().body.size(), 2048u);
  EXPECT_TRUE(Call<v1::VerifyAuditResponse>("VerifyAudit", v1::VerifyAuditRequest()).value().proven());
}

TEST_F(AdministrationTest, T8TasksAreMadeByAdministratorsAndPrincipalsNeverByTheAgent) {
  const std::string grant = World();
  const AdminCaller principal{kConsole, false}, stranger{"spiffe://example.org/other", false},
      agent{"spiffe://example.org/agent/planner/1", false}, admin_agent{"spiffe://example.org/agent/planner/1", true},
      namesake{"spiffe://example.org/agent/planner-ops", true};
  const v1::Task task = Call<v1::Task>("CreateTask", Task(grant), principal).value();
  EXPECT_EQ(task.identity(), kPlanner);
  EXPECT_THAT(Call<v1::Task>("CreateTask", Task(grant), stranger), StatusIs(kDenied));
  EXPECT_THAT(Call<v1::Task>("CreateTask", Task(grant), agent), StatusIs(kDenied));
  EXPECT_THAT(Call<v1::Task>("CreateTask", Task(grant), admin_agent), StatusIs(kDenied));
  EXPECT_THAT(Call<v1::Task>("CreateTask", Task("g-none"), stranger), StatusIs(kDenied));
  EXPECT_THAT(Call<v1::Task>("CreateTask", Task(grant), namesake), IsOk());

  EXPECT_THAT(Call<v1::Task>("GetTask", ById(task.id()), principal), IsOk());
  EXPECT_THAT(Call<v1::Task>("GetTask", ById(task.id()), stranger), StatusIs(kDenied));
  EXPECT_THAT(Call<v1::Task>("CloseTask", ById(task.id()), stranger), StatusIs(kDenied));
  EXPECT_EQ(Call<v1::Task>("CloseTask", ById(task.id()), principal).value().state(), "closed");
  EXPECT_THAT(Call<v1::ListTasksResponse>("ListTasks", v1::ListRequest(), principal), StatusIs(kDenied));
  EXPECT_THAT(Call<v1::Grant>("CreateGrant", Grant(), principal), StatusIs(kDenied));

  for (const char* bad : {"spiffe://example.org/agent/planner", "spiffe://example.org/agent/worker/1",
                          "spiffe://partner.org/console", "console"}) {
    v1::Grant self = Grant();
    self.set_principals(0, bad);
    EXPECT_THAT(Call<v1::Grant>("CreateGrant", self), StatusIs(kInvalid, HasSubstr("principals"))) << bad;
  }
}

TEST_F(AdministrationTest, T8ATaskIsAnEnvelopeWithinItsGrant) {
  const std::string grant = World();
  const auto with = [&](const std::function<void(v1::Task&)>& change) {
    v1::Task task = Task(grant);
    change(task);
    return Call<v1::Task>("CreateTask", task);
  };
  EXPECT_THAT(with([&](v1::Task& t) { t.set_deadline(At(absl::Hours(9))); }),
              StatusIs(kInvalid, HasSubstr("deadline")));
  EXPECT_THAT(with([&](v1::Task& t) { t.set_deadline(At(-absl::Seconds(5))); }), StatusIs(kInvalid));
  EXPECT_THAT(with([](v1::Task& t) { t.set_budget(-1); }), StatusIs(kInvalid, HasSubstr("budget")));
  EXPECT_THAT(with([](v1::Task& t) { t.set_grant("g-none"); }), StatusIs(kInvalid, HasSubstr("grant")));
  EXPECT_THAT(with([](v1::Task& t) { t.set_identity("spiffe://example.org/agent/none"); }), StatusIs(kInvalid));
  EXPECT_THAT(with([](v1::Task& t) {
                *t.add_authority() =
                    FromJson<v1::Authority>(absl::StrCat(R"({"resource": ")", kOrders, R"(", "tools": ["refund"]})"));
              }),
              StatusIs(kInvalid, AllOf(HasSubstr("refund"), HasSubstr("not within"))));
  const v1::Task all = with([](v1::Task&) {}).value();
  EXPECT_THAT(Names(all.atoms()), ElementsAre("orders:list", "orders:read", "tool query"));
  const v1::Task narrow =
      with([](v1::Task& t) {
        *t.add_authority() = FromJson<v1::Authority>(absl::StrCat(
            R"({"resource": ")", kOrders, R"(", "tools": ["query"], "constraints": {"limit": {"max": 5}}})"));
        t.set_budget(3);
      }).value();
  EXPECT_THAT(Names(narrow.atoms()), ElementsAre("tool query"));
  EXPECT_TRUE(narrow.atoms(0).has_constraints());
  EXPECT_NE(narrow.hash(), all.hash());
  SIGNET_ASSERT_OK(Call<v1::Revocation>(
      "Revoke", FromJson<v1::RevokeRequest>(absl::StrCat(R"({"kind": "grant", "entity": ")", grant, R"("})"))));
  EXPECT_THAT(with([](v1::Task&) {}), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(AdministrationTest, T3RevokingWaitsForWhatWasLetThroughBefore) {
  World();
  oauth::AccessToken token;
  token.audience = kOrders;
  token.context.identity = kPlanner;
  IssuanceGate::Ticket ticket;
  ASSERT_EQ(gate_.Enter(token, ticket), std::nullopt);
  std::atomic<bool> returned = false;
  std::thread revoker([&] {
    const auto suspended =
        Call<v1::Identity>("SetIdentityState", FromJson<v1::SetIdentityStateRequest>(absl::StrCat(
                                                   R"({"spiffe_id": ")", kPlanner, R"(", "state": "suspended"})")));
    returned = true;
    EXPECT_EQ(suspended.value().state(), "suspended");
  });
  // In memory it holds before the call returns; the call waits for the ticket.
  while (kit_.registry->revocations()->Blocks(oauth::EntityKind::kIdentity, kPlanner) == nullptr) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(returned);
  ticket = IssuanceGate::Ticket();
  revoker.join();
  EXPECT_NE(gate_.Enter(token, ticket), std::nullopt);
  EXPECT_THAT(Audited().back(), "SetIdentityState done");

  const auto state = [&](const std::string& to) {
    return Call<v1::Identity>("SetIdentityState",
                              FromJson<v1::SetIdentityStateRequest>(
                                  absl::StrCat(R"({"spiffe_id": ")", kPlanner, R"(", "state": ")", to, R"("})")));
  };
  EXPECT_EQ(state("active").value().state(), "active");
  EXPECT_NE(gate_.Enter(token, ticket), std::nullopt);  // what was killed stays dead
  token.context.rev = kit_.registry->seq();
  EXPECT_EQ(gate_.Enter(token, ticket), std::nullopt);
  ticket = IssuanceGate::Ticket();
  EXPECT_EQ(state("retired").value().state(), "retired");
  EXPECT_THAT(state("active"), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(state("gone"), StatusIs(kInvalid));
}

TEST_F(AdministrationTest, T3AGrantOlderThanASuspensionIsVoidAfterIt) {
  const std::string grant = World();
  EXPECT_EQ(Call<v1::Grant>("GetGrant", ById(grant)).value().state(), "active");
  v1::SetIdentityStateRequest state;
  state.set_spiffe_id(kPlanner);
  for (const char* next : {"suspended", "active"}) {
    state.set_state(next);
    SIGNET_ASSERT_OK(Call<v1::Identity>("SetIdentityState", state));
  }
  EXPECT_EQ(Call<v1::Grant>("GetGrant", ById(grant)).value().state(), "void");
  EXPECT_EQ(Call<v1::ListGrantsResponse>("ListGrants", v1::ListRequest()).value().grants(0).state(), "void");
  EXPECT_THAT(Call<v1::Task>("CreateTask", Task(grant)), StatusIs(absl::StatusCode::kFailedPrecondition));
  const std::string anew = Call<v1::Grant>("CreateGrant", Grant()).value().id();
  EXPECT_EQ(Call<v1::Grant>("GetGrant", ById(anew)).value().state(), "active");
  EXPECT_THAT(Call<v1::Task>("CreateTask", Task(anew)), IsOk());
}

TEST_F(AdministrationTest, RevokesAndReinstatesByKindAndEntity) {
  World();
  const auto revoke = [&](const std::string& kind, const std::string& entity) {
    v1::RevokeRequest request;
    request.set_kind(kind);
    request.set_entity(entity);
    request.set_reason("why");
    return Call<v1::Revocation>("Revoke", request);
  };
  EXPECT_THAT(revoke("none", "x"), StatusIs(kInvalid, HasSubstr("kind")));
  EXPECT_THAT(revoke("token", ""), StatusIs(kInvalid, HasSubstr("entity")));
  EXPECT_THAT(revoke("user", "https://idp.example.org"), StatusIs(kInvalid, HasSubstr("ISSUER SUBJECT")));
  EXPECT_THAT(revoke("tool", "query"), StatusIs(kInvalid, HasSubstr("RESOURCE TOOL")));
  EXPECT_THAT(revoke("identity", "spiffe://example.org/agent/none"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(revoke("task", "task-none"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(revoke("tool", "HTTPS://mcp.example.org/orders query").value().entity(), oauth::ToolKey(kOrders, "query"));
  const v1::Revocation user = revoke("user", oauth::UserKey(kIdp, "alice b")).value();
  EXPECT_EQ(user.reason(), "why");
  EXPECT_NE(kit_.registry->revocations()->Blocks(oauth::EntityKind::kUser, user.entity()), nullptr);
  v1::RevokeRequest back;
  back.set_kind("user");
  back.set_entity(user.entity());
  EXPECT_TRUE(Call<v1::Revocation>("Reinstate", back).value().reinstated());
  EXPECT_EQ(kit_.registry->revocations()->Blocks(oauth::EntityKind::kUser, user.entity()), nullptr);
  EXPECT_THAT(Call<v1::Revocation>("Reinstate", back), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_EQ(Call<v1::ListRevocationsResponse>("ListRevocations", v1::ListRequest()).value().revocations_size(), 2);
  EXPECT_EQ(revoke("identity", kPlanner).value().kind(), "identity");
  EXPECT_EQ(Call<v1::Identity>("GetIdentity", ById(kPlanner)).value().state(), "suspended");
}

TEST_F(AdministrationTest, T5SigningKeysAreRotatedByHandAndARevokedOneNeverComesBack) {
  const auto list = [&] {
    std::vector<std::string> keys;
    const auto all = Call<v1::ListSigningKeysResponse>("ListSigningKeys", Empty()).value();
    for (const v1::SigningKey& key : all.keys()) {
      keys.push_back(absl::StrCat(key.kid(), " ", key.state(), key.revoked() ? " revoked" : ""));
    }
    return keys;
  };
  EXPECT_EQ(Call<v1::SigningKey>("PrepareSigningKey", Empty()).value().state(), "prepared");
  EXPECT_THAT(list(), ElementsAre("k1 active", "k2 prepared"));
  v1::RevokeRequest revoke;
  revoke.set_kind("signing-key");
  for (const char* kid : {"k1", "k2"}) {
    revoke.set_entity(kid);
    SIGNET_ASSERT_OK(Call<v1::Revocation>("Revoke", revoke));
  }
  EXPECT_THAT(list(), ElementsAre("k1 active revoked", "k2 prepared revoked"));
  EXPECT_THAT(Call<v1::SigningKey>("ActivateSigningKey", ById("k2")), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Call<v1::SigningKey>("ActivateSigningKey", ById("")), StatusIs(kInvalid));
  EXPECT_EQ(Call<v1::SigningKey>("RotateSigningKey", Empty()).value().kid(), "k3");
  EXPECT_THAT(list(), ElementsAre("k1 old revoked", "k3 active"));
  EXPECT_EQ(Call<v1::SigningKey>("PrepareSigningKey", Empty()).value().kid(), "k4");
  EXPECT_EQ(Call<v1::SigningKey>("ActivateSigningKey", ById("k4")).value().state(), "active");
  EXPECT_THAT(Audited(), ElementsAre("PrepareSigningKey done", "Revoke done", "Revoke done",
                                     "ActivateSigningKey refused", "ActivateSigningKey refused",
                                     "RotateSigningKey done", "PrepareSigningKey done", "ActivateSigningKey done"));
  EXPECT_THAT(Call<v1::SigningKey>("RotateSigningKey", Empty(), {.name = kConsole, .administrator = false}),
              StatusIs(kDenied));
}

TEST_F(AdministrationTest, ShowsAChainFromTheAuditAndTheLineThatEndsAtAReceipt) {
  const auto hop = [&](const std::string& previous, const std::string& actor, int depth) {
    oauth::Receipt receipt;
    receipt.jwt_id = actor;
    receipt.txn = "txn-1";
    receipt.root = oauth::Hash("root");
    receipt.token_hash = oauth::Hash(actor);
    receipt.subject_token = oauth::Hash("user's token");
    receipt.issued_at = kit_.now;
    receipt.expires_at = kit_.now + absl::Minutes(5);
    receipt.previous = previous;
    receipt.actor = actor;
    receipt.audience = kOrders;
    receipt.depth = depth;
    const std::string jws = signer_.SignReceipt(receipt).value();
    SIGNET_EXPECT_OK(testing::AwaitStatus([&](auto done) {
      audit_->Append({{"event", "exchange"}, {"txn", "txn-1"}, {"receipt", jws}}, {}, std::move(done));
    }));
    return oauth::ReceiptHash(jws);
  };
  EXPECT_THAT(Call<v1::Chain>("GetChain", ById("txn-1")), StatusIs(absl::StatusCode::kNotFound));
  const std::string root = hop("", "spiffe://example.org/agent/planner/1", 1);
  const std::string left = hop(root, "spiffe://example.org/agent/worker/1", 2);
  const v1::Chain line = Call<v1::Chain>("GetChain", ById("txn-1")).value();
  EXPECT_EQ(line.receipts_size(), 2);
  EXPECT_EQ(line.problem(), "");
  EXPECT_EQ(line.hops(1).fields().at("actor").string_value(), "spiffe://example.org/agent/worker/1");
  const std::string right = hop(root, "spiffe://example.org/agent/worker/2", 2);
  EXPECT_THAT(Call<v1::Chain>("GetChain", ById("txn-1")).value().problem(), HasSubstr("several lines"));
  const v1::Chain one = Call<v1::Chain>("GetChain", ById("txn-1/" + right)).value();
  EXPECT_EQ(one.receipts_size(), 2);
  EXPECT_EQ(one.hops(1).fields().at("actor").string_value(), "spiffe://example.org/agent/worker/2");
  EXPECT_THAT(Call<v1::Chain>("GetChain", ById("txn-1/none")), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(AdministrationTest, ShowsAndVerifiesTheAudit) {
  EXPECT_THAT(Create(kPlanner), StatusIs(kInvalid));  // its resource is not there
  v1::ListAuditRequest list;
  const v1::ListAuditResponse all = Call<v1::ListAuditResponse>("ListAudit", list).value();
  ASSERT_GE(all.records_size(), 2);
  EXPECT_THAT(all.records(all.records_size() - 1), AllOf(HasSubstr("CreateIdentity"), HasSubstr("local uid 0")));
  list.set_after_seq(1);
  EXPECT_EQ(Call<v1::ListAuditResponse>("ListAudit", list).value().records_size(), all.records_size() - 1);
  list.set_limit(1001);
  EXPECT_THAT(Call<v1::ListAuditResponse>("ListAudit", list), StatusIs(kInvalid));
  const v1::VerifyAuditResponse verified =
      Call<v1::VerifyAuditResponse>("VerifyAudit", v1::VerifyAuditRequest()).value();
  EXPECT_TRUE(verified.proven());
  EXPECT_FALSE(verified.tail_proven());
}

TEST_F(AdministrationTest, ListsAlertsInPagesAndExplains) {
  for (int i = 0; i < 3; ++i) alerts_.Raise("two-peers", kPlanner, absl::StrCat("n", i), "txn");
  v1::ListRequest request;
  request.set_page_size(2);
  const v1::ListAlertsResponse first = Call<v1::ListAlertsResponse>("ListAlerts", request).value();
  ASSERT_EQ(first.alerts_size(), 2);
  EXPECT_EQ(first.alerts(0).detail(), "n2");
  request.set_page_token(first.next_page_token());
  EXPECT_EQ(Call<v1::ListAlertsResponse>("ListAlerts", request).value().alerts(0).detail(), "n0");
  request.set_page_size(501);
  EXPECT_THAT(Call<v1::ListAlertsResponse>("ListAlerts", request), StatusIs(kInvalid));
  v1::ExplainRequest explain;
  explain.set_resource(kOrders);
  EXPECT_EQ(Call<v1::ExplainResponse>("Explain", explain).value().outcome(), kOrders);
}

TEST_F(AdministrationTest, EveryRpcOfTheServiceIsThereAndNoOther) {
  const auto* service = v1::Identity::descriptor()->file()->FindServiceByName("Administration");
  for (int i = 0; i < service->method_count(); ++i) {
    const auto* method = service->method(i);
    auto* factory = google::protobuf::MessageFactory::generated_factory();
    const std::unique_ptr<google::protobuf::Message> request(factory->GetPrototype(method->input_type())->New());
    const std::unique_ptr<google::protobuf::Message> response(factory->GetPrototype(method->output_type())->New());
    const absl::Status status = testing::AwaitStatus([&](auto done) {
      administration_->Call(method->name(), {"local uid 0"}, *request, response.get(), std::move(done));
    });
    EXPECT_THAT(status, Not(StatusIs(absl::StatusCode::kUnimplemented))) << method->name();
    EXPECT_THAT(status, Not(StatusIs(absl::StatusCode::kInternal))) << method->name();
  }
  EXPECT_THAT(Call<Empty>("Nothing", Empty()), StatusIs(absl::StatusCode::kUnimplemented));
}

TEST(AdminInputTest, IsBelowOnSegments) {
  EXPECT_TRUE(IsOrIsBelow("spiffe://td/agent/a", "spiffe://td/agent/a"));
  EXPECT_TRUE(IsOrIsBelow("spiffe://td/agent/a/1", "spiffe://td/agent/a"));
  EXPECT_FALSE(IsOrIsBelow("spiffe://td/agent/a-evil", "spiffe://td/agent/a"));
  EXPECT_FALSE(IsOrIsBelow("spiffe://td/agent", "spiffe://td/agent/a"));
  EXPECT_FALSE(IsOrIsBelow("local uid 0", "spiffe://td/agent/a"));
}

}  // namespace
}  // namespace signet::server
