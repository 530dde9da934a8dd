// The X509-SVID of this process and the bundles it came with, kept current by the Workload API as a workload should:
// one stream for as long as it lasts, opened again with backoff. Thread-safe.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include <grpcpp/client_context.h>

#include "absl/status/statusor.h"
#include "common/concurrency/latest_value.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/crypto/chain_verifier.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/id.h"
#include "common/spiffe/x509_svid.h"

namespace signet::cli {

struct HeldIdentity {
  spiffe::X509Svid svid;  // the first of those the agent gave: the one to use where none is named (Workload API 5.2)
  struct Trust {
    std::shared_ptr<const spiffe::Bundle> bundle;
    std::shared_ptr<const crypto::TrustAnchors> anchors;
  };
  std::map<std::string, Trust> trust;  // by trust domain: its own, and the federated ones

  std::shared_ptr<const spiffe::Bundle> BundleOf(const spiffe::TrustDomain& trust_domain) const;
  // The peer's chain judged by X509-SVID 5. Who may do what is the caller's to say.
  absl::StatusOr<spiffe::Id> Verify(absl::Span<const crypto::Certificate> chain, absl::Time now) const;
};

class IdentityStream {
 public:
  // `on_trouble` is told why there is none at the moment, on the stream's thread. `socket`: a path.
  IdentityStream(std::string socket, Clock& clock, std::function<void(const absl::Status&, absl::Duration)> on_trouble);
  ~IdentityStream();  // ends the stream

  // Null until the agent has given one. The last one stays when the agent goes away: it is good until its end.
  LatestValue<HeldIdentity>& current() { return current_; }

 private:
  absl::Duration Follow();
  absl::Status Read();

  const std::string socket_;
  const std::function<void(const absl::Status&, absl::Duration)> on_trouble_;
  LatestValue<HeldIdentity> current_;
  Backoff backoff_{absl::Milliseconds(200), absl::Seconds(15)};
  Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ClientContext* call_ ABSL_GUARDED_BY(mutex_) = nullptr;
  Worker worker_;  // last: it runs while the rest is there
};

}  // namespace signet::cli
