// The names that may stand in a path of the API, and what else may stand in its query. Pure.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace signet::kubernetes {

// RFC 1123 label, 1 to 63 of a-z 0-9 '-': a namespace. Kubernetes: apimachinery validation.IsDNS1123Label.
bool IsLabel(absl::string_view name);
// RFC 1123 subdomain, 1 to 253, labels joined by dots: a pod, a node, a service account, a ConfigMap.
bool IsName(absl::string_view name);
// A key of a ConfigMap: 1 to 253 of a-z A-Z 0-9 '-' '_' '.', not "." or "..".
bool IsConfigMapKey(absl::string_view key);
// What we take for the uid of an object: 1 to 128 of a-z A-Z 0-9 '-' '_' '.'; a UUID everywhere but for mirror pods,
// whose uid is a hash. Neither "." nor "..": it becomes a segment of SPIFFE IDs.
bool IsUid(absl::string_view uid);
// A value in a query, percent-escaped (RFC 3986 2.3 decides what stays).
std::string EscapeQuery(absl::string_view value);

}  // namespace signet::kubernetes
