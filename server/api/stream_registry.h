// A stream ends with its authority. Every server stream of an SVID's holder is registered here and told to end when its
// agent is banned or deleted, when its serial was superseded (after a short overlap, so that a renewed agent can change
// over without a gap), at notAfter, and when a bundle comes under which its chain no longer verifies.
// Thread-safe; one worker thread, woken by the entry index and by the clock.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/concurrency/mutex.h"
#include "common/concurrency/worker.h"
#include "common/time/clock.h"
#include "server/api/authorizer.h"
#include "server/api/caller.h"
#include "server/entries/entry_index.h"

namespace signet::server {

class StreamRegistry {
 public:
  static constexpr absl::Duration kOverlap = absl::Seconds(30);  // how long a superseded serial's stream may go on

  // Called at most once, on the registry's thread or the one that shuts down: start ending the stream with this status
  // and return. Must not destroy the handle.
  using End = std::function<void(const absl::Status& status)>;

  // The registration; dropping it takes the stream off and waits for an `End` that is running.
  class Handle {
   public:
    ~Handle();
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;

   private:
    friend class StreamRegistry;
    Handle(StreamRegistry& registry, uint64_t id) : registry_(registry), id_(id) {}
    StreamRegistry& registry_;
    const uint64_t id_;
  };

  StreamRegistry(Authorizer& authorizer, CallerSource& callers, EntryIndex& index, Clock& clock);
  ~StreamRegistry();

  // `method` is what the stream was granted for: it ends when it would not be granted again, and at `deadline` in any
  // case. A local or anonymous caller's stream ends only then and at shutdown.
  [[nodiscard]] std::unique_ptr<Handle> Register(Method method, CallerPtr caller, End end,
                                                 absl::Time deadline = absl::InfiniteFuture());
  // Ends all, now and from here on.
  void FinishAll(const absl::Status& status);
  size_t size() const;

 private:
  struct Stream;
  absl::Duration Sweep();
  absl::Status Examine(Stream& stream, absl::Time now, absl::Time& look_again);
  void RunEnd(uint64_t id, Stream& stream, const absl::Status& status);
  void Drop(uint64_t id);

  Authorizer& authorizer_;
  CallerSource& callers_;
  EntryIndex& index_;
  Clock& clock_;
  mutable Mutex mutex_;
  std::condition_variable idle_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t ending_ ABSL_GUARDED_BY(mutex_) = 0;  // the stream whose End runs now
  std::thread::id ending_thread_ ABSL_GUARDED_BY(mutex_);
  absl::Status finished_ ABSL_GUARDED_BY(mutex_);
  Worker worker_;  // last: starts when all else stands
};

}  // namespace signet::server
