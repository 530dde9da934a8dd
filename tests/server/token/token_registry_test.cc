#include "server/token/token_registry.h"

#include <atomic>
#include <future>
#include <mutex>
#include <thread>

#include "tests/server/token/registry_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr char kOrders[] = "spiffe://example.org/agent/orders";
constexpr char kIdp[] = "https://idp.example.org";

class TokenRegistryTest : public ::testing::Test {
 protected:
  static IdentityRecord Identity(const std::string& id, IdentityState state = IdentityState::kActive) {
    IdentityRecord record;
    record.spiffe_id = id;
    record.state = state;
    return record;
  }
  GrantRecord GrantOf(const std::string& subject, const std::string& identity = kOrders) const {
    GrantRecord grant;
    grant.user_issuer = kIdp;
    grant.user_subject = subject;
    grant.identity = identity;
    grant.expires_at = kit_.now + absl::Hours(1);
    return grant;
  }
  TaskRecord TaskOf() const {
    TaskRecord task;
    task.identity = kOrders;
    task.deadline = kit_.now + absl::Hours(1);
    return task;
  }
  static ResourceRecord Resource(const std::string& uri) {
    ResourceRecord resource;
    resource.uri = uri;
    return resource;
  }
  std::vector<std::string> Grants(const std::string& subject, const std::string& identity = kOrders) {
    std::vector<std::string> ids;
    for (const auto& grant : kit_.registry->GrantsOf(kIdp, subject, identity)) ids.push_back(grant->id);
    return ids;
  }

  RegistryKit kit_;
};

TEST_F(TokenRegistryTest, ShowsEveryKindFromTheFeedAndAfterARestart) {
  const IdentityRecord identity = kit_.Create(Identity(kOrders));
  IssuerRecord issuer;
  issuer.url = kIdp;
  issuer = kit_.Put(issuer);
  const ResourceRecord resource = kit_.Put(Resource("https://mcp.example.org/"));
  const GrantRecord grant = kit_.Create(GrantOf("u 1"));
  const TaskRecord task = kit_.Create(TaskOf());
  UserRightsRecord rights;
  rights.issuer = kIdp;
  rights.subject = "u 1";
  rights.at = kit_.now;
  rights = kit_.Put(rights);
  const std::string token = "jti";
  kit_.Revoke({{.kind = oauth::EntityKind::kToken, .entity = token, .not_before = kit_.now}, std::nullopt});
  for (const bool restarted : {false, true}) {
    SCOPED_TRACE(restarted);
    if (restarted) kit_.Restart();
    kit_.CatchUp();
    const TokenRegistry& registry = *kit_.registry;
    EXPECT_EQ(*registry.FindIdentity(kOrders), identity);
    EXPECT_EQ(*registry.FindIssuer(kIdp), issuer);
    EXPECT_EQ(*registry.FindResource(resource.uri), resource);
    EXPECT_EQ(registry.Resources().size(), 1u);
    EXPECT_EQ(*registry.FindGrant(grant.id), grant);
    EXPECT_EQ(*registry.FindTask(task.id), task);
    EXPECT_EQ(*registry.FindUserRights(kIdp, "u 1"), rights);
    EXPECT_NE(registry.revocations()->Find(oauth::EntityKind::kToken, token), nullptr);
    EXPECT_EQ(registry.seq(), kit_.store->LastSeq().value());
  }
  SIGNET_ASSERT_OK(testing::AwaitStatus([&](auto done) { kit_.store->DeleteIssuer(kIdp, std::move(done)); }));
  kit_.CatchUp();
  EXPECT_EQ(kit_.registry->FindIssuer(kIdp), nullptr);
  EXPECT_EQ(kit_.registry->FindIdentity("spiffe://example.org/agent/none"), nullptr);
  EXPECT_EQ(testing::Await<size_t>([&](auto done) {
              kit_.store->PruneRevocations(kit_.now + absl::Seconds(1), kit_.now + absl::Seconds(1), std::move(done));
            }).value(),
            1u);
  kit_.CatchUp();
  EXPECT_EQ(kit_.registry->revocations()->size(), 0u);
}

TEST_F(TokenRegistryTest, InstancesBelongToThePathAboveThemOnSegments) {
  kit_.Create(Identity(kOrders));
  kit_.CatchUp();
  const auto of = [&](const std::string& id) {
    const auto identity = kit_.registry->IdentityOf(id);
    return identity == nullptr ? "" : identity->spiffe_id;
  };
  EXPECT_EQ(of(kOrders), kOrders);
  EXPECT_EQ(of("spiffe://example.org/agent/orders/7c1f"), kOrders);
  EXPECT_EQ(of("spiffe://example.org/agent/orders-evil"), "");
  EXPECT_EQ(of("spiffe://example.org/agent/orders-evil/7c1f"), "");
  EXPECT_EQ(of("spiffe://example.org/agent/orders/7c1f/deeper"), "");
  EXPECT_EQ(of("spiffe://example.org/agent"), "");
  EXPECT_EQ(of("spiffe://example.org"), "");
  EXPECT_EQ(of(""), "");
}

TEST_F(TokenRegistryTest, T7AFederatedClientIsItsFullSpiffeIdAlone) {
  kit_.Create(Identity("spiffe://partner.org/agent/orders"));
  kit_.CatchUp();
  EXPECT_NE(kit_.registry->IdentityOf("spiffe://partner.org/agent/orders"), nullptr);
  EXPECT_EQ(kit_.registry->IdentityOf("spiffe://partner.org/agent/orders/7c1f"), nullptr);
}

TEST_F(TokenRegistryTest, FindsActiveGrantsOfAUserForAnIdentity) {
  const std::string a = kit_.Create(GrantOf("u")).id, b = kit_.Create(GrantOf("u")).id;
  kit_.Create(GrantOf("u", "spiffe://example.org/agent/other"));
  kit_.Create(GrantOf("u2"));
  kit_.CatchUp();
  EXPECT_THAT(Grants("u"), UnorderedElementsAre(a, b));
  kit_.Revoke({{.kind = oauth::EntityKind::kGrant, .entity = a, .not_before = kit_.now}, std::nullopt});
  kit_.CatchUp();
  EXPECT_THAT(Grants("u"), ElementsAre(b));
  EXPECT_EQ(kit_.registry->FindGrant(a)->state, GrantState::kRevoked);
  kit_.Restart();
  EXPECT_THAT(Grants("u"), ElementsAre(b));
  EXPECT_THAT(Grants("none"), IsEmpty());
}

TEST_F(TokenRegistryTest, ListenersHearOfEveryPositionAfterItShows) {
  std::mutex mutex;
  std::vector<TokenRegistry::ChangeNote> notes;
  bool shown = true;
  auto subscription = kit_.registry->Subscribe([&](const TokenRegistry::ChangeNote& note) {
    std::lock_guard lock(mutex);
    notes.push_back(note);
    shown = shown && kit_.registry->seq() == note.seq;
    for (const oauth::Revocation& revocation : note.revocations) {
      shown = shown && kit_.registry->revocations()->Find(revocation.kind, revocation.entity) != nullptr;
    }
  });
  kit_.Put(Resource("https://mcp.example.org/"));
  kit_.CatchUp();
  kit_.Revoke({{.kind = oauth::EntityKind::kToken, .entity = "jti", .not_before = kit_.now}, std::nullopt});
  kit_.CatchUp();
  SIGNET_ASSERT_OK(testing::CreateEntries(*kit_.store, {TestEntry("/x")}, kit_.now));  // nothing of ours
  kit_.CatchUp();
  subscription.reset();
  kit_.Put(Resource("https://mcp.example.org/2"));
  kit_.CatchUp();
  ASSERT_EQ(notes.size(), 3u);
  EXPECT_THAT(notes[0].resources, ElementsAre("https://mcp.example.org/"));
  EXPECT_EQ(notes[1].revocations.size(), 1u);
  EXPECT_EQ(notes[2].seq, 3u);
  EXPECT_THAT(notes[2].resources, IsEmpty());
  EXPECT_TRUE(shown);
}

TEST_F(TokenRegistryTest, DroppingASubscriptionWaitsForARunningCall) {
  std::promise<void> inside, go;
  std::atomic<bool> dropped = false, ended_before_drop = false;
  auto subscription = kit_.registry->Subscribe([&](const TokenRegistry::ChangeNote&) {
    inside.set_value();
    go.get_future().wait();
    ended_before_drop = !dropped;
  });
  kit_.Put(Resource("https://mcp.example.org/"));
  inside.get_future().wait();
  std::thread dropper([&] {
    subscription.reset();
    dropped = true;
  });
  go.set_value();
  dropper.join();
  EXPECT_TRUE(ended_before_drop);
}

// Suspension end to end in memory: what an agent is authorised for.
class SuspensionTest : public TokenRegistryTest {
 protected:
  SuspensionTest() {
    const AgentRecord agent = TestAgent("/spire/agent/x", kit_.now + absl::Hours(1));
    if (!testing::AwaitStatus([&](auto done) {
           kit_.store->Attest({.agent = agent}, kit_.now, std::move(done));
         }).ok()) {
      abort();
    }
    kit_.Create(Identity(kOrders));
  }
  void Add(absl::string_view path, bool admin = false) {
    spiffe::Entry entry = TestEntry(path);
    entry.admin = admin;
    SIGNET_ASSERT_OK(testing::CreateEntries(*kit_.store, {entry}, kit_.now));
  }
  std::vector<std::string> Authorized() {
    kit_.CatchUp();
    std::vector<std::string> paths;
    for (const EntryPtr& entry : kit_.index->AuthorizedEntries(TestId("/spire/agent/x"))) {
      paths.emplace_back(entry->spiffe_id.path());
    }
    return paths;
  }
};

TEST_F(SuspensionTest, TakesTheEntriesFromAgentsAndReinstatementBringsThemBack) {
  Add("/agent/orders/1", /*admin=*/true);
  Add("/agent/orders-evil/1");
  const auto both = UnorderedElementsAre("/agent/orders/1", "/agent/orders-evil/1");
  EXPECT_THAT(Authorized(), both);
  std::promise<uint64_t> told;
  const auto subscription =
      kit_.index->Subscribe(TestId("/spire/agent/x"), [&](const AgentChange& change) { told.set_value(change.seq); });
  const uint64_t seq = kit_.Suspend(kOrders);
  EXPECT_LE(told.get_future().get(), seq);  // the agent's stream hears of it by itself
  EXPECT_THAT(Authorized(), ElementsAre("/agent/orders-evil/1"));
  EXPECT_THAT(kit_.index->EntriesWithSpiffeId(TestId("/agent/orders/1")), IsEmpty());  // and no admin is left of it
  EXPECT_NE(kit_.registry->revocations()->Blocks(oauth::EntityKind::kIdentity, kOrders), nullptr);
}

TEST_F(SuspensionTest, HoldsForLaterEntriesAndOverARestart) {
  Add("/agent/orders/1");
  kit_.Suspend(kOrders);
  Add("/agent/orders/2");
  Add("/other");
  EXPECT_THAT(Authorized(), ElementsAre("/other"));
  kit_.Restart();
  EXPECT_THAT(Authorized(), ElementsAre("/other"));
  EXPECT_EQ(kit_.store->CountEntries({}).value(), 3u);
  kit_.Reinstate(oauth::EntityKind::kIdentity, kOrders);
  EXPECT_THAT(Authorized(), UnorderedElementsAre("/agent/orders/1", "/agent/orders/2", "/other"));
  kit_.Suspend(kOrders, IdentityState::kRetired);
  EXPECT_THAT(Authorized(), ElementsAre("/other"));
}

// The registry is told first: in between, an agent may still hold an SVID, but no token is made with it.
TEST_F(SuspensionTest, TheRevocationHoldsBeforeTheEntriesGo) {
  Add("/agent/orders/1");
  kit_.CatchUp();
  std::promise<bool> blocked;
  const auto subscription = kit_.index->Subscribe(TestId("/spire/agent/x"), [&](const AgentChange&) {
    blocked.set_value(kit_.registry->revocations()->Blocks(oauth::EntityKind::kIdentity, kOrders) != nullptr);
  });
  kit_.Suspend(kOrders);
  EXPECT_TRUE(blocked.get_future().get());
}

}  // namespace
}  // namespace signet::server
