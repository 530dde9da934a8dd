#include "common/jose/jwt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "tests/testing/status_matchers.h"

namespace signet::jose {
namespace {

using ::signet::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::Eq;
using ::testing::Optional;

TEST(ClaimsTest, ReadsTheRegisteredOnes) {
  SIGNET_ASSERT_OK_AND_ASSIGN(
      const Claims claims,
      Claims::Parse(
          R"({"sub":"s","iss":"i","jti":"j","aud":["a","b"],"exp":30,"nbf":10,"iat":-20,"private":{"x":[1]}})"));
  EXPECT_THAT(claims.subject, Optional(Eq("s")));
  EXPECT_THAT(claims.issuer, Optional(Eq("i")));
  EXPECT_THAT(claims.jwt_id, Optional(Eq("j")));
  EXPECT_THAT(claims.audience, ElementsAre("a", "b"));
  EXPECT_THAT(claims.expires_at, Optional(absl::FromUnixSeconds(30)));
  EXPECT_THAT(claims.not_before, Optional(absl::FromUnixSeconds(10)));
  EXPECT_THAT(claims.issued_at, Optional(absl::FromUnixSeconds(-20)));
  EXPECT_EQ(claims.all->size(), 8u);
}

TEST(ClaimsTest, AudienceIsAStringOrAList) {
  EXPECT_THAT(Claims::Parse(R"({"aud":"a"})")->audience, ElementsAre("a"));
  EXPECT_THAT(Claims::Parse(R"({"aud":[]})")->audience, ElementsAre());
  EXPECT_THAT(Claims::Parse(R"({})")->audience, ElementsAre());
}

TEST(ClaimsTest, RefusesWrongTypes) {
  for (absl::string_view text : {"",
                                 "[]",
                                 "\"x\"",
                                 "{",
                                 "{}x",
                                 R"({"sub":1})",
                                 R"({"sub":null})",
                                 R"({"iss":[]})",
                                 R"({"jti":{}})",
                                 R"({"aud":1})",
                                 R"({"aud":null})",
                                 R"({"aud":{"a":1}})",
                                 R"({"aud":["a",1]})",
                                 R"({"aud":[["a"]]})",
                                 R"({"exp":"30"})",
                                 R"({"exp":null})",
                                 R"({"exp":30.0})",
                                 R"({"exp":1.5})",
                                 R"({"exp":3e1})",
                                 R"({"exp":9223372036854775808})",
                                 R"({"exp":18446744073709551616})",
                                 R"({"exp":1e400})",
                                 R"({"nbf":true})",
                                 R"({"iat":"now"})",
                                 R"({"sub":"a","sub":"b"})",
                                 R"({"exp":1,"\u0065xp":2})"}) {
    EXPECT_THAT(Claims::Parse(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

TEST(ClaimsTest, TakesTheWholeRangeOfInt64) {
  EXPECT_LT(*Claims::Parse(R"({"exp":-9223372036854775808})")->expires_at, absl::UnixEpoch());
  EXPECT_GT(*Claims::Parse(R"({"exp":9223372036854775807})")->expires_at, absl::FromUnixSeconds(253402300799));
}

}  // namespace
}  // namespace signet::jose
