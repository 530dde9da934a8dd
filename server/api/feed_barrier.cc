#include "server/api/feed_barrier.h"

#include "common/status/macros.h"
#include "server/api/call.h"

namespace signet::server {
namespace {

constexpr absl::Duration kOnce = absl::Seconds(1);  // docs/decisions.md, API
constexpr absl::Duration kWait = absl::Seconds(2);
constexpr size_t kMaxAsked = 65536;

}  // namespace

bool FeedBarrier::Due(const Caller& caller) {
  const absl::Duration now = clock_.Steady();
  MutexLock lock(mutex_);
  if (asked_.size() >= kMaxAsked) asked_.clear();
  auto [it, inserted] = asked_.try_emplace(IdentityOf(caller), now);
  if (inserted) return true;
  if (now - it->second < kOnce) return false;
  it->second = now;
  return true;
}

absl::Status FeedBarrier::CatchUp() {
  SIGNET_ASSIGN_OR_RETURN(const uint64_t seq, feed_.LastSeq());
  if (applier_.WaitFor(seq, kWait)) return absl::OkStatus();
  return absl::UnavailableError("server has not caught up with its database yet, try again");
}

}  // namespace signet::server
