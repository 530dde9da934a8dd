#include "common/spiffe/selector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace signet::spiffe {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;
using ::testing::ElementsAre;

TEST(SelectorTest, SplitsAtTheFirstColon) {
  EXPECT_THAT(Selector::Parse("unix:uid:1000"), IsOkAndHolds(Selector{"unix", "uid:1000"}));
  EXPECT_EQ(Selector::Parse("unix:uid:1000")->ToString(), "unix:uid:1000");
}

TEST(SelectorTest, RefusesWhatIsNotTypeAndValue) {
  using std::string_literals::operator""s;
  for (const std::string& text : {""s, "unix"s, ":uid"s, "unix:"s, "un ix:a"s, "un\nix:a"s, "unix:a\0b"s}) {
    EXPECT_THAT(Selector::Parse(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
  EXPECT_THAT(Selector::FromParts("a:b", "c"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Selector::FromParts("a", std::string(4094, 'v')), IsOk());
  EXPECT_THAT(Selector::FromParts("a", std::string(4095, 'v')), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(SelectorsTest, NormalizeSortsAndDropsDuplicates) {
  Selectors s = {{"b", "1"}, {"a", "2"}, {"b", "1"}, {"a", "1"}};
  Normalize(s);
  EXPECT_THAT(s, ElementsAre(Selector{"a", "1"}, Selector{"a", "2"}, Selector{"b", "1"}));
}

TEST(SelectorsTest, SubsetNeedsEverySelector) {
  const Selectors all = {{"a", "1"}, {"a", "2"}, {"b", "1"}};
  EXPECT_TRUE(IsSubset({{"a", "1"}, {"b", "1"}}, all));
  EXPECT_TRUE(IsSubset(all, all));
  EXPECT_FALSE(IsSubset({{"a", "1"}, {"c", "1"}}, all));
  EXPECT_FALSE(IsSubset(all, {{"a", "1"}}));
}

TEST(SelectorsTest, NoSelectorsMatchNothing) {  // N15: empty means none, never all
  EXPECT_FALSE(IsSubset({}, {}));
  EXPECT_FALSE(IsSubset({}, {{"a", "1"}}));
}

}  // namespace
}  // namespace signet::spiffe
