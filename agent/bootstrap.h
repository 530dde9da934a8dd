// The first trust: how an agent that holds no bundle comes to one. Afterwards the server's own updates are followed.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/spiffe/bundle.h"

namespace signet::agent {

// At most one is set.
struct TrustSource {
  std::string path;  // PEM or SPIFFE JSON, told apart by content
  std::string url;   // https, the same two formats
  bool insecure = false;
};

// Blocks on file or network. `ask_server` fetches the bundle over a connection on which any server is believed: used
// for `insecure` alone. kFailedPrecondition says what to configure; kInvalidArgument what is wrong with the bundle;
// kUnavailable: try again.
absl::StatusOr<spiffe::Bundle> FirstTrust(const TrustSource& source, const spiffe::TrustDomain& trust_domain,
                                          const std::function<absl::StatusOr<spiffe::Bundle>()>& ask_server);

}  // namespace signet::agent
