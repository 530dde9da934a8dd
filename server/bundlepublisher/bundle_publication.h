// Keeps what is published equal to the bundle in memory: at start, on every change (those that come while one is being
// written are one), and once a minute, for the case that somebody else has altered it. Each publisher has a worker of
// its own, so that none waits for another; one that fails is tried again with backoff, and says why in log and health.
// Thread-safe.
#pragma once

#include <memory>

#include "absl/time/time.h"
#include "common/spiffe/trust_domain.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"
#include "server/bundlepublisher/bundle_publisher.h"
#include "server/entries/entry_index.h"
#include "server/metrics.h"

namespace signet::server {

class BundlePublication {
 public:
  static constexpr absl::Duration kAgain = absl::Minutes(1);
  static constexpr absl::Duration kFirstRetry = absl::Seconds(1), kLongestRetry = absl::Seconds(30);

  // Begins at once. The references outlive it. No publishers: nothing to do.
  BundlePublication(const spiffe::TrustDomain& trust_domain, EntryIndex& index, BundlePublishers publishers,
                    telemetry::Health& health, Metrics& metrics, Clock& clock);
  ~BundlePublication();  // cancels what is being written
  BundlePublication(const BundlePublication&) = delete;
  BundlePublication& operator=(const BundlePublication&) = delete;

 private:
  class Target;
  std::vector<std::unique_ptr<Target>> targets_;
  std::unique_ptr<EntryIndex::Subscription> changes_;  // goes first: it wakes the targets
};

}  // namespace signet::server
