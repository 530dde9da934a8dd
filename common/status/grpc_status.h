// The one map between absl::Status and grpc::Status (their codes have the same numbers).
// Towards a peer an internal error shows no detail: only the code and "internal error"; the caller logs the rest.
// Payloads of a status travel as the details of google.rpc.Status, as every gRPC library reads them: the type URL of a
// payload is that of a google.protobuf.Any ("type.googleapis.com/<full message name>").
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace signet {

grpc::Status ToGrpc(const absl::Status& status);
// Details over 16 KiB, or that do not parse, are dropped; code and message stay.
absl::Status FromGrpc(const grpc::Status& status);

// kResourceExhausted with a google.rpc.RetryInfo payload: try again after `delay`.
absl::Status OverloadedError(absl::string_view message, absl::Duration delay);

}  // namespace signet
