#include "server/bundlepublisher/bundle_publication.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/concurrency/worker.h"
#include "common/kubernetes/api_client.h"
#include "common/log/log.h"
#include "common/spiffe/id.h"

namespace signet::server {

// One publisher and its worker.
class BundlePublication::Target {
 public:
  Target(const spiffe::TrustDomain& trust_domain, const EntryIndex& index, std::unique_ptr<BundlePublisher> publisher,
         telemetry::Health& health, Metrics& metrics, Clock& clock)
      : trust_domain_(trust_domain),
        index_(index),
        publisher_(std::move(publisher)),
        health_part_(absl::StrCat("bundle_publisher ", publisher_->name())),
        health_(health),
        metrics_(metrics),
        worker_("publish", clock, [this] { return Work(); }) {
    worker_.Wake();
  }
  ~Target() {
    publisher_->Cancel();
    worker_.Stop();
    health_.SetReady(health_part_);  // gone from the configuration, or replaced
  }

  void Wake() { worker_.Wake(); }

 private:
  absl::Duration Work() {
    const BundlePtr bundle = index_.FindBundle(trust_domain_);
    if (bundle == nullptr) return kAgain;  // a change is coming
    const absl::Status status = publisher_->Publish(*bundle);
    if (absl::IsCancelled(status)) return absl::InfiniteDuration();
    if (!status.ok()) return Failed(status);
    backoff_.Reset();
    failure_.clear();
    health_.SetReady(health_part_);
    if (std::exchange(published_, bundle->Revision()) != published_) {
      metrics_.bundles_published.Add();
      SIGNET_LOG(info, "bundle published", {{"publisher", publisher_->name()}, {"revision", published_.substr(0, 16)}});
    }
    return kAgain;
  }

  absl::Duration Failed(const absl::Status& status) {
    metrics_.bundle_publications_failed.Add();
    health_.SetDegraded(health_part_, absl::StrCat("the bundle is not published: ", status.message()));
    if (std::exchange(failure_, std::string(status.message())) != failure_) {  // once, not at each try
      SIGNET_LOG(error, "bundle not published, will retry",
                 {{"publisher", publisher_->name()}, {"error", status.message()}});
    }
    return std::max(backoff_.Next(), kubernetes::RetryAfter(status).value_or(absl::ZeroDuration()));
  }

  const spiffe::TrustDomain trust_domain_;
  const EntryIndex& index_;
  const std::unique_ptr<BundlePublisher> publisher_;
  const std::string health_part_;
  telemetry::Health& health_;
  Metrics& metrics_;
  // The worker's.
  Backoff backoff_{kFirstRetry, kLongestRetry};
  std::string published_;  // revision
  std::string failure_;
  Worker worker_;
};

BundlePublication::BundlePublication(const spiffe::TrustDomain& trust_domain, EntryIndex& index,
                                     BundlePublishers publishers, telemetry::Health& health, Metrics& metrics,
                                     Clock& clock) {
  for (std::unique_ptr<BundlePublisher>& publisher : publishers) {
    targets_.push_back(std::make_unique<Target>(trust_domain, index, std::move(publisher), health, metrics, clock));
  }
  if (targets_.empty()) return;
  // Whoever is of the trust domain is told of its bundle's changes.
  const absl::StatusOr<spiffe::Id> server = spiffe::Id::FromPath(trust_domain, "/spire/server");
  changes_ = index.Subscribe(*server, [this](const AgentChange& change) {
    if (change.bundles.empty()) return;
    for (const std::unique_ptr<Target>& target : targets_) target->Wake();
  });
  for (const std::unique_ptr<Target>& target : targets_) target->Wake();  // what changed before the subscription
}

BundlePublication::~BundlePublication() = default;

}  // namespace signet::server
