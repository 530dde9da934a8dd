// What the sealed cache holds, and its bytes inside the seals: the whole at one moment, and one record for each change
// since. CacheReplay makes the whole of both again. No I/O. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "agent/sync/memory_svid_cache.h"
#include "signet/agent/storage.pb.h"

namespace signet::agent {

using BundleRevisions = std::map<std::string, std::string>;  // trust domain name -> the server's name for the revision

struct SealedState {
  CacheSnapshot snapshot;
  std::string epoch;
  BundleRevisions bundle_revisions;
};

// In this order: removals, then what is there from now on.
struct RecordedChange {
  std::vector<std::string> removed_ids;
  std::vector<spiffe::Entry> entries;
  std::vector<std::pair<spiffe::Bundle, std::string>> bundles;  // with the server's name for the revision
  std::vector<std::string> removed_bundles;
  std::vector<HeldSvid> svids;
  bool empty() const {
    return removed_ids.empty() && entries.empty() && bundles.empty() && removed_bundles.empty() && svids.empty();
  }
};

// Both hold private keys: to be cleansed. `next_record`: the first that is not taken in.
std::string ToBytes(const SealedState& state, uint64_t next_record, absl::Time now);
std::string ToBytes(const RecordedChange& change, absl::Time now);

// Any error: damaged, and nothing of it is to be used.
class CacheReplay {
 public:
  explicit CacheReplay(const spiffe::TrustDomain& trust_domain) : trust_domain_(trust_domain) {}
  ~CacheReplay();  // cleanses the keys
  CacheReplay(const CacheReplay&) = delete;
  CacheReplay& operator=(const CacheReplay&) = delete;

  // Once at most, and first.
  absl::Status AddWhole(absl::string_view bytes);
  absl::Status AddRecord(absl::string_view bytes);
  uint64_t next_record() const { return next_record_; }
  // SVIDs that have ended, or whose entry is gone or has another SPIFFE ID, are left out. kFailedPrecondition: the
  // clock is behind what was written, so that nobody can say what has ended.
  absl::StatusOr<SealedState> Finish(Instant now);

 private:
  absl::Status Apply(storage::Change& change);

  const spiffe::TrustDomain trust_domain_;
  uint64_t next_record_ = 0;
  absl::Time written_at_ = absl::InfinitePast();
  std::string epoch_;
  std::map<std::string, EntryPtr> entries_;
  std::map<std::string, std::pair<BundlePtr, std::string>> bundles_;
  std::map<std::string, storage::Svid> svids_;  // by entry id
};

}  // namespace signet::agent
