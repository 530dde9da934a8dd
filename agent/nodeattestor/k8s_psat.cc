#include "agent/nodeattestor/k8s_psat.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/crypto/key.h"
#include "common/fs/atomic_file.h"
#include "common/nodeattestor/k8s_psat.h"

namespace signet::agent {
namespace {

// The kubelet writes the file, and writes it anew: what is wrong with it now may be right at the next try.
absl::Status Unusable(absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("node_attestor.k8s_psat.token_path: ", why,
                   "; mount a projected volume with a serviceAccountToken of the server's audience there"));
}

}  // namespace

absl::string_view K8sPsat::type() const { return k8spsat::kType; }

absl::StatusOr<std::string> K8sPsat::Payload() {
  absl::StatusOr<std::string> content = fs::ReadFile(options_.token_path, k8spsat::kMaxTokenBytes + 2);
  if (!content.ok()) return Unusable(content.status().message());
  k8spsat::Evidence evidence{options_.cluster, std::string(absl::StripAsciiWhitespace(*content))};
  crypto::Cleanse(*content);
  if (evidence.token.empty()) return Unusable(absl::StrCat(options_.token_path, " is empty"));
  if (!k8spsat::IsToken(evidence.token)) return Unusable(absl::StrCat(options_.token_path, " holds no token"));
  std::string payload = k8spsat::Encode(evidence);
  crypto::Cleanse(evidence.token);
  return payload;
}

absl::StatusOr<std::string> K8sPsat::Respond(absl::string_view) {
  return absl::FailedPreconditionError("the server sent a challenge, and k8s_psat has none");
}

}  // namespace signet::agent
