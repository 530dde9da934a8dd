// Seam, server half: proves what a node is from the evidence it sends. One object a configured attestor, shared by all
// calls. Waiting work is asynchronous: completions may run on any thread.
// Errors: kInvalidArgument malformed evidence; kPermissionDenied evidence that does not hold; kUnavailable retry.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/id.h"
#include "common/spiffe/selector.h"

namespace signet::server {

// What a node was proven to be. What must happen in the transaction that records it is said here, not done.
struct AttestedNode {
  spiffe::Id agent_id;
  spiffe::Selectors selectors;
  bool can_reattest = false;
  std::optional<std::string> consume_token_sha256;  // join tokens: spent together with the record
  std::string token_spent_by;                       // spent a moment ago by the key of this SHA-256: for it alone
  std::optional<spiffe::Id> alias_id;               // an alias entry for this ID is made with the record
};

// One attestation in progress: payload in, perhaps challenges, a verdict out.
class NodeAttestation {
 public:
  virtual ~NodeAttestation() = default;  // destroying it cancels: a completion that has not begun is dropped
  struct Step {
    std::optional<std::string> challenge;  // send it and call Respond with the answer
    std::optional<AttestedNode> node;      // or: done
  };
  // May destroy the attestation: an implementation touches nothing of itself once it has called one.
  using Done = absl::AnyInvocable<void(absl::StatusOr<Step>)>;
  virtual void Start(std::string payload, Done done) = 0;
  virtual void Respond(std::string response, Done done) = 0;
};

class NodeAttestor {
 public:
  virtual ~NodeAttestor() = default;
  virtual absl::string_view type() const = 0;  // "join_token", "x509pop": the wire's names
  virtual std::unique_ptr<NodeAttestation> Begin() = 0;
};

// Those that are configured. A reload replaces them all; an attestation in progress keeps the snapshot it began with,
// and so may be what destroys it.
using NodeAttestors = std::vector<std::unique_ptr<NodeAttestor>>;

}  // namespace signet::server
