#include "agent/sync/agent_identity.h"

#include <algorithm>
#include <utility>

namespace signet::agent {

AgentIdentity::AgentIdentity(AgentStore& store, StoredAgent stored, Clock& clock) : store_(store), clock_(clock) {
  MutexLock saving(save_mutex_);
  MutexLock lock(mutex_);
  reattestable_ = stored.reattestable;
  bundle_ = std::move(stored.bundle);
  if (!stored.svid.has_value() || stored.svid->leaf().not_after() <= clock_.Now()) return;
  const crypto::Certificate& leaf = stored.svid->leaf();
  life_ = {.issued = leaf.not_before() + absl::Seconds(10),  // servers date back by that much
           .not_after = leaf.not_after(),
           .received_steady = clock_.Steady(),
           .jitter = RenewalJitter(stored.svid->id.string(), leaf.serial())};
  svid_ = std::make_shared<const spiffe::X509Svid>(*std::move(stored.svid));
}

std::shared_ptr<const spiffe::X509Svid> AgentIdentity::svid() const {
  MutexLock lock(mutex_);
  return svid_;
}

bool AgentIdentity::reattestable() const {
  MutexLock lock(mutex_);
  return reattestable_;
}

bool AgentIdentity::Due() const { return UntilDue() == absl::ZeroDuration(); }

bool AgentIdentity::Expired() const {
  MutexLock lock(mutex_);
  return svid_ == nullptr || life_.Expired(Now());
}

absl::Duration AgentIdentity::UntilDue() const {
  MutexLock lock(mutex_);
  if (svid_ == nullptr) return absl::ZeroDuration();
  return std::max(life_.RenewAtAge() - life_.Age(Now()), absl::ZeroDuration());
}

absl::Status AgentIdentity::SetSvid(spiffe::X509Svid svid, bool reattestable) {
  MutexLock saving(save_mutex_);
  {
    MutexLock lock(mutex_);
    const crypto::Certificate& leaf = svid.leaf();
    life_ =
        SvidLife::Received(leaf.not_before(), leaf.not_after(), RenewalJitter(svid.id.string(), leaf.serial()), Now());
    svid_ = std::make_shared<const spiffe::X509Svid>(std::move(svid));
    reattestable_ = reattestable;
  }
  return Save();
}

absl::Status AgentIdentity::SetBundle(const spiffe::Bundle& bundle) {
  MutexLock saving(save_mutex_);
  if (bundle_.has_value() && *bundle_ == bundle) return absl::OkStatus();
  bundle_ = bundle;
  return Save();
}

absl::Status AgentIdentity::ForgetSvid() {
  MutexLock saving(save_mutex_);
  {
    MutexLock lock(mutex_);
    svid_.reset();
  }
  return Save();
}

absl::Status AgentIdentity::Save() {
  StoredAgent agent;
  if (const auto held = svid()) agent.svid = *held;
  agent.reattestable = reattestable();
  agent.bundle = bundle_;
  return store_.Save(agent);
}

}  // namespace signet::agent
