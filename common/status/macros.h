// SIGNET_RETURN_IF_ERROR and SIGNET_ASSIGN_OR_RETURN: the semantics of Abseil's later status_macros.h, so that a swap
// is a rename. An error can be given context: SIGNET_RETURN_IF_ERROR(expr, "entry \"7f3\"") prefixes the message.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace signet {

// Same code and payloads, message "context: message". An OK status stays OK.
inline absl::Status WithContext(const absl::Status& status, absl::string_view context) {
  if (status.ok() || context.empty()) return status;
  absl::Status told(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) { told.SetPayload(url, payload); });
  return told;
}
inline absl::Status WithContext(const absl::Status& status) { return status; }

}  // namespace signet

#define SIGNET_STATUS_CONCAT_INNER(a, b) a##b
#define SIGNET_STATUS_CONCAT(a, b) SIGNET_STATUS_CONCAT_INNER(a, b)

#define SIGNET_RETURN_IF_ERROR(expr, ...)                                      \
  do {                                                                         \
    if (::absl::Status signet_status_ = (expr); !signet_status_.ok())          \
      return ::signet::WithContext(signet_status_ __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)

#define SIGNET_ASSIGN_OR_RETURN(lhs, expr, ...) \
  SIGNET_ASSIGN_OR_RETURN_IMPL(SIGNET_STATUS_CONCAT(signet_or_, __LINE__), lhs, expr __VA_OPT__(, ) __VA_ARGS__)
#define SIGNET_ASSIGN_OR_RETURN_IMPL(var, lhs, expr, ...)                               \
  auto var = (expr);                                                                    \
  if (!var.ok()) return ::signet::WithContext(var.status() __VA_OPT__(, ) __VA_ARGS__); \
  lhs = *std::move(var)
