#include "common/kubernetes/namespace.h"

#include <algorithm>

#include <boost/json/serialize.hpp>

#include "absl/strings/str_cat.h"
#include "common/kubernetes/json_members.h"
#include "common/kubernetes/names.h"
#include "common/status/macros.h"

namespace signet::kubernetes {
namespace {

absl::StatusOr<Namespace> Read(const boost::json::value* object) {
  const boost::json::value* metadata = Member(object, "metadata");
  Namespace read{TextMember(metadata, "name"), TextPairs(Member(metadata, "labels"))};
  if (!IsLabel(read.name)) return absl::InvalidArgumentError("namespace: has no name");
  return read;
}

}  // namespace

absl::StatusOr<NamespaceEvent> ParseNamespaceEvent(absl::string_view line) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value json, ParseAnswer(line, ApiClient::kMaxWatchLineBytes),
                          "namespace event");
  const boost::json::value* object = Member(&json, "object");
  if (object == nullptr) return absl::InvalidArgumentError("namespace event: no object");
  const std::string type = TextMember(&json, "type");
  NamespaceEvent event;
  event.resource_version = TextMember(Member(object, "metadata"), "resourceVersion");
  if (type == "BOOKMARK") {
    event.type = NamespaceEvent::Type::kBookmark;
  } else if (type == "ADDED" || type == "MODIFIED" || type == "DELETED") {
    event.type = type == "DELETED" ? NamespaceEvent::Type::kDeleted : NamespaceEvent::Type::kPut;
    SIGNET_ASSIGN_OR_RETURN(event.object, Read(object));
  } else {
    const boost::json::value* code = Member(object, "code");
    const int64_t http_status = code != nullptr && code->is_int64() ? code->get_int64() : 0;
    event.error =
        StatusOf(static_cast<int>(std::clamp<int64_t>(http_status, 0, 999)), "watch", boost::json::serialize(*object));
  }
  return event;
}

absl::StatusOr<NamespaceList> ListNamespaces(ApiClient& client, int page_size, size_t max, const CallOptions& options) {
  NamespaceList all;
  std::string more;
  for (;;) {
    SIGNET_ASSIGN_OR_RETURN(const std::string answer,
                            client.Get(absl::StrCat("/api/v1/namespaces?limit=", page_size, more), options));
    SIGNET_ASSIGN_OR_RETURN(const boost::json::value json, ParseAnswer(answer, ApiClient::kMaxAnswerBytes),
                            "namespace list");
    for (const boost::json::value& item : Items(Member(&json, "items"))) {
      absl::StatusOr<Namespace> read = Read(&item);
      if (read.ok()) all.namespaces.push_back(*std::move(read));
    }
    if (all.namespaces.size() > max) {
      return absl::FailedPreconditionError(absl::StrCat("more than ", max, " namespaces"));
    }
    const boost::json::value* metadata = Member(&json, "metadata");
    all.resource_version = TextMember(metadata, "resourceVersion");
    const std::string next = TextMember(metadata, "continue");
    if (next.empty()) return all;
    more = absl::StrCat("&continue=", EscapeQuery(next));
  }
}

}  // namespace signet::kubernetes
