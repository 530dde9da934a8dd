#include "server/token/revoker.h"

#include <memory>
#include <utility>

namespace signet::server {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(5);

}  // namespace

void Revoker::Revoke(RevokeChange change, Completion<uint64_t> done) {
  store_.Revoke(std::move(change), clock_.Now(), [this, done = std::move(done)](absl::StatusOr<uint64_t> seq) mutable {
    if (!seq.ok()) return done(seq.status());
    // Shared: Post drops the task when it refuses it, and somebody still has to be told.
    auto waiting = std::make_shared<Completion<uint64_t>>(std::move(done));
    const bool posted = executor_.Post([this, position = *seq, waiting] {
      if (!wait_for_(position, kPatience)) {
        return (*waiting)(absl::UnavailableError("revoked, but memory does not show it yet; ask again"));
      }
      if (!gate_.Drain(kPatience)) {
        return (*waiting)(absl::UnavailableError("revoked, but an answer that began before has not left; ask again"));
      }
      (*waiting)(position);
    });
    if (!posted) (*waiting)(absl::ResourceExhaustedError("revoked, but too much waits to confirm it; ask again"));
  });
}

}  // namespace signet::server
