// Confirms a negative answer about entries: waits until memory has all that the database held when asked. At most once
// per caller and second; in between the answer of memory stands.
// Thread-safe. CatchUp reads the database and waits: run it on an Executor.
#pragma once

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/concurrency/mutex.h"
#include "common/time/clock.h"
#include "server/api/caller.h"
#include "server/datastore/data_store.h"
#include "server/entries/feed_applier.h"

namespace signet::server {

class FeedBarrier {
 public:
  FeedBarrier(ChangeFeed& feed, FeedApplier& applier, Clock& clock) : feed_(feed), applier_(applier), clock_(clock) {}

  // False: asked for this caller within the last second, the answer would not differ.
  bool Due(const Caller& caller);
  // kUnavailable when memory does not get there in two seconds.
  absl::Status CatchUp();

 private:
  ChangeFeed& feed_;
  FeedApplier& applier_;
  Clock& clock_;
  Mutex mutex_;
  absl::flat_hash_map<std::string, absl::Duration> asked_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::server
