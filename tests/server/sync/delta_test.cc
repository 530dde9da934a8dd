#include "server/sync/delta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/server/datastore/contract.h"

namespace signet::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WaitingDeltaTest : public ::testing::Test {
 protected:
  void Set(const std::string& id, int64_t revision) {
    spiffe::Entry entry = TestEntry("/" + id);
    entry.id = id;
    entry.revision = revision;
    now_[id] = std::make_shared<const spiffe::Entry>(entry);
  }
  // What one message of at most `room` items says, as "-id" and "id@revision".
  std::vector<std::string> Take(size_t room = 100) {
    std::vector<std::string> said;
    waiting_.Take(
        [&](const std::string& id) {
          auto it = now_.find(id);
          return it == now_.end() ? nullptr : it->second;
        },
        [&](const std::string& id) {
          said.push_back("-" + id);
          return said.size() < room;
        },
        [&](const spiffe::Entry& entry) {
          said.push_back(absl::StrCat(entry.id, "@", entry.revision));
          return said.size() < room;
        });
    return said;
  }
  std::map<std::string, EntryPtr> now_;
  WaitingDelta waiting_;
};

TEST_F(WaitingDeltaTest, SaysWhatIsTrueWhenItIsSaid) {
  Set("a", 1);
  waiting_.Merge({.seq = 1, .entry_ids = {"a"}});
  Set("a", 2);
  waiting_.Merge({.seq = 2, .entry_ids = {"a"}});
  EXPECT_THAT(Take(), ElementsAre("a@2"));
  EXPECT_TRUE(waiting_.empty());
  EXPECT_EQ(waiting_.seq(), 2u);
}

TEST_F(WaitingDeltaTest, ARemovalIsNotUndoneByWhatWaitedBefore) {
  Set("a", 1);
  waiting_.Merge({.seq = 1, .entry_ids = {"a"}});
  now_.erase("a");
  waiting_.Merge({.seq = 2, .entry_ids = {"a"}});
  waiting_.Merge({.seq = 1, .entry_ids = {"a"}});  // told again, late
  EXPECT_THAT(Take(), ElementsAre("-a"));
  EXPECT_EQ(waiting_.seq(), 2u);
}

TEST_F(WaitingDeltaTest, WhatWasMadeAgainIsThere) {
  waiting_.Merge({.seq = 1, .entry_ids = {"a"}});
  Set("a", 0);
  waiting_.Merge({.seq = 2, .entry_ids = {"a"}});
  EXPECT_THAT(Take(), ElementsAre("a@0"));
}

TEST_F(WaitingDeltaTest, RemovalsGoFirstAndWhatDoesNotFitGoesOnWaiting) {
  Set("a", 1);
  Set("b", 1);
  waiting_.Merge({.seq = 5, .entry_ids = {"a", "b", "y", "z"}});
  EXPECT_THAT(Take(3), ElementsAre("-y", "-z", "a@1"));
  EXPECT_FALSE(waiting_.empty());
  now_.erase("a");
  waiting_.Merge({.seq = 6, .entry_ids = {"a"}});
  EXPECT_THAT(Take(1), ElementsAre("-a"));
  EXPECT_THAT(Take(1), ElementsAre("b@1"));
  EXPECT_TRUE(waiting_.empty());
  EXPECT_THAT(Take(), IsEmpty());
}

}  // namespace
}  // namespace signet::server
