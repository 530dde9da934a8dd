#include "common/log/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace signet::log {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string Logged(const std::function<void()>& write) {
  ::testing::internal::CaptureStderr();
  write();
  return ::testing::internal::GetCapturedStderr();
}

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override { Init("signet", Level::kInfo, Format::kText); }
};

TEST_F(LogTest, WritesOneTextLineAnEvent) {
  Init("signet-test", Level::kInfo, Format::kText);
  const std::string line = Logged([] {
    SIGNET_LOG(info, "agent attested", {{"agent_id", "spiffe://a/b"}, {"reason", "two words"}, {"n", 3}});
  });
  EXPECT_THAT(line, EndsWith("Z INFO agent attested agent_id=spiffe://a/b reason=\"two words\" n=3\n"));
}

// A hostile value can neither start a line of its own nor end the quotes.
TEST_F(LogTest, KeepsHostileValuesOnTheirLine) {
  Init("signet-test", Level::kInfo, Format::kText);
  EXPECT_THAT(Logged([] {
                SIGNET_LOG(warn, "refused", {{"v", "a\nb\"c\x1b[0m"}});
              }),
              EndsWith("v=\"a\\nb\\\"c\\x1b[0m\"\n"));
  Init("signet-test", Level::kInfo, Format::kJson);
  EXPECT_THAT(Logged([] {
                SIGNET_LOG(warn, "refused", {{"v", "a\nb\"c\xff\xc3\xa4"}});
              }),
              EndsWith("\"level\":\"warn\",\"program\":\"signet-test\",\"event\":\"refused\",\"v\":"
                       "\"a\\u000ab\\\"c\\ufffd\xc3\xa4\"}\n"));
}

TEST_F(LogTest, ChangesItsLevelAndRemembersTheFirst) {
  Init("signet-test", Level::kWarn, Format::kText);
  EXPECT_EQ(Logged([] { SIGNET_LOG(info, "quiet"); }), "");
  SetLevel(Level::kDebug);
  EXPECT_THAT(Logged([] { SIGNET_LOG(debug, "loud"); }), HasSubstr("DEBUG loud"));
  EXPECT_EQ(GetLevel(), Level::kDebug);
  EXPECT_EQ(LaunchLevel(), Level::kWarn);
}

TEST_F(LogTest, ParsesLevels) {
  for (const Level level : {Level::kTrace, Level::kDebug, Level::kInfo, Level::kWarn, Level::kError, Level::kOff}) {
    Level parsed{};
    EXPECT_THAT(ParseLevel(LevelName(level), parsed), IsOk());
    EXPECT_EQ(parsed, level);
  }
  Level untouched = Level::kError;
  EXPECT_THAT(ParseLevel("loud", untouched),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("trace, debug, info")));
  EXPECT_EQ(untouched, Level::kError);
}

}  // namespace
}  // namespace signet::log
