// Who the agent is, on disk: SVID chain, key, own bundle, and whether it may attest again. One file, agent.state,
// replaced atomically, 0600, with a SHA-256 over its content. A damaged file is named, set aside and treated as absent:
// the agent then attests anew, and never serves half of it. Not thread-safe: used by bootstrap, then by the
// synchroniser's mint worker alone.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/x509_svid.h"
#include "common/time/clock.h"

namespace signet::agent {

struct StoredAgent {
  std::optional<spiffe::X509Svid> svid;
  bool reattestable = false;
  std::optional<spiffe::Bundle> bundle;
};

class AgentStore {
 public:
  struct Options {
    std::string directory;
    spiffe::TrustDomain trust_domain;
    bool keep_key = true;  // false: neither key nor SVID reach the disk
  };
  AgentStore(Options options, Clock& clock) : options_(std::move(options)), clock_(clock) {}

  // What is stored, or nothing. kFailedPrecondition: the file cannot be read for lack of rights, or others can read it;
  // that is for the operator to mend, not to replace.
  absl::StatusOr<StoredAgent> Load();
  absl::Status Save(const StoredAgent& agent);

  std::string path() const { return options_.directory + "/agent.state"; }

 private:
  absl::StatusOr<StoredAgent> Parse(const std::string& content) const;

  const Options options_;
  Clock& clock_;
};

}  // namespace signet::agent
