// Seam, agent half: produces the evidence that proves this node. Runs on the synchroniser's thread; may block on files.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace signet::agent {

class NodeAttestor {
 public:
  virtual ~NodeAttestor() = default;
  virtual absl::string_view type() const = 0;  // "join_token", "x509pop": the wire's names
  // Fresh evidence, read anew each time. kFailedPrecondition says what to put where, and may end an agent that has
  // nothing left to serve; kUnavailable the same of what comes by itself, and is tried again.
  virtual absl::StatusOr<std::string> Payload() = 0;
  // The answer to a challenge of the server; attestors without challenges refuse with kFailedPrecondition.
  virtual absl::StatusOr<std::string> Respond(absl::string_view challenge) = 0;
};

}  // namespace signet::agent
