#include "common/status/grpc_status.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/unknown_field_set.h>

#include <string>

#include "absl/strings/cord.h"

namespace signet {
namespace {

constexpr size_t kMaxDetailsBytes = 16 * 1024;
// google.rpc.Status: code 1, message 2, details 3 (repeated Any).
enum RpcStatusField { kCode = 1, kMessage = 2, kDetails = 3 };

std::string EncodeDetails(const absl::Status& status) {
  google::protobuf::UnknownFieldSet out;
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    google::protobuf::Any any;
    any.set_type_url(std::string(type_url));
    any.set_value(std::string(payload));
    if (out.empty()) {
      out.AddVarint(kCode, static_cast<uint64_t>(status.code()));
      out.AddLengthDelimited(kMessage, std::string(status.message()));
    }
    out.AddLengthDelimited(kDetails, any.SerializeAsString());
  });
  std::string bytes;
  if (!out.empty()) out.SerializeToString(&bytes);
  return bytes;
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  if (code == grpc::StatusCode::INTERNAL || code == grpc::StatusCode::UNKNOWN) return {code, "internal error"};
  return {code, std::string(status.message()), EncodeDetails(status)};
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  const std::string details = status.error_details();
  google::protobuf::UnknownFieldSet fields;
  if (details.empty() || details.size() > kMaxDetailsBytes || !fields.ParseFromString(details)) return result;
  for (int i = 0; i < fields.field_count(); ++i) {
    const google::protobuf::UnknownField& field = fields.field(i);
    google::protobuf::Any any;
    if (field.number() != kDetails || field.type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED ||
        !any.ParseFromString(field.length_delimited())) {
      continue;
    }
    result.SetPayload(any.type_url(), absl::Cord(any.value()));
  }
  return result;
}

absl::Status OverloadedError(absl::string_view message, absl::Duration delay) {
  absl::Status status = absl::ResourceExhaustedError(message);
  google::protobuf::Duration retry;
  retry.set_seconds(absl::IDivDuration(delay, absl::Seconds(1), &delay));
  retry.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(delay)));
  google::protobuf::UnknownFieldSet info;  // google.rpc.RetryInfo: retry_delay 1
  info.AddLengthDelimited(1, retry.SerializeAsString());
  std::string bytes;
  info.SerializeToString(&bytes);
  status.SetPayload("type.googleapis.com/google.rpc.RetryInfo", absl::Cord(bytes));
  return status;
}

}  // namespace signet
