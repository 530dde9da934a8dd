#include "common/status/grpc_status.h"

#include <gtest/gtest.h>

#include "absl/strings/cord.h"
#include "spire/api/types/status.pb.h"

namespace signet {
namespace {

constexpr char kDenied[] = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

TEST(GrpcStatusTest, CarriesPayloadsAsDetails) {
  spire::api::types::PermissionDeniedDetails details;
  details.set_reason(spire::api::types::PermissionDeniedDetails::AGENT_BANNED);
  absl::Status denied = absl::PermissionDeniedError("agent is banned");
  denied.SetPayload(kDenied, absl::Cord(details.SerializeAsString()));

  const absl::Status back = FromGrpc(ToGrpc(denied));
  EXPECT_EQ(back.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(back.message(), "agent is banned");
  ASSERT_TRUE(back.GetPayload(kDenied).has_value());
  spire::api::types::PermissionDeniedDetails read;
  ASSERT_TRUE(read.ParseFromString(std::string(*back.GetPayload(kDenied))));
  EXPECT_EQ(read.reason(), spire::api::types::PermissionDeniedDetails::AGENT_BANNED);
}

TEST(GrpcStatusTest, WireOfDetailsIsGoogleRpcStatus) {
  // code 8; message "x"; details { type_url: "t"; value: "v" }: hand-encoded, so that a slip in field numbers fails.
  absl::Status status = absl::ResourceExhaustedError("x");
  status.SetPayload("t", absl::Cord("v"));
  EXPECT_EQ(ToGrpc(status).error_details(), std::string("\x08\x08\x12\x01x\x1a\x06\x0a\x01t\x12\x01v"));
}

TEST(GrpcStatusTest, InternalErrorsHideTheirDetail) {
  absl::Status status = absl::InternalError("password is hunter2");
  status.SetPayload("t", absl::Cord("v"));
  EXPECT_EQ(ToGrpc(status).error_message(), "internal error");
  EXPECT_TRUE(ToGrpc(status).error_details().empty());
}

TEST(GrpcStatusTest, DropsDetailsThatDoNotParse) {
  const absl::Status status = FromGrpc(grpc::Status(grpc::StatusCode::NOT_FOUND, "gone", "\xff\xff\xff"));
  EXPECT_EQ(status, absl::NotFoundError("gone"));
}

TEST(GrpcStatusTest, OverloadTellsWhenToRetry) {
  const absl::Status status = FromGrpc(ToGrpc(OverloadedError("busy", absl::Milliseconds(1500))));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  // retry_delay { seconds: 1; nanos: 500000000 }
  EXPECT_EQ(std::string(*status.GetPayload("type.googleapis.com/google.rpc.RetryInfo")),
            std::string("\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01"));
}

}  // namespace
}  // namespace signet
