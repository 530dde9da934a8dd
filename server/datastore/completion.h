// How a write of the datastore answers.
#pragma once

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace signet::server {

template <typename T>
using Completion = absl::AnyInvocable<void(absl::StatusOr<T>)>;
using StatusCompletion = absl::AnyInvocable<void(absl::Status)>;

}  // namespace signet::server
