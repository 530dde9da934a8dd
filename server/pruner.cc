#include "server/pruner.h"

#include <string>

#include "common/log/log.h"

namespace signet::server {
namespace {

Completion<size_t> Tell(std::string what) {
  return [what = std::move(what)](const absl::StatusOr<size_t>& count) {
    if (!count.ok()) {
      SIGNET_LOG(warn, "pruning failed, will retry", {{"what", what}, {"error", count.status().message()}});
    } else if (*count > 0) {
      SIGNET_LOG(info, "pruned", {{"what", what}, {"count", *count}});
    }
  };
}

}  // namespace

Pruner::Pruner(std::optional<absl::Duration> agents_expired_for, EntryStore& entries, AgentStore& agents,
               JoinTokenStore& tokens, RevocationStore& revocations, TokenUseStore& uses, Clock& clock)
    : agents_expired_for_(agents_expired_for),
      entries_(entries),
      agents_(agents),
      tokens_(tokens),
      revocations_(revocations),
      uses_(uses),
      clock_(clock),
      worker_("pruner", clock, [this] {
        Step();
        return kInterval;
      }) {}

void Pruner::Step() {
  const absl::Time now = clock_.Now();
  entries_.PruneExpiredEntries(now, kBatch, Tell("entries"));
  tokens_.PruneJoinTokens(now, Tell("join tokens"));
  uses_.PruneUses(now, Tell("used values and refresh tokens"));
  revocations_.PruneRevocations(now - kRevocationsKept, now - kTokenRevocationsKept, Tell("revocations"));
  if (agents_expired_for_) agents_.PruneAgents(now - *agents_expired_for_, false, kBatch, Tell("agents"));
}

}  // namespace signet::server
