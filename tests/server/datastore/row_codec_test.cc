#include "server/datastore/row_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using ::signet::testing::IsOkAndHolds;
using ::signet::testing::StatusIs;

TEST(RowCodecTest, GivesBackWhatItWasGiven) {
  const std::vector<std::string> strings = {
      "", "a", std::string(127, 'b'), std::string(128, 'c'), std::string(70'000, 'd'), std::string("\0\x80\xff", 3)};
  EXPECT_THAT(DecodeStrings(EncodeStrings(strings)), IsOkAndHolds(strings));
  EXPECT_EQ(EncodeStrings({}), "");
  const spiffe::Selectors selectors = {{"a", "b:c"}, {"a", "d"}};
  EXPECT_THAT(DecodeSelectors(EncodeSelectors(selectors)), IsOkAndHolds(selectors));
}

TEST(RowCodecTest, RefusesEveryTruncation) {
  const std::string blob = EncodeSelectors({{"type", std::string(200, 'v')}});
  for (size_t size = 1; size < blob.size(); ++size) {
    EXPECT_THAT(DecodeSelectors(blob.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss)) << size;
  }
  EXPECT_THAT(DecodeStrings("\xff\xff\xff\xff\xff\xff\x01"), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace signet::server
