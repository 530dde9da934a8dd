#include "agent/sync/memory_svid_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/telemetry/metrics.h"
#include "spiffe/workload/workload.pb.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::StatusIs;

// Collects the updates of one subscription.
class Stream {
 public:
  SvidCache::OnUpdate callback() {
    return [this](UpdatePtr update) {
      std::lock_guard lock(mutex_);
      updates_.push_back(std::move(update));
      changed_.notify_all();
    };
  }
  UpdatePtr Await(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return updates_.size() >= count; });
    return updates_[count - 1];
  }
  bool AwaitFor(size_t count, absl::Duration at_most) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoMilliseconds(at_most), [&] { return updates_.size() >= count; });
  }
  size_t count() {
    std::lock_guard lock(mutex_);
    return updates_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<UpdatePtr> updates_;
};

std::vector<std::string> IdsOf(const std::vector<EntryPtr>& entries) {
  std::vector<std::string> ids;
  for (const EntryPtr& entry : entries) ids.push_back(entry->id);
  return ids;
}
std::vector<std::string> IdsOf(const UpdatePtr& update) {
  std::vector<std::string> ids;
  for (const Identity& identity : update->identities) ids.push_back(identity.entry->id);
  return ids;
}

class MemorySvidCacheTest : public ::testing::Test {
 protected:
  Instant Now() { return {clock_.Now(), clock_.Steady()}; }

  void Put(std::vector<spiffe::Entry> entries, bool mint = true) {
    std::vector<std::string> ids;
    for (const spiffe::Entry& entry : entries) ids.push_back(entry.id);
    cache_.Apply({std::move(entries), {}, {}, {}});
    if (mint) Mint(ids);
  }
  void Mint(const std::vector<std::string>& ids) {
    std::vector<HeldSvid> svids;
    for (const std::string& id : ids) svids.push_back(authority_.Mint(cache_.FindEntry(id), Now()));
    cache_.SetSvids(std::move(svids));
  }
  void Ready() {
    cache_.Apply({{}, {}, {authority_.bundle()}, {}});
    cache_.SetReady(clock_.Now());
  }
  // Until the notifier has told everything that was due: a newcomer is told last.
  void Settle() {
    if (!cache_.ready()) return clock_.AwaitWaiters(1);
    Stream newcomer;
    auto subscription = cache_.Subscribe(Sel({"nobody:matches"}), newcomer.callback());
    newcomer.Await(1);
  }

  fakes::FakeClock clock_;
  TestAuthority authority_{clock_.Now()};
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  MemorySvidCache cache_{Td(), clock_, metrics_, {}};
};

TEST_F(MemorySvidCacheTest, MatchesSubsetsOldestFirstAndKeepsTheOldestOfAHint) {  // WL-13, WL-24
  spiffe::Entry young = EntryOf("young", {"unix:uid:1"}, 300), old = EntryOf("old", {"unix:uid:1", "unix:gid:1"}, 200),
                twin = EntryOf("twin", {"unix:uid:1"}, 400), other = EntryOf("other", {"unix:uid:2"}, 1),
                stored = EntryOf("stored", {"unix:uid:1"}, 1);
  old.hint = twin.hint = "main";
  stored.store_svid = true;
  Put({young, old, twin, other, stored}, false);
  EXPECT_THAT(IdsOf(cache_.MatchingEntries(Sel({"unix:uid:1", "unix:gid:1"}))), ElementsAre("old", "young"));
  EXPECT_THAT(IdsOf(cache_.MatchingEntries(Sel({"unix:uid:1"}))), ElementsAre("young", "twin"));
  EXPECT_THAT(cache_.MatchingEntries(Sel({"unix:gid:1"})), IsEmpty());
  EXPECT_THAT(cache_.MatchingEntries({}), IsEmpty());
}

TEST_F(MemorySvidCacheTest, EntryWithoutSelectorsMatchesNothing) {  // N15
  Put({EntryOf("empty", {})}, false);
  EXPECT_THAT(cache_.MatchingEntries(Sel({"unix:uid:1"})), IsEmpty());
}

TEST_F(MemorySvidCacheTest, MatchingAgreesWithTheNaiveOracle) {
  std::mt19937 random(7);
  const auto some = [&](size_t most) {
    std::vector<std::string> texts;
    for (size_t i = random() % (most + 1); i > 0; --i) texts.push_back(absl::StrCat("t:", random() % 12));
    return Sel(texts);
  };
  std::map<std::string, spiffe::Entry> model;
  for (int step = 0; step < 2000; ++step) {
    const std::string id = absl::StrCat("e", random() % 60);
    if (random() % 4 == 0) {
      model.erase(id);
      cache_.Apply({{}, {id}, {}, {}});
    } else {
      spiffe::Entry entry = EntryOf(id, {}, static_cast<int64_t>(random() % 50));
      entry.selectors = some(3);
      entry.hint = random() % 3 == 0 ? absl::StrCat("h", random() % 4) : "";
      entry.revision = step;
      model.insert_or_assign(id, entry);
      cache_.Apply({{entry}, {}, {}, {}});
    }
    const spiffe::Selectors caller = some(6);
    std::vector<const spiffe::Entry*> matching;
    for (const auto& [_, entry] : model) {
      if (spiffe::IsSubset(entry.selectors, caller)) matching.push_back(&entry);
    }
    std::sort(matching.begin(), matching.end(),
              [](auto* a, auto* b) { return std::tie(a->created_at, a->id) < std::tie(b->created_at, b->id); });
    std::vector<std::string> expected;
    std::set<std::string> hints;
    for (const spiffe::Entry* entry : matching) {
      if (entry->hint.empty() || hints.insert(entry->hint).second) expected.push_back(entry->id);
    }
    ASSERT_EQ(IdsOf(cache_.MatchingEntries(caller)), expected) << "step " << step;
  }
}

TEST_F(MemorySvidCacheTest, FirstUpdateIsWholeAndSharedByStreamsOfOneIdentitySet) {  // WL-3, WL-26
  Ready();
  Put({EntryOf("a", {"unix:uid:1"}, 1), EntryOf("b", {"unix:uid:1"}, 2)});
  Stream one, two;
  auto first = cache_.Subscribe(Sel({"unix:uid:1"}), one.callback());
  auto second = cache_.Subscribe(Sel({"unix:uid:1", "unix:gid:5"}), two.callback());
  const UpdatePtr update = one.Await(1);
  EXPECT_EQ(update.get(), two.Await(1).get());
  X509SVIDResponse response;
  ASSERT_TRUE(response.ParseFromString(update->x509_response));
  ASSERT_THAT(response.svids(), SizeIs(2));
  const spiffe::X509Svid& svid = *update->identities[0].svid;
  EXPECT_EQ(response.svids(0).spiffe_id(), "spiffe://example.org/a");
  EXPECT_EQ(response.svids(0).x509_svid(), svid.ChainDer());
  EXPECT_EQ(response.svids(0).x509_svid_key(), svid.key.Pkcs8Der());
  EXPECT_EQ(response.svids(0).bundle(), authority_.bundle().X509Der());
  EXPECT_THAT(response.federated_bundles(), IsEmpty());
}

TEST_F(MemorySvidCacheTest, FirstUpdateWaitsForEverySvidAndAsksForThem) {
  Ready();
  std::atomic<int> asked = 0;
  cache_.SetOnWanted([&] { ++asked; });
  Put({EntryOf("a", {"unix:uid:1"}, 1), EntryOf("b", {"unix:uid:1"}, 2)}, false);
  asked = 0;
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  EXPECT_EQ(asked, 1);
  EXPECT_THAT(MakeRefreshPlan(cache_.PlanItems(), Now()).fetch, ElementsAre("a", "b"));
  Mint({"a"});
  Settle();
  EXPECT_EQ(stream.count(), 0u);
  Mint({"b"});
  EXPECT_THAT(IdsOf(stream.Await(1)), ElementsAre("a", "b"));
}

TEST_F(MemorySvidCacheTest, RefusedEntryIsNotWaitedFor) {
  Ready();
  Put({EntryOf("a", {"unix:uid:1"}, 1), EntryOf("b", {"unix:uid:1"}, 2)}, false);
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  Mint({"a"});
  cache_.SetRefused({"b"});
  EXPECT_THAT(IdsOf(stream.Await(1)), ElementsAre("a"));
}

TEST_F(MemorySvidCacheTest, NotEntitledIsSaidAtOnceButNothingBeforeReady) {
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  Settle();
  EXPECT_EQ(stream.count(), 0u);
  EXPECT_FALSE(cache_.ready());
  Ready();
  const UpdatePtr update = stream.Await(1);
  EXPECT_THAT(update->identities, IsEmpty());
  EXPECT_EQ(update->x509_response, "");
}

TEST_F(MemorySvidCacheTest, RemovedEntryLeavesMatchingAtOnceAndTheStreamIsToldTheRest) {  // WL-7
  Ready();
  Put({EntryOf("a", {"unix:uid:1"}, 1), EntryOf("b", {"unix:uid:1"}, 2)});
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  stream.Await(1);
  cache_.Apply({{}, {"a"}, {}, {}});
  EXPECT_THAT(IdsOf(cache_.MatchingEntries(Sel({"unix:uid:1"}))), ElementsAre("b"));
  EXPECT_THAT(IdsOf(stream.Await(2)), ElementsAre("b"));
  clock_.Advance(absl::Seconds(1));
  cache_.Apply({{}, {"b"}, {}, {}});
  EXPECT_THAT(stream.Await(3)->identities, IsEmpty());
}

TEST_F(MemorySvidCacheTest, NobodyIsToldOfAChangeBeforeItIsRecorded) {  // F3: what is given must be on disk
  Ready();
  Put({EntryOf("a", {"unix:uid:1"})});
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:2"}), stream.callback());
  EXPECT_THAT(IdsOf(stream.Await(1)), IsEmpty());
  clock_.AwaitWaiters(1);
  cache_.Apply({.upserts = {EntryOf("a", {"unix:uid:2"})}}, [&] {
    EXPECT_THAT(cache_.MatchingEntries(Sel({"unix:uid:1"})), IsEmpty());  // what it takes away has gone
    EXPECT_FALSE(stream.AwaitFor(2, absl::Milliseconds(50)));
  });
  EXPECT_THAT(IdsOf(stream.Await(2)), ElementsAre("a"));
}

TEST_F(MemorySvidCacheTest, NarrowedSelectorsTakeTheIdentityAway) {
  Ready();
  spiffe::Entry entry = EntryOf("a", {"unix:uid:1"});
  Put({entry});
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  stream.Await(1);
  entry.selectors = Sel({"unix:uid:1", "unix:gid:7"});
  entry.revision = 1;
  Put({entry}, false);
  EXPECT_THAT(stream.Await(2)->identities, IsEmpty());
}

TEST_F(MemorySvidCacheTest, ChangedSpiffeIdIsNeverServedWithTheOldSvidAndDoesNotEndTheStream) {
  Ready();
  spiffe::Entry entry = EntryOf("a", {"unix:uid:1"});
  Put({entry});
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  stream.Await(1);
  entry.spiffe_id = IdOf("/renamed");
  entry.revision = 1;
  Put({entry}, false);
  Settle();
  EXPECT_EQ(stream.count(), 1u);  // not told "nothing" while the new one is being signed
  Stream late;
  auto other = cache_.Subscribe(Sel({"unix:uid:1"}), late.callback());
  Settle();
  EXPECT_EQ(late.count(), 0u);
  clock_.Advance(absl::Seconds(1));
  Mint({"a"});
  EXPECT_EQ(stream.Await(2)->identities[0].svid->id, IdOf("/renamed"));
  EXPECT_EQ(late.Await(1)->identities[0].svid->id, IdOf("/renamed"));
}

TEST_F(MemorySvidCacheTest, SvidForAnEntryThatWentMeanwhileIsDropped) {
  Ready();
  Put({EntryOf("a", {"unix:uid:1"})}, false);
  HeldSvid late = authority_.Mint(cache_.FindEntry("a"), Now());
  cache_.Apply({{}, {"a"}, {}, {}});
  cache_.SetSvids({late});
  EXPECT_EQ(cache_.counts().x509_svids, 0u);
}

TEST_F(MemorySvidCacheTest, QuickChangesAreMerged) {  // WL-5
  Ready();
  Put({EntryOf("a", {"unix:uid:1"})});
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  stream.Await(1);
  Mint({"a"});
  stream.Await(2);  // the first change goes out at once
  for (int i = 0; i < 100; ++i) Mint({"a"});
  Settle();
  EXPECT_EQ(stream.count(), 2u);
  clock_.Advance(absl::Milliseconds(50));
  const UpdatePtr last = stream.Await(3);
  clock_.Advance(absl::Seconds(1));
  Settle();
  EXPECT_EQ(stream.count(), 3u);
  EXPECT_EQ(last->identities[0].svid, cache_.Snapshot().svids[0].svid);
}

TEST_F(MemorySvidCacheTest, ChangesThatDoNotConcernAStreamAreNotSent) {
  Ready();
  Put({EntryOf("a", {"unix:uid:1"}), EntryOf("b", {"unix:uid:2"})});
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  stream.Await(1);
  clock_.Advance(absl::Seconds(1));
  Mint({"b"});
  cache_.Apply({{}, {}, {authority_.bundle()}, {}});  // the same content
  clock_.Advance(absl::Seconds(1));
  Settle();
  EXPECT_EQ(stream.count(), 1u);
}

TEST_F(MemorySvidCacheTest, FederatedBundlesComeAndGo) {  // WL-6, WL-20
  Ready();
  spiffe::Entry entry = EntryOf("a", {"unix:uid:1"});
  entry.federates_with = {"other.org"};
  Put({entry});
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  EXPECT_THAT(stream.Await(1)->federated_bundles, IsEmpty());
  TestAuthority other(clock_.Now(), "other.org"), unrelated(clock_.Now(), "unrelated.org");
  clock_.Advance(absl::Seconds(1));
  cache_.Apply({{}, {}, {other.bundle(), unrelated.bundle()}, {}});
  X509SVIDResponse response;
  ASSERT_TRUE(response.ParseFromString(stream.Await(2)->x509_response));
  ASSERT_THAT(response.federated_bundles(), SizeIs(1));
  EXPECT_EQ(response.federated_bundles().at("spiffe://other.org"), other.bundle().X509Der());
  clock_.Advance(absl::Seconds(1));
  cache_.Apply({{}, {}, {}, {"other.org"}});
  EXPECT_THAT(stream.Await(3)->federated_bundles, IsEmpty());
}

TEST_F(MemorySvidCacheTest, ExpiredSvidIsNeverShown) {  // I6
  Ready();
  Put({EntryOf("a", {"unix:uid:1"})});
  clock_.Advance(absl::Hours(1));
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  Settle();
  EXPECT_EQ(stream.count(), 0u);
  EXPECT_THAT(cache_.Snapshot().svids, IsEmpty());
  EXPECT_THAT(MakeRefreshPlan(cache_.PlanItems(), Now()).fetch, ElementsAre("a"));
}

TEST_F(MemorySvidCacheTest, OfflineShowsWhatThereIs) {
  Ready();
  Put({EntryOf("a", {"unix:uid:1"}, 1)});
  Put({EntryOf("b", {"unix:uid:1"}, 2)}, false);
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  Settle();
  EXPECT_EQ(stream.count(), 0u);
  cache_.SetOffline(true);
  EXPECT_THAT(IdsOf(stream.Await(1)), ElementsAre("a"));
}

TEST_F(MemorySvidCacheTest, TaintAndRevocationReplaceAtOnce) {
  Ready();
  Put({EntryOf("a", {"unix:uid:1"})});
  EXPECT_THAT(MakeRefreshPlan(cache_.PlanItems(), Now()).fetch, IsEmpty());
  cache_.Apply({{}, {}, {authority_.bundle(true)}, {}});
  EXPECT_THAT(MakeRefreshPlan(cache_.PlanItems(), Now()).fetch, ElementsAre("a"));
  TestAuthority next(clock_.Now());
  cache_.Apply({{}, {}, {next.bundle()}, {}});
  EXPECT_THAT(MakeRefreshPlan(cache_.PlanItems(), Now()).fetch, ElementsAre("a"));
}

TEST_F(MemorySvidCacheTest, WantedForAWhileAfterTheLastStream) {
  Ready();
  Put({EntryOf("a", {"unix:uid:1"})}, false);
  Stream stream;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), stream.callback());
  Mint({"a"});
  stream.Await(1);
  subscription.reset();
  clock_.Advance(absl::Minutes(40));
  EXPECT_THAT(MakeRefreshPlan(cache_.PlanItems(), Now()).fetch, ElementsAre("a"));
  clock_.Advance(absl::Minutes(21));
  EXPECT_THAT(MakeRefreshPlan(cache_.PlanItems(), Now()).fetch, IsEmpty());
}

TEST_F(MemorySvidCacheTest, ByteBudgetDropsOnlyWhatNoStreamShows) {
  MemorySvidCache small(Td(), clock_, metrics_, {.budget_bytes = 2500});
  small.Apply({{EntryOf("a", {"unix:uid:1"}), EntryOf("b", {"unix:uid:2"}), EntryOf("c", {"unix:uid:3"})},
               {},
               {authority_.bundle()},
               {}});
  small.SetReady(clock_.Now());
  Stream stream;
  auto subscription = small.Subscribe(Sel({"unix:uid:2"}), stream.callback());
  for (const char* id : {"a", "b", "c"}) {
    small.SetSvids({authority_.Mint(small.FindEntry(id), Now())});
    clock_.Advance(absl::Seconds(1));
  }
  std::vector<std::string> held;
  for (const HeldSvid& svid : small.Snapshot().svids) held.push_back(svid.entry->id);
  EXPECT_THAT(held, ::testing::UnorderedElementsAre("b", "c"));
}

TEST_F(MemorySvidCacheTest, DroppingASubscriptionWaitsForItsCall) {
  Ready();
  Put({EntryOf("a", {"unix:uid:1"})});
  std::mutex mutex;
  std::condition_variable changed;
  bool inside = false, leave = false, left = false;
  auto subscription = cache_.Subscribe(Sel({"unix:uid:1"}), [&](UpdatePtr) {
    std::unique_lock lock(mutex);
    inside = true;
    changed.notify_all();
    changed.wait(lock, [&] { return leave; });
    left = true;
  });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return inside; });
  }
  std::thread dropper([&] {
    subscription.reset();
    EXPECT_TRUE(left);
  });
  {
    std::lock_guard lock(mutex);
    leave = true;
  }
  changed.notify_all();
  dropper.join();
}

TEST_F(MemorySvidCacheTest, ASubscriptionMayBeDroppedInItsOwnCall) {
  Ready();
  Put({EntryOf("a", {"unix:uid:1"})});
  std::unique_ptr<SvidCache::Subscription> subscription;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  {
    std::lock_guard lock(mutex);
    subscription = cache_.Subscribe(Sel({"unix:uid:1"}), [&](UpdatePtr) {
      std::lock_guard inner(mutex);
      subscription.reset();
      done = true;
      changed.notify_all();
    });
  }
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
  EXPECT_EQ(cache_.counts().subscriptions, 0u);
}

TEST_F(MemorySvidCacheTest, RandomHistoriesConverge) {  // I8: after any history each stream shows what matches
  std::mt19937 random(11);
  Ready();
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<spiffe::Selectors> selectors;
  std::vector<std::unique_ptr<SvidCache::Subscription>> subscriptions;
  for (int i = 0; i < 8; ++i) {
    std::vector<std::string> texts;
    for (int j = 0; j < 4; ++j) {
      if (random() % 2 == 0) texts.push_back(absl::StrCat("t:", j));
    }
    selectors.push_back(Sel(texts));
    streams.push_back(std::make_unique<Stream>());
    subscriptions.push_back(cache_.Subscribe(selectors.back(), streams.back()->callback()));
  }
  const crypto::PrivateKey key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256).value();
  for (int step = 0; step < 300; ++step) {
    const std::string id = absl::StrCat("e", random() % 10);
    switch (random() % 4) {
      case 0:
        cache_.Apply({{}, {id}, {}, {}});
        break;
      case 1:
      case 2: {
        spiffe::Entry entry = EntryOf(id, {absl::StrCat("t:", random() % 4), absl::StrCat("t:", random() % 4)},
                                      static_cast<int64_t>(random() % 20));
        entry.revision = step;
        cache_.Apply({{entry}, {}, {}, {}});
        break;
      }
      case 3:
        for (const EntryPtr& entry : cache_.AllEntries()) cache_.SetSvids({authority_.Mint(entry, Now())});
        break;
    }
    if (random() % 3 == 0) clock_.Advance(absl::Milliseconds(20));
  }
  for (const EntryPtr& entry : cache_.AllEntries()) cache_.SetSvids({authority_.Mint(entry, Now())});
  for (size_t i = 0; i < streams.size(); ++i) {
    const std::vector<std::string> expected = IdsOf(cache_.MatchingEntries(selectors[i]));
    clock_.Advance(absl::Milliseconds(50));
    Settle();
    ASSERT_GT(streams[i]->count(), 0u) << "stream " << i;
    EXPECT_EQ(IdsOf(streams[i]->Await(streams[i]->count())), expected) << "stream " << i;
  }
}

// --- JWT
// ---------------------------------------------------------------------------------------------------------------

class JwtTest : public MemorySvidCacheTest {
 protected:
  struct Request {
    EntryPtr entry;
    std::vector<std::string> audience;
    std::function<void(absl::StatusOr<MintedJwt>)> done;
  };
  void SetUp() override {
    Ready();
    cache_.SetJwtMinter([this](const EntryPtr& entry, const std::vector<std::string>& audience,
                               std::function<void(absl::StatusOr<MintedJwt>)> done) {
      requests_.push_back({entry, audience, std::move(done)});
    });
    Put({EntryOf("a", {"unix:uid:1"})});
  }
  void Fetch(std::vector<std::string> audience = {"x"}) {
    cache_.FetchJwt(cache_.FindEntry("a"), std::move(audience),
                    [this](absl::StatusOr<SvidCache::JwtResult> result) { results_.push_back(std::move(result)); });
  }
  void Answer(size_t request, const std::string& token, absl::Duration ttl = absl::Minutes(5)) {
    Request& r = requests_.at(request);
    r.done(MintedJwt{token, "key-1", r.entry->spiffe_id, clock_.Now(), clock_.Now() + ttl});
  }
  std::vector<Request> requests_;
  std::vector<absl::StatusOr<SvidCache::JwtResult>> results_;
};

TEST_F(JwtTest, HitIsInlineAndTheAudiencesOrderDoesNotMatter) {
  Fetch({"x", "y"});
  ASSERT_THAT(requests_, SizeIs(1));
  Answer(0, "t1");
  Fetch({"y", "x"});
  ASSERT_THAT(results_, SizeIs(2));
  EXPECT_EQ(results_[1]->token, "t1");
  EXPECT_THAT(requests_, SizeIs(1));
  Fetch({"x"});
  EXPECT_THAT(requests_, SizeIs(2));  // another set
  Fetch({"xy"});
  EXPECT_THAT(requests_, SizeIs(3));
}

TEST_F(JwtTest, CallersAtOnceShareOneRequest) {
  Fetch();
  Fetch();
  ASSERT_THAT(requests_, SizeIs(1));
  Answer(0, "t1");
  ASSERT_THAT(results_, SizeIs(2));
  EXPECT_EQ(results_[1]->token, "t1");
}

TEST_F(JwtTest, PastHalfLifeServesAtOnceAndRefreshesBehind) {
  Fetch();
  Answer(0, "t1");
  clock_.Advance(absl::Seconds(151));
  Fetch();
  ASSERT_THAT(results_, SizeIs(2));
  EXPECT_EQ(results_[1]->token, "t1");
  ASSERT_THAT(requests_, SizeIs(2));
  Fetch();
  EXPECT_THAT(requests_, SizeIs(2));  // one refresh at a time
  Answer(1, "t2");
  Fetch();
  EXPECT_EQ(results_[3]->token, "t2");
}

TEST_F(JwtTest, ServerAwayServesUntilTheTokenEnds) {
  Fetch();
  Answer(0, "t1");
  clock_.Advance(absl::Seconds(200));
  Fetch();
  requests_[1].done(absl::UnavailableError("down"));
  Fetch();
  EXPECT_EQ(results_[2]->token, "t1");
  requests_[2].done(absl::UnavailableError("down"));
  clock_.Advance(absl::Seconds(101));
  Fetch();
  requests_[3].done(absl::UnavailableError("down"));
  EXPECT_THAT(results_[3], StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(JwtTest, ChangedOrRemovedEntryForgetsItsTokens) {
  Fetch();
  Answer(0, "t1");
  spiffe::Entry changed = *cache_.FindEntry("a");
  changed.jwt_svid_ttl = absl::Minutes(1);
  changed.revision = 1;
  Put({changed}, false);
  Fetch();
  ASSERT_THAT(requests_, SizeIs(2));
  const EntryPtr before = cache_.FindEntry("a");
  cache_.Apply({{}, {"a"}, {}, {}});
  Answer(1, "t2");  // came too late
  EXPECT_THAT(results_[1], StatusIs(absl::StatusCode::kUnavailable));
  cache_.FetchJwt(before, {"x"},
                  [this](absl::StatusOr<SvidCache::JwtResult> result) { results_.push_back(std::move(result)); });
  EXPECT_THAT(results_[2], StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(JwtTest, TokenOfAKeyThatIsNoLongerTrustedIsForgotten) {
  spiffe::Bundle bundle = authority_.bundle();
  bundle.jwt_authorities.push_back({"key-1", crypto::PrivateKey::Generate(crypto::KeyType::kEcP256)->public_key()});
  cache_.Apply({{}, {}, {bundle}, {}});
  Fetch();
  Answer(0, "t1");
  Fetch();
  EXPECT_THAT(requests_, SizeIs(1));
  bundle.jwt_authorities[0].tainted = true;
  cache_.Apply({{}, {}, {bundle}, {}});
  Fetch();
  EXPECT_THAT(requests_, SizeIs(2));
}

TEST_F(JwtTest, TokenForAnotherIdIsRefused) {
  Fetch();
  requests_[0].done(MintedJwt{"t", "k", IdOf("/somebody-else"), clock_.Now(), clock_.Now() + absl::Minutes(5)});
  EXPECT_THAT(results_[0], StatusIs(absl::StatusCode::kInternal));
  EXPECT_EQ(cache_.counts().jwt_svids, 0u);
}

TEST_F(JwtTest, TokensWithJtiAreNotShared) {
  spiffe::Entry entry = *cache_.FindEntry("a");
  entry.jwt_svid_include_jti = true;
  entry.revision = 1;
  Put({entry}, false);
  Fetch();
  Fetch();
  EXPECT_THAT(requests_, SizeIs(2));
}

TEST_F(JwtTest, LeastRecentlyUsedGoesFirst) {
  MemorySvidCache small(Td(), clock_, metrics_, {.jwt_limit = 2});
  int minted = 0;
  small.SetJwtMinter([&](const EntryPtr& entry, const std::vector<std::string>&, auto done) {
    ++minted;
    done(MintedJwt{"t", "k", entry->spiffe_id, clock_.Now(), clock_.Now() + absl::Minutes(5)});
  });
  small.Apply({{EntryOf("a", {"unix:uid:1"})}, {}, {authority_.bundle()}, {}});
  const auto fetch = [&](const char* audience) { small.FetchJwt(small.FindEntry("a"), {audience}, [](auto) {}); };
  fetch("x");
  fetch("y");
  fetch("x");
  fetch("z");  // y goes
  EXPECT_EQ(small.counts().jwt_svids, 2u);
  EXPECT_EQ(minted, 3);
  fetch("x");
  EXPECT_EQ(minted, 3);
  fetch("y");
  EXPECT_EQ(minted, 4);
}

}  // namespace
}  // namespace signet::agent
