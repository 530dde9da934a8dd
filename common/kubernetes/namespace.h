// What is read of a namespace, and of lists and watches of namespaces. Pure but for ListNamespaces. Errors as pod.h's.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/kubernetes/api_client.h"

namespace signet::kubernetes {

struct Namespace {
  std::string name;
  std::vector<std::pair<std::string, std::string>> labels;
};

struct NamespaceList {
  std::vector<Namespace> namespaces;
  std::string resource_version;  // where a watch goes on
};

struct NamespaceEvent {
  enum class Type { kPut, kDeleted, kBookmark, kError };
  Type type = Type::kError;
  Namespace object;  // kPut, kDeleted
  std::string resource_version;
  absl::Status error;  // kError: kOutOfRange is 410 Gone, list again
};

absl::StatusOr<NamespaceEvent> ParseNamespaceEvent(absl::string_view line);

// One consistent list, page after page. At most `max`, else kFailedPrecondition.
absl::StatusOr<NamespaceList> ListNamespaces(ApiClient& client, int page_size, size_t max, const CallOptions& options);

}  // namespace signet::kubernetes
