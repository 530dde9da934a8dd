// Node attestor "x509pop", agent half: the node's certificate, and a signature with its key when challenged.
#pragma once

#include <optional>
#include <string>

#include "agent/nodeattestor/node_attestor.h"
#include "common/crypto/key.h"

namespace signet::agent {

class X509Pop final : public NodeAttestor {
 public:
  struct Options {
    std::string certificate_path;    // PEM: leaf, then intermediates
    std::string private_key_path;    // PEM; readable by its owner alone
    std::string intermediates_path;  // PEM; empty: none
  };
  explicit X509Pop(Options options) : options_(std::move(options)) {}

  absl::string_view type() const override;
  // Reads the files anew, so that a renewed certificate is used without a restart.
  absl::StatusOr<std::string> Payload() override;
  absl::StatusOr<std::string> Respond(absl::string_view challenge) override;

 private:
  const Options options_;
  std::optional<crypto::PrivateKey>
      key_;  // that of the last Payload(): the files may change before the challenge comes
};

}  // namespace signet::agent
