// Node attestor "k8s_psat", agent half: the evidence is the projected service-account token of the agent's pod.
#pragma once

#include <string>
#include <utility>

#include "agent/nodeattestor/node_attestor.h"

namespace signet::agent {

class K8sPsat final : public NodeAttestor {
 public:
  struct Options {
    std::string cluster;
    std::string token_path;  // read anew each time: the kubelet replaces it before it ends
  };
  explicit K8sPsat(Options options) : options_(std::move(options)) {}

  absl::string_view type() const override;
  absl::StatusOr<std::string> Payload() override;
  absl::StatusOr<std::string> Respond(absl::string_view challenge) override;

 private:
  const Options options_;
};

}  // namespace signet::agent
