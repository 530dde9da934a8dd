#include "common/json/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace signet::json {
namespace {

using ::signet::testing::IsOk;
using ::signet::testing::StatusIs;
using ::testing::HasSubstr;

constexpr size_t kCap = 1 << 20;

TEST(JsonTest, ReadsEveryKindOfValue) {
  SIGNET_ASSERT_OK_AND_ASSIGN(
      boost::json::value v,
      Parse(R"( {"s":"a\u00e9\n","i":-5,"u":18446744073709551615,"d":1.5,"t":true,"n":null,"a":[1,{"b":[]}],"":{}} )",
            kCap));
  EXPECT_EQ(v.at("s").as_string(), "a\xc3\xa9\n");
  EXPECT_EQ(v.at("i").as_int64(), -5);
  EXPECT_EQ(v.at("u").as_uint64(), 18446744073709551615u);
  EXPECT_EQ(v.at("d").as_double(), 1.5);
  EXPECT_TRUE(v.at("t").as_bool());
  EXPECT_TRUE(v.at("n").is_null());
  EXPECT_EQ(v.at("a").as_array().size(), 2u);
  EXPECT_TRUE(v.at("").as_object().empty());
}

TEST(JsonTest, ReadsAValueThatIsNoContainer) {
  EXPECT_EQ(Parse("7", kCap)->as_int64(), 7);
  EXPECT_EQ(Parse("\"x\"", kCap)->as_string(), "x");
}

TEST(JsonTest, RefusesWhatIsNotJson) {
  for (absl::string_view text :
       {"",      " ",          "{",        "[1,]",    "{\"a\":1,}", "{'a':1}",        "nul",
        "01",    "+1",         ".5",       "1.",      "NaN",        "Infinity",       "-Infinity",
        "{} {}", "[1] x",      "/* c */1", "\"\\x\"", "\"a\nb\"",   "\xef\xbb\xbf{}", "{\"a\"}",
        "{1:2}", "\"\\ud800\""}) {
    EXPECT_THAT(Parse(text, kCap), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("byte"))) << text;
  }
}

TEST(JsonTest, RefusesBadUtf8) {
  for (absl::string_view text : {"\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "{\"\x80\":1}"}) {
    EXPECT_THAT(Parse(text, kCap), StatusIs(absl::StatusCode::kInvalidArgument));
  }
}

TEST(JsonTest, RefusesDuplicateKeysInOneObjectOnly) {  // MAP-2
  const auto duplicate = StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("duplicate key"));
  EXPECT_THAT(Parse(R"({"a":1,"a":1})", kCap), duplicate);
  EXPECT_THAT(Parse(R"({"a":1,"\u0061":2})", kCap), duplicate);
  EXPECT_THAT(Parse(R"([{"x":{"a":1,"b":2,"a":3}}])", kCap), duplicate);
  EXPECT_THAT(Parse(R"({"a":{"a":{"b":1}},"b":[{"a":1},{"a":1}]})", kCap), IsOk());
}

TEST(JsonTest, RefusesDuplicateKeysInALargeObject) {
  std::string text = "{";
  for (int i = 0; i < 9000; ++i) absl::StrAppend(&text, "\"k", i, "\":1,");
  EXPECT_THAT(Parse(absl::StrCat(text, "\"last\":1}"), kCap), IsOk());
  for (int i : {0, 15, 16, 17, 8999}) {
    EXPECT_THAT(Parse(absl::StrCat(text, "\"k", i, "\":1}"), kCap), StatusIs(absl::StatusCode::kInvalidArgument)) << i;
  }
}

TEST(JsonTest, RefusesNumbersOutOfRange) {
  EXPECT_THAT(Parse("1e400", kCap), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("out of range")));
  EXPECT_THAT(Parse("[-1e400]", kCap), StatusIs(absl::StatusCode::kInvalidArgument));
  // 2^64 is a double then: whoever wants an integer must ask for one.
  EXPECT_TRUE(Parse("18446744073709551616", kCap)->is_double());
}

TEST(JsonTest, CapsDepthAndSize) {
  EXPECT_THAT(Parse(absl::StrCat(std::string(16, '['), std::string(16, ']')), kCap), IsOk());
  EXPECT_THAT(Parse(absl::StrCat(std::string(17, '['), std::string(17, ']')), kCap),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Parse(std::string(100'000, '['), kCap), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Parse("[1,2]", 5), IsOk());
  EXPECT_THAT(Parse("[1,2]", 4), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than 4")));
}

}  // namespace
}  // namespace signet::json
