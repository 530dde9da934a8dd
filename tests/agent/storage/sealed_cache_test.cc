#include "agent/storage/sealed_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "common/failpoint/failpoint.h"
#include "common/fs/atomic_file.h"
#include "common/telemetry/metrics.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/fakes/fake_clock.h"
#include "tests/testing/memory_dir.h"
#include "tests/testing/status_matchers.h"

namespace signet::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;
using ::testing::SizeIs;
using testing::StatusIs;
using ::testing::UnorderedElementsAre;

class SealedCacheTest : public ::testing::Test {
 protected:
  std::unique_ptr<SealedCache> Open(absl::string_view trust_domain = "example.org") {
    return SealedCache::Open(dir_.path(), Td(trust_domain), clock_).value();
  }
  std::unique_ptr<SealedCache> OpenAndLoad() {
    auto cache = Open();
    (void)cache->Load();
    return cache;
  }
  Instant Now() { return {clock_.Now(), clock_.Steady()}; }

  SealedState State(const std::vector<std::string>& ids) {
    SealedState state;
    state.epoch = "epoch-1";
    for (const std::string& id : ids) {
      auto entry = std::make_shared<const spiffe::Entry>(EntryOf(id, {"unix:uid:1"}));
      state.snapshot.entries.push_back(entry);
      state.snapshot.svids.push_back(authority_.Mint(entry, Now()));
    }
    state.snapshot.bundles.push_back(std::make_shared<const spiffe::Bundle>(authority_.bundle()));
    state.bundle_revisions["example.org"] = "7";
    return state;
  }
  void Seal(const std::vector<std::string>& ids) {
    SIGNET_ASSERT_OK(Open()->Write([&] { return State(ids); }));
  }
  // As the agent does: the entry is in memory, an SVID for it is minted and given to workloads.
  HeldSvid Publish(SealedCache& cache, const std::string& id) {
    memory_.Apply({.upserts = {EntryOf(id, {"unix:uid:1"})}});
    HeldSvid held = authority_.Mint(memory_.FindEntry(id), Now());
    EXPECT_THAT(cache.Publish({held}, memory_), IsOk());
    return held;
  }
  void Withdraw(SealedCache& cache, const std::string& id) {
    memory_.Apply({.removed_ids = {id}});
    EXPECT_THAT(cache.Withdraw({.removed_ids = {id}}), IsOk());
  }
  // For a file damaged in thousands of ways: fsync for each would take minutes.
  void OverwriteFast(const std::string& name, const std::string& content) {
    std::ofstream(dir_.file(name), std::ios::binary | std::ios::trunc) << content;
    chmod(dir_.file(name).c_str(), 0600);
  }
  void RemoveSetAside() {
    for (const auto& file : std::filesystem::directory_iterator(dir_.path())) {
      if (file.path().string().find(".corrupt-") != std::string::npos) std::filesystem::remove(file.path());
    }
  }
  static std::vector<std::string> SvidIds(const SealedState& state) {
    std::vector<std::string> ids;
    for (const HeldSvid& held : state.snapshot.svids) ids.push_back(held.entry->id);
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  std::string Read(const std::string& name) { return fs::ReadFile(dir_.file(name), 1 << 20).value(); }
  void Overwrite(const std::string& name, const std::string& content) {
    SIGNET_ASSERT_OK(fs::WriteFileAtomically(dir_.file(name), content));
  }
  size_t SetAsideFiles() {
    size_t count = 0;
    for (const auto& file : std::filesystem::directory_iterator(dir_.path()))
      count += file.path().string().find(".corrupt-") != std::string::npos;
    return count;
  }

  testing::MemoryDir dir_;
  fakes::FakeClock clock_;
  TestAuthority authority_{clock_.Now()};
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  std::mutex mutex_;
  std::condition_variable told_;
  MemorySvidCache memory_{Td(), clock_, metrics_, {}};
};

TEST_F(SealedCacheTest, GivesBackWhatWasSealed) {
  SealedState before = State({"a", "b"});
  SIGNET_ASSERT_OK(Open()->Write([&] { return before; }));
  clock_.Advance(absl::Minutes(5));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState after, Open()->Load());
  EXPECT_EQ(after.epoch, "epoch-1");
  EXPECT_EQ(after.bundle_revisions, before.bundle_revisions);
  ASSERT_THAT(after.snapshot.bundles, SizeIs(1));
  EXPECT_EQ(*after.snapshot.bundles[0], *before.snapshot.bundles[0]);
  EXPECT_THAT(after.snapshot.entries, SizeIs(2));
  ASSERT_THAT(SvidIds(after), ElementsAre("a", "b"));
  for (const HeldSvid& held : after.snapshot.svids) {
    const HeldSvid& old = before.snapshot.svids[held.entry->id == "a" ? 0 : 1];
    EXPECT_EQ(*held.entry, *old.entry);
    EXPECT_EQ(held.svid->chain, old.svid->chain);
    EXPECT_EQ(held.svid->key.Pkcs8Der(), old.svid->key.Pkcs8Der());
    EXPECT_EQ(held.life.issued, old.life.issued);
    EXPECT_EQ(held.life.Age(Now()), absl::Minutes(5));
  }
}

TEST_F(SealedCacheTest, NothingSealedIsNotFound) { EXPECT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kNotFound)); }

TEST_F(SealedCacheTest, FilesAreForTheOwnerAlone) {  // N16
  Seal({"a"});
  SIGNET_ASSERT_OK(OpenAndLoad()->Withdraw({.removed_ids = {"x"}}));
  for (const char* name : {"cache.key", "cache.sealed", "cache.changes"}) {
    struct stat info;
    ASSERT_EQ(stat(dir_.file(name).c_str(), &info), 0) << name;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << name;
  }
  ASSERT_EQ(chmod(dir_.file("cache.key").c_str(), 0644), 0);
  EXPECT_THAT(SealedCache::Open(dir_.path(), Td(), clock_),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cache.key")));
}

TEST_F(SealedCacheTest, NoKeyMaterialStandsInClear) {  // I9
  SealedState state = State({"a"});
  SIGNET_ASSERT_OK(Open()->Write([&] { return state; }));
  const std::string key = state.snapshot.svids[0].svid->key.Pkcs8Der();
  EXPECT_EQ(Read("cache.sealed").find(key.substr(30, 32)), std::string::npos);
}

TEST_F(SealedCacheTest, AnyFlippedBitReleasesNothing) {  // F9, Z13: each byte, each bit
  Seal({"a"});
  const std::string good = Read("cache.sealed");
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    OverwriteFast("cache.sealed", bad);
    ASSERT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kDataLoss)) << "byte " << at;
    RemoveSetAside();
  }
}

TEST_F(SealedCacheTest, AnyTruncationReleasesNothing) {  // F9
  Seal({"a"});
  const std::string good = Read("cache.sealed");
  for (size_t length = 0; length < good.size(); ++length) {
    OverwriteFast("cache.sealed", good.substr(0, length));
    ASSERT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kDataLoss)) << "length " << length;
    RemoveSetAside();
  }
}

TEST_F(SealedCacheTest, DamagedFileIsSetAsideNotReplaced) {
  Seal({"a"});
  Overwrite("cache.sealed", "rubbish");
  EXPECT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(SetAsideFiles(), 1u);
}

TEST_F(SealedCacheTest, BoundToTrustDomainAndKey) {
  Seal({"a"});
  const std::string sealed = Read("cache.sealed");
  EXPECT_THAT(Open("other.org")->Load(), StatusIs(absl::StatusCode::kDataLoss));
  Overwrite("cache.sealed", sealed);
  Overwrite("cache.key", std::string(32, 'k'));
  EXPECT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(SealedCacheTest, DamagedKeyIsSetAsideAndNothingIsServed) {
  Seal({"a"});
  Overwrite("cache.key", "short");
  EXPECT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(SetAsideFiles(), 2u);
}

TEST_F(SealedCacheTest, WhatHasEndedIsNotServed) {  // I6
  Seal({"a"});
  clock_.Advance(absl::Hours(1));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(state.snapshot.svids, IsEmpty());
  EXPECT_THAT(state.snapshot.entries, SizeIs(1));
}

TEST_F(SealedCacheTest, AClockBehindTheSealServesNothing) {  // F7: 1970 at boot
  Seal({"a"});
  clock_.StepWall(-absl::Minutes(11));
  EXPECT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("clock")));
  EXPECT_EQ(SetAsideFiles(), 0u);
  clock_.StepWall(absl::Minutes(11));
  EXPECT_THAT(Open()->Load(), IsOk());
}

TEST_F(SealedCacheTest, WithdrawnDoesNotComeBack) {  // the resurrection test
  Seal({"a", "b", "c"});
  {
    auto cache = Open();
    SIGNET_ASSERT_OK(cache->Load().status());
    spiffe::Entry narrowed = EntryOf("c", {"unix:uid:1", "unix:gid:9"});
    narrowed.revision = 1;
    SIGNET_ASSERT_OK(cache->Withdraw({.removed_ids = {"a"}, .entries = {narrowed}}));
  }
  for (int restart = 0; restart < 2; ++restart) {
    SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
    EXPECT_THAT(SvidIds(state), ElementsAre("b", "c"));
    for (const EntryPtr& entry : state.snapshot.entries) {
      EXPECT_NE(entry->id, "a");
      EXPECT_THAT(entry->selectors, SizeIs(entry->id == "c" ? 2 : 1));
    }
  }
}

TEST_F(SealedCacheTest, RenamedEntryLosesItsOldSvid) {
  Seal({"a"});
  auto cache = Open();
  SIGNET_ASSERT_OK(cache->Load().status());
  spiffe::Entry renamed = EntryOf("a", {"unix:uid:1"});
  renamed.spiffe_id = IdOf("/somebody-else");
  SIGNET_ASSERT_OK(cache->Withdraw({.entries = {renamed}}));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(state.snapshot.svids, IsEmpty());
}

TEST_F(SealedCacheTest, RevokedAuthorityDoesNotComeBack) {  // I7
  Seal({"a"});
  TestAuthority next(clock_.Now());
  auto cache = Open();
  SIGNET_ASSERT_OK(cache->Load().status());
  SIGNET_ASSERT_OK(cache->Withdraw({.bundles = {{next.bundle(), "8"}}}));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_EQ(*state.snapshot.bundles[0], next.bundle());
  EXPECT_EQ(state.bundle_revisions.at("example.org"), "8");
}

TEST_F(SealedCacheTest, TornRecordIsForgottenAndTheNextOneStands) {
  Seal({"a", "b"});
  SIGNET_ASSERT_OK(OpenAndLoad()->Withdraw({.removed_ids = {"a"}}));
  const std::string whole = Read("cache.changes");
  for (size_t length = 0; length < whole.size(); ++length) {
    OverwriteFast("cache.changes", whole.substr(0, length));
    auto cache = Open();
    SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState torn, cache->Load());
    ASSERT_THAT(SvidIds(torn), ElementsAre("a", "b")) << "length " << length;  // it was never acknowledged
    if (length % 16 != 0) continue;
    SIGNET_ASSERT_OK(cache->Withdraw({.removed_ids = {"b"}}));
    SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState after, Open()->Load());
    ASSERT_THAT(SvidIds(after), ElementsAre("a")) << "length " << length;
  }
}

TEST_F(SealedCacheTest, AnyFlippedBitInTheLogServesNothing) {
  Seal({"a"});
  const std::string sealed = Read("cache.sealed");
  SIGNET_ASSERT_OK(OpenAndLoad()->Withdraw({.removed_ids = {"a"}}));
  const std::string good = Read("cache.changes");
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    for (const auto& [name, content] : {std::pair("cache.changes", bad), std::pair("cache.sealed", sealed)}) {
      OverwriteFast(name, content);
    }
    ASSERT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kDataLoss)) << "byte " << at;
    RemoveSetAside();
  }
}

TEST_F(SealedCacheTest, ANewSealTakesTheWithdrawalsIn) {
  Seal({"a", "b"});
  auto cache = Open();
  SIGNET_ASSERT_OK(cache->Load().status());
  SIGNET_ASSERT_OK(cache->Withdraw({.removed_ids = {"a"}}));
  const size_t with_record = Read("cache.changes").size();
  SIGNET_ASSERT_OK(cache->Write([&] { return State({"b"}); }));
  EXPECT_LT(Read("cache.changes").size(), with_record);
  SIGNET_ASSERT_OK(cache->Write([&] { return State({"a", "b"}); }));  // given again since
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(SvidIds(state), ElementsAre("a", "b"));
}

TEST_F(SealedCacheTest, WithdrawnWhileASnapshotIsTakenStaysWithdrawn) {
  auto cache = Open();
  SIGNET_ASSERT_OK(cache->Withdraw({.removed_ids = {"z"}}));
  SIGNET_ASSERT_OK(cache->Write([&] {
    SealedState state = State({"a", "b"});
    EXPECT_THAT(cache->Withdraw({.removed_ids = {"a"}}), IsOk());  // after the state was taken
    return state;
  }));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(SvidIds(state), ElementsAre("b"));
}

TEST_F(SealedCacheTest, DestroyLeavesNothingAndStopsAWriteUnderWay) {
  Seal({"a"});
  auto cache = Open();
  EXPECT_THAT(cache->Write([&] {
    SealedState state = State({"a"});
    EXPECT_THAT(cache->Destroy(), IsOk());
    return state;
  }),
              StatusIs(absl::StatusCode::kAborted));
  EXPECT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kNotFound));
}

// --- SVIDs given to workloads since the seal

TEST_F(SealedCacheTest, WhatIsPublishedIsThereAfterAKill) {  // F3
  Seal({"a"});
  auto cache = OpenAndLoad();
  const HeldSvid held = Publish(*cache, "b");
  EXPECT_THAT(memory_.Snapshot().svids, SizeIs(1));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  ASSERT_THAT(SvidIds(state), ElementsAre("a", "b"));
  const HeldSvid& after = state.snapshot.svids[state.snapshot.svids[0].entry->id == "b" ? 0 : 1];
  EXPECT_EQ(*after.entry, *held.entry);  // which the seal does not have
  EXPECT_EQ(after.svid->chain, held.svid->chain);
  EXPECT_EQ(after.svid->key.Pkcs8Der(), held.svid->key.Pkcs8Der());
  EXPECT_EQ(after.life.issued, held.life.issued);
}

TEST_F(SealedCacheTest, WhatIsPublishedBeforeTheFirstSealIsThereToo) {
  auto cache = OpenAndLoad();
  Publish(*cache, "a");
  EXPECT_FALSE(std::filesystem::exists(dir_.file("cache.sealed")));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(SvidIds(state), ElementsAre("a"));
}

TEST_F(SealedCacheTest, ItIsDurableBeforeAnyWorkloadHasIt) {
  auto cache = OpenAndLoad();
  memory_.Apply({.upserts = {EntryOf("a", {"unix:uid:1"})}, .bundles = {authority_.bundle()}});
  memory_.SetReady(clock_.Now());
  bool told = false, durable = false;
  auto stream = memory_.Subscribe(Sel({"unix:uid:1"}), [&](UpdatePtr update) {
    const absl::StatusOr<SealedState> state = Open()->Load();
    std::lock_guard lock(mutex_);
    durable = state.ok() && SvidIds(*state) == std::vector<std::string>{"a"} && !update->identities.empty();
    told = true;
    told_.notify_all();
  });
  SIGNET_ASSERT_OK(cache->Publish({authority_.Mint(memory_.FindEntry("a"), Now())}, memory_));
  std::unique_lock lock(mutex_);
  told_.wait(lock, [&] { return told; });
  EXPECT_TRUE(durable);
}

TEST_F(SealedCacheTest, TheNewestOfAnEntryIsServed) {
  Seal({"a"});
  auto cache = OpenAndLoad();
  Publish(*cache, "a");
  const HeldSvid newest = Publish(*cache, "a");
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  ASSERT_THAT(state.snapshot.svids, SizeIs(1));
  EXPECT_EQ(state.snapshot.svids[0].svid->leaf().serial(), newest.svid->leaf().serial());
}

TEST_F(SealedCacheTest, WithdrawnAfterItWasPublishedDoesNotComeBack) {
  auto cache = OpenAndLoad();
  Publish(*cache, "a");
  Publish(*cache, "b");
  Withdraw(*cache, "a");
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(SvidIds(state), ElementsAre("b"));
  EXPECT_THAT(state.snapshot.entries, SizeIs(1));
}

TEST_F(SealedCacheTest, WithdrawnWhileItWasMintedIsNotPublished) {
  auto cache = OpenAndLoad();
  memory_.Apply({.upserts = {EntryOf("a", {"unix:uid:1"}), EntryOf("b", {"unix:uid:1"})}});
  const HeldSvid a = authority_.Mint(memory_.FindEntry("a"), Now()), b = authority_.Mint(memory_.FindEntry("b"), Now());
  Withdraw(*cache, "a");
  spiffe::Entry narrowed = EntryOf("b", {"unix:uid:1", "unix:gid:9"});
  memory_.Apply({.upserts = {narrowed}});
  SIGNET_ASSERT_OK(cache->Withdraw({.entries = {narrowed}}));
  SIGNET_ASSERT_OK(cache->Publish({a, b}, memory_));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(SvidIds(state), ElementsAre("b"));
  ASSERT_THAT(state.snapshot.entries, SizeIs(1));
  EXPECT_THAT(state.snapshot.entries[0]->selectors, SizeIs(2));
}

TEST_F(SealedCacheTest, AnotherSpiffeIdInBetweenEndsTheSvidForGood) {
  auto cache = OpenAndLoad();
  Publish(*cache, "a");
  spiffe::Entry renamed = EntryOf("a", {"unix:uid:1"});
  renamed.spiffe_id = IdOf("/somebody-else");
  SIGNET_ASSERT_OK(cache->Withdraw({.entries = {renamed}}));
  SIGNET_ASSERT_OK(cache->Withdraw({.entries = {EntryOf("a", {"unix:uid:1"})}}));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(state.snapshot.svids, IsEmpty());  // memory has dropped it too
}

TEST_F(SealedCacheTest, PublishedWhileASnapshotIsTakenIsKept) {
  Seal({"a"});
  auto cache = OpenAndLoad();
  SIGNET_ASSERT_OK(cache->Write([&] {
    SealedState state = State({"a"});
    Publish(*cache, "b");  // after the state was taken
    return state;
  }));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(SvidIds(state), ElementsAre("a", "b"));
  Publish(*cache, "c");  // to the file that was rewritten
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState later, Open()->Load());
  EXPECT_THAT(SvidIds(later), ElementsAre("a", "b", "c"));
}

TEST_F(SealedCacheTest, ACrashBetweenSealAndRecordsReplaysNothingTwice) {
  auto cache = OpenAndLoad();
  Publish(*cache, "a");
  Withdraw(*cache, "a");
  const std::string records = Read("cache.changes");
  SIGNET_ASSERT_OK(cache->Write([&] { return State({"a"}); }));  // given again since
  Overwrite("cache.changes", records);
  auto next = Open();
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, next->Load());
  EXPECT_THAT(SvidIds(state), ElementsAre("a"));
  Withdraw(*next, "a");  // numbered after what the seal has
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState after, Open()->Load());
  EXPECT_THAT(after.snapshot.svids, IsEmpty());
}

TEST_F(SealedCacheTest, RecordsAreCountedOnFromASealWithoutThem) {
  auto cache = OpenAndLoad();
  Publish(*cache, "a");
  SIGNET_ASSERT_OK(cache->Write([&] { return State({"a"}); }));
  std::filesystem::remove(dir_.file("cache.changes"));
  Withdraw(*OpenAndLoad(), "a");
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(state.snapshot.svids, IsEmpty());
}

TEST_F(SealedCacheTest, RecordsOfALaterSealAreRefused) {
  Seal({"a"});
  const std::string old = Read("cache.sealed");
  auto cache = OpenAndLoad();
  Publish(*cache, "b");
  Withdraw(*cache, "a");
  SIGNET_ASSERT_OK(cache->Write([&] { return State({"b"}); }));
  Publish(*cache, "c");
  Overwrite("cache.sealed", old);  // "a" would come back
  EXPECT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("missing")));
}

TEST_F(SealedCacheTest, ATornRecordOfNewSvidsIsForgottenAndTheNextOneStands) {
  Seal({"a"});
  Publish(*OpenAndLoad(), "b");
  const std::string whole = Read("cache.changes");
  for (size_t length = 0; length < whole.size(); ++length) {
    OverwriteFast("cache.changes", whole.substr(0, length));
    auto cache = Open();
    SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState torn, cache->Load());
    ASSERT_THAT(SvidIds(torn), ElementsAre("a")) << "length " << length;
    if (length % 64 != 0) continue;
    Publish(*cache, "c");
    SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState after, Open()->Load());
    ASSERT_THAT(SvidIds(after), ElementsAre("a", "c")) << "length " << length;
  }
}

TEST_F(SealedCacheTest, AnyFlippedBitInARecordOfNewSvidsReleasesNothing) {  // Z13
  Publish(*OpenAndLoad(), "a");
  const std::string good = Read("cache.changes");
  EXPECT_EQ(good.find(memory_.Snapshot().svids[0].svid->key.Pkcs8Der().substr(30, 32)), std::string::npos);  // I9
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    OverwriteFast("cache.changes", bad);
    ASSERT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kDataLoss)) << "byte " << at;
    RemoveSetAside();
  }
}

#ifdef SIGNET_FAILPOINTS
TEST_F(SealedCacheTest, WhatCannotBeRecordedIsServedAndInTheNextSeal) {  // F4: no outage for a full disk
  auto cache = OpenAndLoad();
  memory_.Apply({.upserts = {EntryOf("a", {"unix:uid:1"})}});
  failpoint::Arm("sealed_log.after_write=fail@1");
  const HeldSvid held = authority_.Mint(memory_.FindEntry("a"), Now());
  EXPECT_THAT(cache->Publish({held}, memory_), StatusIs(absl::StatusCode::kInternal));
  failpoint::Arm("");
  EXPECT_THAT(memory_.Snapshot().svids, SizeIs(1));
  Publish(*cache, "b");  // in place of what was left of the record
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState before, Open()->Load());
  EXPECT_THAT(SvidIds(before), ElementsAre("b"));
  SIGNET_ASSERT_OK(cache->Write([&] { return SealedState{.snapshot = memory_.Snapshot()}; }));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState after, Open()->Load());
  EXPECT_THAT(SvidIds(after), ElementsAre("a", "b"));
}
#endif

TEST_F(SealedCacheTest, WhatCouldNotBeReadIsNotMixedWithWhatIsNew) {  // a clock that was set after the start
  Seal({"old"});
  clock_.StepWall(-absl::Minutes(30));
  auto cache = Open();
  EXPECT_THAT(cache->Load(), StatusIs(absl::StatusCode::kFailedPrecondition));
  Publish(*cache, "new");
  clock_.StepWall(absl::Minutes(30));
  SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
  EXPECT_THAT(SvidIds(state), ElementsAre("new"));
}

// After any history, and a kill at any moment of it, a restart holds what memory held.
TEST_F(SealedCacheTest, RandomHistoriesComeBackAsTheyWere) {  // I8, F3
  std::minstd_rand random(7);
  auto cache = OpenAndLoad();
  const auto serials = [](const CacheSnapshot& snapshot) {
    std::map<std::string, std::string> found;
    for (const HeldSvid& held : snapshot.svids) found[held.entry->id] = held.svid->leaf().serial();
    return found;
  };
  int revision = 0;
  for (int step = 0; step < 400; ++step) {
    const std::string id(1, static_cast<char>('a' + random() % 5));
    const auto publish = [&] { Publish(*cache, id); };
    const auto withdraw = [&] { Withdraw(*cache, id); };
    const auto change = [&] {
      if (memory_.FindEntry(id) == nullptr) return;
      spiffe::Entry entry = EntryOf(id, {"unix:uid:1"});
      if (random() % 2 == 0) entry.spiffe_id = IdOf("/another");
      entry.revision = ++revision;
      memory_.Apply({.upserts = {entry}});
      SIGNET_ASSERT_OK(cache->Withdraw({.entries = {entry}}));
    };
    switch (random() % 8) {
      case 0:
        withdraw();
        break;
      case 1:
        change();
        break;
      case 2:
        SIGNET_ASSERT_OK(cache->Write([&] {
          SealedState state{.snapshot = memory_.Snapshot()};
          random() % 2 == 0 ? publish() : withdraw();  // meanwhile
          return state;
        }));
        break;
      case 3: {  // a crash between the two files
        const absl::StatusOr<std::string> records = fs::ReadFile(dir_.file("cache.changes"), 1 << 20);
        SIGNET_ASSERT_OK(cache->Write([&] { return SealedState{.snapshot = memory_.Snapshot()}; }));
        if (records.ok()) OverwriteFast("cache.changes", *records);
        cache = OpenAndLoad();
        break;
      }
      case 4:
        cache = OpenAndLoad();
        break;
      default:
        publish();
    }
    SIGNET_ASSERT_OK_AND_ASSIGN(const SealedState state, Open()->Load());
    ASSERT_EQ(serials(state.snapshot), serials(memory_.Snapshot())) << "step " << step;
  }
}

TEST_F(SealedCacheTest, NothingIsRecordedAfterTheEnd) {
  Seal({"a"});
  auto cache = OpenAndLoad();
  SIGNET_ASSERT_OK(cache->Destroy());
  Publish(*cache, "b");
  EXPECT_THAT(Open()->Load(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(SealedCacheTest, WithdrawalThatCannotBeWrittenRemovesTheSeal) {  // F4
  Seal({"a"});
  auto cache = Open();
  SIGNET_ASSERT_OK(cache->Load().status());
  std::filesystem::create_directory(dir_.file("cache.changes"));  // nothing can be appended to it
  (void)cache->Withdraw({.removed_ids = {"a"}});
  EXPECT_FALSE(std::filesystem::exists(dir_.file("cache.sealed")));
}

}  // namespace
}  // namespace signet::agent
