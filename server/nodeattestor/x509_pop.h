// Node attestor "x509pop": a certificate that chains to configured roots, and a signature that proves its key is there.
// SPIRE's wire (common/nodeattestor/x509_pop.h). The agent becomes /spire/agent/<prefix>/<SHA-1 of the certificate>.
// Selectors of type x509pop: subject:cn:<CN>, ca:fingerprint:<SHA-1> of each certificate that vouches for the leaf,
// serialnumber:<hex>, san:<key>:<value> for each URI SAN x509pop://<trust domain>/<key>/<value>.
// Runs inline: its cost is bounded by the caps on the evidence.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/crypto/chain_verifier.h"
#include "common/spiffe/trust_domain.h"
#include "common/time/clock.h"
#include "server/nodeattestor/node_attestor.h"

namespace signet::server {

class X509Pop final : public NodeAttestor {
 public:
  struct Options {
    spiffe::TrustDomain trust_domain;
    std::vector<std::string> ca_bundle_paths;  // PEM; at least one
    std::string agent_path_prefix = "x509pop";
  };
  // Reads the roots. kInvalidArgument names the file or key at fault. `clock` outlives the attestor.
  static absl::StatusOr<std::unique_ptr<X509Pop>> Create(Options options, Clock& clock);

  absl::string_view type() const override;
  std::unique_ptr<NodeAttestation> Begin() override;

 private:
  X509Pop(Options options, crypto::TrustAnchors roots, Clock& clock);

  const Options options_;
  const crypto::TrustAnchors roots_;
  Clock& clock_;
};

}  // namespace signet::server
