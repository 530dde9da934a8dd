// One number for a whole set of entries: server and agent compare it before they compare entries (agent_sync.proto).
// Equal digests mean the same ids in the same versions; nothing else of an entry enters, a version never changes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::spiffe {

// What tells one state of an entry from every other: the id, its revision, and the creation, because an id may be
// deleted and created again, which starts at revision 0.
struct EntryVersion {
  absl::string_view id;
  int64_t revision = 0;
  absl::Time created_at = absl::UnixEpoch();  // only whole seconds count
};

// SHA-256, 32 raw bytes, over the versions in the order of their ids; the order given does not matter.
// For each: length of the id as 4 bytes, the id, revision and creation in Unix seconds as 8 bytes each, big-endian.
std::string EntryDigest(std::vector<EntryVersion> entries);

}  // namespace signet::spiffe
