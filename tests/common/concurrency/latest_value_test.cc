#include "common/concurrency/latest_value.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

namespace signet {
namespace {

TEST(LatestValueTest, IsNullUntilSet) {
  LatestValue<int> value;
  EXPECT_EQ(value.Get(), nullptr);
  value.Set(7);
  EXPECT_EQ(*value.Get(), 7);
}

TEST(LatestValueTest, CallsSubscribersInOrderForEachSet) {
  LatestValue<int> value(0);
  std::vector<int> seen;
  auto a = value.Subscribe([&](auto v) { seen.push_back(*v); });
  auto b = value.Subscribe([&](auto v) { seen.push_back(*v + 100); });
  value.Set(1);
  value.Set(2);
  EXPECT_EQ(seen, (std::vector<int>{1, 101, 2, 102}));
}

TEST(LatestValueTest, DroppedSubscriptionIsNotCalled) {
  LatestValue<int> value(0);
  int calls = 0;
  {
    auto subscription = value.Subscribe([&](auto) { ++calls; });
    value.Set(1);
  }
  value.Set(2);
  EXPECT_EQ(calls, 1);
}

TEST(LatestValueTest, MayBeDroppedFromWithinItsCall) {
  LatestValue<int> value(0);
  int calls = 0;
  std::optional<LatestValue<int>::Subscription> subscription;
  subscription = value.Subscribe([&](auto) {
    ++calls;
    subscription.reset();
  });
  value.Set(1);
  value.Set(2);
  EXPECT_EQ(calls, 1);
}

TEST(LatestValueTest, OldSnapshotStaysWholeForItsReader) {
  LatestValue<std::vector<int>> value(std::vector<int>{1, 2});
  auto before = value.Get();
  value.Set(std::vector<int>{});
  EXPECT_EQ(before->size(), 2u);
}

}  // namespace
}  // namespace signet
