// Node attestor "join_token", agent half: the evidence is the token.
#pragma once

#include <string>

#include "agent/nodeattestor/node_attestor.h"

namespace signet::agent {

class JoinToken final : public NodeAttestor {
 public:
  struct Options {
    std::string token_file;  // read anew each time; white space around the token is ignored
    std::string token;       // used when token_file is empty
  };
  explicit JoinToken(Options options) : options_(std::move(options)) {}

  absl::string_view type() const override { return "join_token"; }
  absl::StatusOr<std::string> Payload() override;
  absl::StatusOr<std::string> Respond(absl::string_view challenge) override;

 private:
  const Options options_;
};

}  // namespace signet::agent
