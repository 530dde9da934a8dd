// Brings an EntryIndex and a TokenRegistry up to date with the database: all of it at start, then every change in
// commit order; in each step the registry first, so that a revocation holds before its entries are gone. One worker
// thread, woken by the feed's wake-up, with a 1 s poll as the safety net. Where the feed no longer reaches back
// everything is read anew.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/time/clock.h"
#include "server/datastore/data_store.h"
#include "server/entries/entry_index.h"
#include "server/token/token_registry.h"

namespace signet::server {

class FeedApplier {
 public:
  virtual ~FeedApplier() = default;
  // Loads everything (in pages, under one feed position), then follows. References must outlive it.
  // `registry` may be null.
  static absl::StatusOr<std::unique_ptr<FeedApplier>> Create(DataStore& store, EntryIndex& index, Clock& clock,
                                                             TokenRegistry* registry = nullptr);
  // Waits until both have applied the feed up to `seq`, or `timeout`. True when it has.
  virtual bool WaitFor(uint64_t seq, absl::Duration timeout) = 0;
  // OK while the feed is read: what readiness asks. Otherwise the index stands still at its position.
  virtual absl::Status Check() const = 0;
};

}  // namespace signet::server
