#include "server/federation/bundle_refresher.h"

#include <algorithm>
#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "common/log/log.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"

namespace signet::server {
namespace {

constexpr int kTriesPerHint = 4;
constexpr absl::Duration kDefaultHint = absl::Minutes(5), kMinHint = absl::Minutes(1), kMaxHint = absl::Hours(24);

std::string EndpointId(const FederationRelationship& relationship) {
  return relationship.endpoint_spiffe_id ? relationship.endpoint_spiffe_id->string() : std::string();
}

}  // namespace

absl::Duration PollInterval(absl::Duration refresh_hint) {
  if (refresh_hint <= absl::ZeroDuration()) refresh_hint = kDefaultHint;
  return std::clamp(refresh_hint, kMinHint, kMaxHint) / kTriesPerHint;
}

BundleRefresher::BundleRefresher(FederationStore& federations, Fetch fetch, Clock& clock)
    : federations_(federations),
      fetch_(std::move(fetch)),
      clock_(clock),
      fetching_(std::make_unique<Executor>(Executor::Options{"bundle-fetch", kFetchThreads, 1024})),
      worker_("bundle-refresh", clock, [this] { return Step(); }) {}

BundleRefresher::~BundleRefresher() {
  Stop();
  fetching_.reset();
}

void BundleRefresher::Stop() {
  stopping_ = true;  // what is queued ends at once
  worker_.Stop();
}

void BundleRefresher::RefreshNow(const spiffe::TrustDomain& trust_domain, StatusCompletion done) {
  auto shared = std::make_shared<StatusCompletion>(std::move(done));
  const bool posted = fetching_->Post([this, trust_domain, shared] {
    const absl::StatusOr<FederationRelationship> relationship = federations_.GetFederation(trust_domain);
    (*shared)(relationship.ok() ? FetchAndStore(*relationship).status() : relationship.status());
  });
  if (!posted) (*shared)(OverloadedError("too many bundles wait to be fetched", absl::Seconds(5)));
}

BundleRefresher::Counts BundleRefresher::counts() {
  MutexLock lock(mutex_);
  Counts counts{.peers = peers_.size()};
  for (const auto& [name, peer] : peers_) {
    counts.fetching += peer.fetching ? 1 : 0;
    counts.failing += peer.failing ? 1 : 0;
  }
  return counts;
}

// Starts what is due; the result is the time until something else is.
absl::Duration BundleRefresher::Step() {
  const absl::Duration now = clock_.Steady();
  if (reload_.exchange(false) || now >= read_at_ + kReread) {
    if (const absl::Status read = ReadPeers(now); !read.ok()) {
      SIGNET_LOG(warn, "federation relationships cannot be read, will retry", {{"error", read.message()}});
      reload_ = true;
      return absl::Seconds(5);
    }
    read_at_ = now;
  }
  absl::Duration wait = read_at_ + kReread - now;
  MutexLock lock(mutex_);
  for (auto& [name, peer] : peers_) {
    if (!peer.fetching && peer.due <= now) {
      peer.fetching = fetching_->Post([this, td = name, url = peer.url, id = peer.endpoint_id] { Poll(td, url, id); });
      if (!peer.fetching) peer.due = now + absl::Seconds(5);
    }
    if (!peer.fetching) wait = std::min(wait, peer.due - now);
  }
  return wait;
}

absl::Status BundleRefresher::ReadPeers(absl::Duration now) {
  SIGNET_ASSIGN_OR_RETURN(const Page<FederationRelationship> all, federations_.ListFederations({}));
  std::map<spiffe::TrustDomain, Peer> kept;
  MutexLock lock(mutex_);
  for (const FederationRelationship& relationship : all.items) {
    Peer peer{.url = relationship.bundle_endpoint_url, .endpoint_id = EndpointId(relationship), .due = now};
    const auto before = peers_.find(relationship.trust_domain);
    // A fetch of the endpoint before it changed may still run; it ends on its own and counts for nothing.
    if (before != peers_.end() && before->second.url == peer.url && before->second.endpoint_id == peer.endpoint_id) {
      peer = before->second;
    }
    kept.emplace(relationship.trust_domain, std::move(peer));
  }
  peers_ = std::move(kept);
  return absl::OkStatus();
}

void BundleRefresher::Poll(const spiffe::TrustDomain& trust_domain, const std::string& url,
                           const std::string& endpoint_id) {
  // Read anew: an endpoint in the trust domain itself is judged by the last bundle known.
  const absl::StatusOr<FederationRelationship> relationship = federations_.GetFederation(trust_domain);
  absl::StatusOr<spiffe::Bundle> bundle = relationship.ok() ? FetchAndStore(*relationship) : relationship.status();
  {
    MutexLock lock(mutex_);
    const auto found = peers_.find(trust_domain);
    if (found == peers_.end()) return;  // deleted meanwhile
    Peer& peer = found->second;
    if (peer.url != url || peer.endpoint_id != endpoint_id) return;
    peer.fetching = false;
    if (bundle.ok()) {
      peer.backoff.Reset();
      peer.due = clock_.Steady() + PollInterval(bundle->refresh_hint);
      if (peer.failing) SIGNET_LOG(info, "bundle is fetched again", {{"trust_domain", trust_domain.name()}});
    } else {
      peer.due = clock_.Steady() + peer.backoff.Next();
      if (!peer.failing && !stopping_) {
        SIGNET_LOG(warn, "bundle not fetched, the one known stays in use, will retry",
                   {{"trust_domain", trust_domain.name()}, {"error", bundle.status().message()}});
      }
    }
    peer.failing = !bundle.ok();
  }
  worker_.Wake();
}

absl::StatusOr<spiffe::Bundle> BundleRefresher::FetchAndStore(const FederationRelationship& relationship) {
  if (stopping_) return absl::UnavailableError("server is going away");
  SIGNET_ASSIGN_OR_RETURN(spiffe::Bundle bundle, fetch_(relationship));
  std::promise<absl::StatusOr<bool>> stored;
  federations_.SetFetchedBundle(bundle, [&](absl::StatusOr<bool> changed) { stored.set_value(std::move(changed)); });
  SIGNET_ASSIGN_OR_RETURN(const bool changed, stored.get_future().get());
  if (changed) {
    SIGNET_LOG(info, "bundle of a federated trust domain has changed",
               {{"trust_domain", bundle.trust_domain.name()}, {"sequence", bundle.sequence_number}});
  }
  return bundle;
}

}  // namespace signet::server
