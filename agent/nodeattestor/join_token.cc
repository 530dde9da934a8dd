#include "agent/nodeattestor/join_token.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"

namespace signet::agent {
namespace {

constexpr size_t kMaxTokenFileBytes = 4096;
constexpr absl::string_view kAdvice = "make a token with `signet token generate` on the server and put it there";

}  // namespace

absl::StatusOr<std::string> JoinToken::Payload() {
  if (options_.token_file.empty()) return options_.token;
  const absl::StatusOr<std::string> content = fs::ReadFile(options_.token_file, kMaxTokenFileBytes);
  if (!content.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("node_attestor.join_token.token_file: ", content.status().message(), "; ", kAdvice));
  }
  const absl::string_view token = absl::StripAsciiWhitespace(*content);
  if (token.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("node_attestor.join_token.token_file: ", options_.token_file, " is empty; ", kAdvice));
  }
  return std::string(token);
}

absl::StatusOr<std::string> JoinToken::Respond(absl::string_view) {
  return absl::FailedPreconditionError("the server sent a challenge, and join tokens have none");
}

}  // namespace signet::agent
