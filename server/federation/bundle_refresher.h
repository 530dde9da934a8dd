// Keeps the bundles of federated trust domains fresh: each relationship is polled at a quarter of its bundle's refresh
// hint (SPIRE's rule: four tries a hint), sooner and with backoff after a failure. The bundle that was there stays
// until another has been fetched. Owns one worker thread and a few for fetching, so that a slow endpoint delays no
// other. Thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/concurrency/executor.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/time/clock.h"
#include "server/datastore/data_store.h"

namespace signet::server {

class BundleRefresher {
 public:
  // What another server may have written to the database is noticed this soon.
  static constexpr absl::Duration kReread = absl::Minutes(1);
  static constexpr size_t kFetchThreads = 4;
  // Blocks until the bundle is there or not: BundleClient::Fetch.
  using Fetch = std::function<absl::StatusOr<spiffe::Bundle>(const FederationRelationship&)>;

  BundleRefresher(FederationStore& federations, Fetch fetch, Clock& clock);
  ~BundleRefresher();  // waits for the fetches that run

  // The relationships have changed: what is new or differs is fetched at once.
  void Reload() {
    reload_ = true;
    worker_.Wake();
  }
  // Fetches now. kNotFound: no relationship with it; kResourceExhausted: too many wait; else as the fetch.
  void RefreshNow(const spiffe::TrustDomain& trust_domain, StatusCompletion done);
  // Begins no fetch any more; RefreshNow answers kUnavailable. Those that run end within the client's timeout.
  void Stop();

  struct Counts {
    size_t peers = 0, fetching = 0, failing = 0;
  };
  Counts counts();

 private:
  struct Peer {
    std::string url, endpoint_id;  // what the state below belongs to
    absl::Duration due;            // steady time
    bool fetching = false;
    bool failing = false;
    Backoff backoff{absl::Seconds(5), absl::Minutes(5)};
  };

  absl::Duration Step();
  absl::Status ReadPeers(absl::Duration now);
  // On an executor's thread: `url` and `endpoint_id` say what it was begun for.
  void Poll(const spiffe::TrustDomain& trust_domain, const std::string& url, const std::string& endpoint_id);
  absl::StatusOr<spiffe::Bundle> FetchAndStore(const FederationRelationship& relationship);

  FederationStore& federations_;
  const Fetch fetch_;
  Clock& clock_;
  std::atomic<bool> reload_ = true, stopping_ = false;
  absl::Duration read_at_;  // steady time; the worker's own
  Mutex mutex_;
  std::map<spiffe::TrustDomain, Peer> peers_ ABSL_GUARDED_BY(mutex_);
  // There before the worker, which posts to it, and gone before it, as what it runs wakes the worker.
  std::unique_ptr<Executor> fetching_;
  Worker worker_;
};

// When to ask again: a quarter of the hint, which counts as 5 minutes when there is none, and as 1 minute to 1 day.
absl::Duration PollInterval(absl::Duration refresh_hint);

}  // namespace signet::server
