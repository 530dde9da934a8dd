#include "common/net/form.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace signet::net {
namespace {

using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::Pair;

TEST(FormTest, ReadsFieldsInOrderAndKeepsRepeats) {
  const auto form = ParseForm("grant_type=client_credentials&resource=https%3A%2F%2Fa&resource=b+c&scope=");
  ASSERT_TRUE(form.ok()) << form.status();
  EXPECT_THAT(*form, ElementsAre(Pair("grant_type", "client_credentials"), Pair("resource", "https://a"),
                                 Pair("resource", "b c"), Pair("scope", "")));
  EXPECT_TRUE(ParseForm("")->empty());
}

TEST(FormTest, RefusesWhatTwoReadersCouldReadDifferently) {
  for (const char* body : {"a", "=b", "a=b&", "&a=b", "a=%", "a=%4", "a=%zz", "a=b c", "a=b\n", "a=\xc3\xa9", "a=%c3",
                           "a=%00", "a=%ed%a0%80", "a=%c0%af", "a=%f5%80%80%80", "%ff=a"}) {
    EXPECT_THAT(ParseForm(body), StatusIs(absl::StatusCode::kInvalidArgument)) << body;
  }
}

TEST(FormTest, RefusesTooManyFields) {
  std::string body = "a=1";
  for (size_t i = 1; i < kMaxFormFields; ++i) absl::StrAppend(&body, "&a=1");
  EXPECT_TRUE(ParseForm(body).ok());
  EXPECT_THAT(ParseForm(body + "&a=1"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(FormTest, WrittenFormsAreReadBack) {
  Form form = {{"client_id", "spiffe://example.org/agent/x"}, {"a&b=c", "\xc3\xa9 +%~"}, {"empty", ""}};
  const std::string body = FormatForm(form);
  EXPECT_EQ(body, "client_id=spiffe%3A%2F%2Fexample.org%2Fagent%2Fx&a%26b%3Dc=%C3%A9%20%2B%25~&empty=");
  EXPECT_EQ(*ParseForm(body), form);
}

}  // namespace
}  // namespace signet::net
