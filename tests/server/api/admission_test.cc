#include "server/api/admission.h"

#include <vector>

#include <gmock/gmock.h>

#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

using testing::IsOk;
using testing::StatusIs;

TEST(AdmissionTest, OneIdentityDoesNotStarveAnother) {
  Admission admission({.per_identity = 2, .anonymous = 1, .total = 10});
  std::vector<Admission::Ticket> held;
  held.push_back(admission.Enter("a").value());
  held.push_back(admission.Enter("a").value());
  const absl::Status refused = admission.Enter("a").status();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_TRUE(refused.GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
  EXPECT_THAT(admission.Enter("b"), IsOk());
  held.pop_back();
  EXPECT_THAT(admission.Enter("a"), IsOk());
}

TEST(AdmissionTest, StrangersShareOneBound) {
  Admission admission({.per_identity = 9, .anonymous = 1, .total = 10});
  const auto ticket = admission.Enter("");
  EXPECT_THAT(admission.Enter(""), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(AdmissionTest, AllTogetherAreBounded) {
  Admission admission({.per_identity = 9, .anonymous = 9, .total = 2});
  auto a = admission.Enter("a"), b = admission.Enter("b");
  EXPECT_THAT(admission.Enter("c"), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(admission.waiting(), 2u);
  a = absl::CancelledError("");
  EXPECT_EQ(admission.waiting(), 1u);
}

TEST(AdmissionTest, MovedTicketLeavesOnce) {
  Admission admission({.per_identity = 1, .anonymous = 1, .total = 1});
  Admission::Ticket first = admission.Enter("a").value();
  Admission::Ticket second = std::move(first);
  first = Admission::Ticket();
  EXPECT_EQ(admission.waiting(), 1u);
  second = Admission::Ticket();
  EXPECT_EQ(admission.waiting(), 0u);
}

}  // namespace
}  // namespace signet::server
