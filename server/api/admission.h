// Bounds the work that waits (disk, attestors, open streams) for each identity and for all together, so that one agent
// that misbehaves starves no other. By identity, not by address: many agents may share one. What is refused gets
// kResourceExhausted with the time to come back. CPU work runs inline in the reaction and is bounded by that.
// Thread-safe.
#pragma once

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/concurrency/mutex.h"

namespace signet::server {

class Admission {
 public:
  struct Options {
    size_t per_identity = 256;
    size_t anonymous = 512;  // all callers without an SVID together: attestations and bundle downloads
    size_t total = 8192;
  };

  // One piece of work; dropping it makes room.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept { *this = std::move(other); }
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket();

   private:
    friend class Admission;
    Ticket(Admission* owner, std::string identity) : owner_(owner), identity_(std::move(identity)) {}
    Admission* owner_ = nullptr;
    std::string identity_;
  };

  explicit Admission(Options options) : options_(options) {}
  // `identity` empty: nobody we know.
  absl::StatusOr<Ticket> Enter(absl::string_view identity);
  size_t waiting() const;

 private:
  void Leave(const std::string& identity);

  const Options options_;
  mutable Mutex mutex_;
  size_t total_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, size_t> by_identity_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::server
