// Bundles as they are sent to agents, made once for all streams.
// Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "common/concurrency/mutex.h"
#include "common/spiffe/trust_domain.h"
#include "server/entries/entry_index.h"
#include "signet/server/v1/agent_sync.pb.h"

namespace signet::server {

class BundleUpdates {
 public:
  explicit BundleUpdates(const EntryIndex& index) : index_(index) {}

  // The bundle of now with its revision; null when there is none.
  std::shared_ptr<const v1::BundleUpdate> Get(const std::string& trust_domain);

 private:
  struct Made {
    BundlePtr from;
    std::shared_ptr<const v1::BundleUpdate> update;
  };
  const EntryIndex& index_;
  Mutex mutex_;
  absl::flat_hash_map<std::string, Made> made_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace signet::server
