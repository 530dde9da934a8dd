#include "server/api/authorizer.h"

#include <fstream>
#include <map>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "grpc/reflection/v1alpha/reflection.pb.h"
#include "signet/server/token/v1/token.pb.h"
#include "signet/server/v1/agent_sync.pb.h"
#include "spire/api/server/agent/v1/agent.pb.h"
#include "spire/api/server/bundle/v1/bundle.pb.h"
#include "spire/api/server/debug/v1/debug.pb.h"
#include "spire/api/server/entry/v1/entry.pb.h"
#include "spire/api/server/localauthority/v1/localauthority.pb.h"
#include "spire/api/server/logger/v1/logger.pb.h"
#include "spire/api/server/svid/v1/svid.pb.h"
#include "spire/api/server/trustdomain/v1/trustdomain.pb.h"
#include "spire/api/types/status.pb.h"
#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using spire::api::types::PermissionDeniedDetails;
using testing::IsOk;
using testing::StatusIs;

const spiffe::Id kAgentId = IdOf("/spire/agent/join_token/a");

PermissionDeniedDetails::Reason ReasonOf(const absl::Status& status) {
  PermissionDeniedDetails details;
  const auto payload = status.GetPayload(kPermissionDeniedDetails);
  if (payload) details.ParseFromString(std::string(*payload));
  return details.reason();
}

std::map<std::string, std::string> Table() {
  std::map<std::string, std::string> table;
  std::ifstream file(std::string(SIGNET_TEST_DATA_DIR) + "/authorization.txt");
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    const std::pair<std::string, std::string> cells = absl::StrSplit(line, ' ');
    table[cells.first] = cells.second;
  }
  return table;
}

TEST(MethodTableTest, SaysWhatTheTableOfRightsSays) {
  std::map<std::string, std::string> said;
  for (const MethodRow& row : kMethodTable) {
    std::string& cell = said[std::string(row.path)];
    EXPECT_EQ(cell, "") << row.path << " is there twice";
    if (row.grants & kAny) cell += "*";
    if (row.grants & kLocal) cell += "L";
    if (row.grants & kAdmin) cell += "A";
    if (row.grants & kOwnAdmin) cell += "O";
    if (row.grants & kAgent) cell += "G";
    if (row.grants & kDownstream) cell += "D";
    EXPECT_NE(cell, "") << row.path;
  }
  EXPECT_EQ(said, Table());
}

TEST(MethodTableTest, HasEveryMethodOfEveryService) {
  std::set<std::string> wire;
  for (const google::protobuf::FileDescriptor* file :
       {::spire::api::server::agent::v1::CountAgentsRequest::descriptor()->file(),
        ::spire::api::server::bundle::v1::CountBundlesRequest::descriptor()->file(),
        ::spire::api::server::debug::v1::GetInfoRequest::descriptor()->file(),
        ::spire::api::server::entry::v1::CountEntriesRequest::descriptor()->file(),
        ::spire::api::server::localauthority::v1::GetJWTAuthorityStateRequest::descriptor()->file(),
        ::spire::api::server::logger::v1::GetLoggerRequest::descriptor()->file(),
        ::spire::api::server::svid::v1::MintX509SVIDRequest::descriptor()->file(),
        ::spire::api::server::trustdomain::v1::RefreshBundleRequest::descriptor()->file(),
        ::signet::server::v1::Hello::descriptor()->file(), ::signet::server::token::v1::Identity::descriptor()->file(),
        ::grpc::health::v1::HealthCheckRequest::descriptor()->file(),
        ::grpc::reflection::v1::ServerReflectionRequest::descriptor()->file(),
        ::grpc::reflection::v1alpha::ServerReflectionRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        wire.insert(absl::StrCat("/", file->service(s)->full_name(), "/", file->service(s)->method(m)->name()));
      }
    }
  }
  std::set<std::string> table;
  for (const MethodRow& row : kMethodTable) table.insert(std::string(row.path));
  EXPECT_EQ(table, wire);
}

// Each method times each kind of caller. `letters`: the rights that this caller has.
class AuthorizerCellsTest : public ::testing::Test {
 protected:
  AuthorizerCellsTest() {
    kit_.Attest(AgentOf("/spire/agent/join_token/a", "1"));
    kit_.Attest(AgentOf("/spire/agent/join_token/banned", "1"));
    kit_.Ban(IdOf("/spire/agent/join_token/banned"));
    spiffe::Entry admin = EntryOf("/admin"), downstream = EntryOf("/nested");
    admin.admin = true;
    downstream.downstream = true;
    kit_.Create(admin);
    kit_.Create(downstream);
    kit_.Create(EntryOf("/plain"));
  }

  void ExpectCells(const CallerPtr& caller, const std::string& letters, absl::StatusCode refusal) {
    for (const auto& [path, rights] : Table()) {
      const auto* row = std::find_if(std::begin(kMethodTable), std::end(kMethodTable),
                                     [&](const MethodRow& r) { return r.path == path; });
      ASSERT_NE(row, std::end(kMethodTable)) << path;
      const auto method = static_cast<Method>(row - kMethodTable);
      kit_.clock.Advance(absl::Seconds(2));  // past the memory of confirmed refusals
      Authorizer::Decision decision = kit_.authorizer.Decide(method, caller);
      if (decision.confirm) decision = kit_.authorizer.Confirm(method, caller);  // memory and database agree
      const bool may = rights == "*" || rights.find_first_of(letters) != std::string::npos;
      EXPECT_THAT(decision.status, StatusIs(may ? absl::StatusCode::kOk : refusal))
          << path << " by " << caller->ToString();
    }
  }

  ApiKit kit_;
};

constexpr absl::StatusCode kDenied = absl::StatusCode::kPermissionDenied;
constexpr absl::StatusCode kUnknown = absl::StatusCode::kUnauthenticated;

TEST_F(AuthorizerCellsTest, Local) { ExpectCells(LocalCaller(), "L", kDenied); }
TEST_F(AuthorizerCellsTest, AdminByEntry) { ExpectCells(TlsCaller(IdOf("/admin")), "AO", kDenied); }
TEST_F(AuthorizerCellsTest, AdminById) { ExpectCells(TlsCaller(IdOf("/ops/admin")), "AO", kDenied); }
// T7: administers SPIRE's side where it is told so, never the token service.
TEST_F(AuthorizerCellsTest, T7AdminByIdOfFederatedDomain) {
  ExpectCells(TlsCaller(spiffe::Id::Parse("spiffe://partner.org/admin").value()), "A", kDenied);
}
TEST_F(AuthorizerCellsTest, Agent) { ExpectCells(TlsCaller(kAgentId), "G", kDenied); }
TEST_F(AuthorizerCellsTest, Downstream) { ExpectCells(TlsCaller(IdOf("/nested")), "D", kDenied); }
TEST_F(AuthorizerCellsTest, WorkloadWithoutRights) { ExpectCells(TlsCaller(IdOf("/plain")), "", kDenied); }
TEST_F(AuthorizerCellsTest, Anonymous) { ExpectCells(std::make_shared<Caller>(), "", kUnknown); }
TEST_F(AuthorizerCellsTest, BannedAgent) {
  ExpectCells(TlsCaller(IdOf("/spire/agent/join_token/banned")), "", kDenied);
}
TEST_F(AuthorizerCellsTest, UnknownAgent) { ExpectCells(TlsCaller(IdOf("/spire/agent/join_token/new")), "", kDenied); }
TEST_F(AuthorizerCellsTest, AgentWithAnotherSerial) { ExpectCells(TlsCaller(kAgentId, "99"), "", kDenied); }
TEST_F(AuthorizerCellsTest, SameIdInAnotherTrustDomain) {
  ExpectCells(TlsCaller(spiffe::Id::Parse("spiffe://partner.org/spire/agent/join_token/a").value()), "", kDenied);
  ExpectCells(TlsCaller(spiffe::Id::Parse("spiffe://partner.org/ops/admin").value()), "", kDenied);
}
TEST_F(AuthorizerCellsTest, ExpiredAdmin) {
  ExpectCells(TlsCaller(IdOf("/ops/admin"), "1", kit_.clock.Now()), "", kUnknown);
}
TEST_F(AuthorizerCellsTest, ExpiredAgent) {
  const CallerPtr caller = TlsCaller(kAgentId, "1", kit_.clock.Now());
  for (const Method method : {Method::kRenewAgent, Method::kNewJWTSVID, Method::kSync}) {
    const Authorizer::Decision decision = kit_.authorizer.Decide(method, caller);
    EXPECT_THAT(decision.status, StatusIs(kDenied));
    EXPECT_EQ(ReasonOf(decision.status), PermissionDeniedDetails::AGENT_EXPIRED);
  }
  EXPECT_THAT(kit_.authorizer.Decide(Method::kListAgents, caller).status, StatusIs(kUnknown));
}

TEST_F(AuthorizerCellsTest, TellsAgentsWhatToDo) {
  const auto reason = [&](const CallerPtr& caller) {
    return ReasonOf(kit_.authorizer.Confirm(Method::kSync, caller).status);
  };
  EXPECT_EQ(reason(TlsCaller(IdOf("/spire/agent/join_token/banned"))), PermissionDeniedDetails::AGENT_BANNED);
  EXPECT_EQ(reason(TlsCaller(IdOf("/spire/agent/join_token/new"))), PermissionDeniedDetails::AGENT_NOT_ATTESTED);
  EXPECT_EQ(reason(TlsCaller(kAgentId, "99")), PermissionDeniedDetails::AGENT_NOT_ACTIVE);
  EXPECT_EQ(ReasonOf(MustReattestError()), PermissionDeniedDetails::AGENT_MUST_REATTEST);
}

TEST_F(AuthorizerCellsTest, RevokedRightsEndAtOnce) {
  EXPECT_THAT(kit_.authorizer.Decide(Method::kSync, TlsCaller(kAgentId)).status, IsOk());
  kit_.Ban(kAgentId);
  EXPECT_THAT(kit_.authorizer.Decide(Method::kSync, TlsCaller(kAgentId)).status, StatusIs(kDenied));
}

TEST_F(AuthorizerCellsTest, RenewedSerialCountsAndReplacesTheOldOne) {
  SIGNET_ASSERT_OK(testing::AwaitStatus(
      [&](auto done) { kit_.store->SetNewSerial(kAgentId, "2", kit_.clock.Now() + absl::Hours(1), std::move(done)); }));
  kit_.CatchUp();
  EXPECT_THAT(kit_.authorizer.Decide(Method::kSync, TlsCaller(kAgentId, "1")).status, IsOk());
  EXPECT_THAT(kit_.authorizer.Decide(Method::kSync, TlsCaller(kAgentId, "2")).status, IsOk());
  // The use of the new one made it current.
  while (kit_.store->GetAgent(kAgentId).value().serial != "2") std::this_thread::yield();
  kit_.CatchUp();
  EXPECT_THAT(kit_.authorizer.Decide(Method::kSync, TlsCaller(kAgentId, "2")).status, IsOk());
  const Authorizer::Decision old = kit_.authorizer.Decide(Method::kSync, TlsCaller(kAgentId, "1"));
  EXPECT_EQ(ReasonOf(old.status), PermissionDeniedDetails::AGENT_NOT_ACTIVE);
  EXPECT_TRUE(old.superseded);
}

// Memory that knows nothing: what another server has just written is found in the database before a refusal.
class AuthorizerLaggingTest : public ::testing::Test {
 protected:
  absl::Status Authorize(Method method, const CallerPtr& caller) {
    kit_.callers.caller = caller;
    std::promise<absl::Status> result;
    grpc::CallbackServerContext context;
    kit_.authorizer.Authorize(method, context,
                              [&](const absl::StatusOr<CallerPtr>& granted) { result.set_value(granted.status()); });
    return result.get_future().get();
  }
  ApiKit kit_{/*follow=*/false};
};

TEST_F(AuthorizerLaggingTest, AgentInTheDatabaseAloneIsGranted) {
  kit_.Attest(AgentOf("/spire/agent/join_token/a", "1"));
  EXPECT_TRUE(kit_.authorizer.Decide(Method::kSync, TlsCaller(kAgentId)).confirm);
  EXPECT_THAT(Authorize(Method::kSync, TlsCaller(kAgentId)), IsOk());
}

TEST_F(AuthorizerLaggingTest, AdminEntryInTheDatabaseAloneIsGranted) {
  spiffe::Entry admin = EntryOf("/admin");
  admin.admin = true;
  kit_.Create(admin);
  EXPECT_THAT(Authorize(Method::kListAgents, TlsCaller(IdOf("/admin"))), IsOk());
  EXPECT_THAT(Authorize(Method::kNewDownstreamX509CA, TlsCaller(IdOf("/admin"))), StatusIs(kDenied));
}

TEST_F(AuthorizerLaggingTest, AWithdrawnAdminEntryGrantsNothing) {
  IdentityRecord identity;
  identity.spiffe_id = IdOf("/agent/ops").string();
  identity.state = IdentityState::kActive;
  SIGNET_ASSERT_OK(testing::Await<IdentityRecord>(
      [&](auto done) { kit_.store->CreateIdentity(identity, kit_.clock.Now(), std::move(done)); }));
  spiffe::Entry admin = EntryOf("/agent/ops/1");
  admin.admin = true;
  kit_.Create(admin);
  RevokeChange suspend;
  suspend.revocation.kind = oauth::EntityKind::kIdentity;
  suspend.revocation.entity = identity.spiffe_id;
  suspend.identity_state = IdentityState::kSuspended;
  SIGNET_ASSERT_OK(
      testing::Await<uint64_t>([&](auto done) { kit_.store->Revoke(suspend, kit_.clock.Now(), std::move(done)); }));
  EXPECT_THAT(Authorize(Method::kListAgents, TlsCaller(IdOf("/agent/ops/1"))), StatusIs(kDenied));
}

TEST_F(AuthorizerLaggingTest, RefusalIsConfirmedOncePerCallerAndSecond) {
  EXPECT_THAT(Authorize(Method::kSync, TlsCaller(kAgentId)), StatusIs(kDenied));
  kit_.Attest(AgentOf("/spire/agent/join_token/a", "1"));
  EXPECT_THAT(Authorize(Method::kSync, TlsCaller(kAgentId)), StatusIs(kDenied));  // within the second: not asked again
  EXPECT_THAT(Authorize(Method::kSync, TlsCaller(kAgentId, "7")), StatusIs(kDenied));
  kit_.clock.Advance(absl::Seconds(1));
  EXPECT_THAT(Authorize(Method::kSync, TlsCaller(kAgentId)), IsOk());
}

}  // namespace
}  // namespace signet::server
