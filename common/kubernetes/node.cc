#include "common/kubernetes/node.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/kubernetes/api_client.h"
#include "common/kubernetes/json_members.h"
#include "common/kubernetes/names.h"
#include "common/status/macros.h"

namespace signet::kubernetes {

absl::StatusOr<Node> ParseNode(absl::string_view text) {
  SIGNET_ASSIGN_OR_RETURN(const boost::json::value json, ParseAnswer(text, ApiClient::kMaxAnswerBytes), "node");
  const boost::json::value* metadata = Member(&json, "metadata");
  Node node{.name = TextMember(metadata, "name"),
            .uid = TextMember(metadata, "uid"),
            .labels = TextPairs(Member(metadata, "labels"))};
  if (!IsName(node.name)) {
    return absl::InvalidArgumentError(absl::StrCat("node: \"", absl::CHexEscape(node.name), "\" is no name"));
  }
  if (!IsUid(node.uid)) return absl::InvalidArgumentError(absl::StrCat("node ", node.name, ": has no uid"));
  return node;
}

}  // namespace signet::kubernetes
