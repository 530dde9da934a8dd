#include "server/api/admission.h"

#include <utility>

#include "common/status/grpc_status.h"

namespace signet::server {

Admission::Ticket& Admission::Ticket::operator=(Ticket&& other) noexcept {
  if (owner_ != nullptr) owner_->Leave(identity_);
  owner_ = std::exchange(other.owner_, nullptr);
  identity_ = std::move(other.identity_);
  return *this;
}

Admission::Ticket::~Ticket() {
  if (owner_ != nullptr) owner_->Leave(identity_);
}

absl::StatusOr<Admission::Ticket> Admission::Enter(absl::string_view identity) {
  const size_t limit = identity.empty() ? options_.anonymous : options_.per_identity;
  MutexLock lock(mutex_);
  if (total_ >= options_.total) return OverloadedError("server is busy", absl::Seconds(2));
  size_t& mine = by_identity_[identity];
  if (mine >= limit) return OverloadedError("too many calls of this caller are waiting already", absl::Seconds(1));
  ++mine;
  ++total_;
  return Ticket(this, std::string(identity));
}

size_t Admission::waiting() const {
  MutexLock lock(mutex_);
  return total_;
}

void Admission::Leave(const std::string& identity) {
  MutexLock lock(mutex_);
  --total_;
  auto it = by_identity_.find(identity);
  if (--it->second == 0) by_identity_.erase(it);
}

}  // namespace signet::server
