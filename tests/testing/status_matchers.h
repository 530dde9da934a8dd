// IsOk(), IsOkAndHolds(m), StatusIs(code[, message matcher]): the semantics of Abseil's later status_matchers.h.
#pragma once

#include <gmock/gmock.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace signet::testing {

inline const absl::Status& GetStatus(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& GetStatus(const absl::StatusOr<T>& status) {
  return status.status();
}

MATCHER(IsOk, "is OK") {
  *result_listener << GetStatus(arg).ToString();
  return GetStatus(arg).ok();
}
MATCHER_P(StatusIs, code, absl::StrCat("has code ", absl::StatusCodeToString(code))) {
  *result_listener << GetStatus(arg).ToString();
  return GetStatus(arg).code() == code;
}
MATCHER_P2(StatusIs, code, message, absl::StrCat("has code ", absl::StatusCodeToString(code), " and a message that matches")) {
  *result_listener << GetStatus(arg).ToString();
  return GetStatus(arg).code() == code &&
         ::testing::ExplainMatchResult(message, std::string(GetStatus(arg).message()), result_listener);
}
MATCHER_P(IsOkAndHolds, inner, "is OK and its value matches") {
  if (!arg.ok()) {
    *result_listener << arg.status().ToString();
    return false;
  }
  return ::testing::ExplainMatchResult(inner, *arg, result_listener);
}

}  // namespace signet::testing

// Unwraps or fails the test: SIGNET_ASSERT_OK_AND_ASSIGN(auto x, F());
#define SIGNET_ASSERT_OK(expr) ASSERT_THAT((expr), ::signet::testing::IsOk())
#define SIGNET_EXPECT_OK(expr) EXPECT_THAT((expr), ::signet::testing::IsOk())
#define SIGNET_TEST_CONCAT_INNER(a, b) a##b
#define SIGNET_TEST_CONCAT(a, b) SIGNET_TEST_CONCAT_INNER(a, b)
#define SIGNET_ASSERT_OK_AND_ASSIGN(lhs, expr) \
  SIGNET_ASSERT_OK_AND_ASSIGN_IMPL(SIGNET_TEST_CONCAT(signet_test_or_, __LINE__), lhs, expr)
#define SIGNET_ASSERT_OK_AND_ASSIGN_IMPL(var, lhs, expr) \
  auto var = (expr);                                     \
  ASSERT_THAT(var, ::signet::testing::IsOk());           \
  lhs = *std::move(var)
