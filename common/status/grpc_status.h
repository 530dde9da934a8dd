// The one map between absl::Status and grpc::Status (their codes have the same numbers).
// Towards a peer an internal error shows no detail: only the code and "internal error"; the caller logs the rest.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace signet {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace signet
