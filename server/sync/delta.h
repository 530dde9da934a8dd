// What waits to be told to one agent: names of entries, never their values. A value is looked up when it is sent, so
// however changes are merged for a slow reader, what goes out is the state of that moment: a removal is never undone by
// an older value that was still waiting, and an entry that changed ten times is sent once.
// Pure; not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/container/btree_set.h"
#include "server/entries/entry_index.h"

namespace signet::server {

class WaitingDelta {
 public:
  void Merge(const AgentChange& change);
  void AddEntry(const std::string& id) { entry_ids_.insert(id); }
  // Some bundle may differ from what the agent holds. Which, the sender finds out.
  void MarkBundles() { bundles_ = true; }
  bool TakeBundles() { return std::exchange(bundles_, false); }

  bool empty() const { return entry_ids_.empty() && !bundles_; }
  // The feed position that the agent reaches with the last of what waits. Until then it has not moved.
  uint64_t seq() const { return seq_; }
  void set_seq(uint64_t seq) { seq_ = std::max(seq_, seq); }

  // Hands out what waits: all removals before any entry, for they must not wait. `find`: the entry as the agent is
  // authorised for it now, null when it is not. `remove` and `upsert` return false when the message is full: what they
  // were given has been taken, the rest goes on waiting.
  void Take(const std::function<EntryPtr(const std::string& id)>& find,
            const std::function<bool(const std::string& id)>& remove,
            const std::function<bool(const spiffe::Entry& entry)>& upsert);

 private:
  absl::btree_set<std::string> entry_ids_;
  bool bundles_ = false;
  uint64_t seq_ = 0;
};

}  // namespace signet::server
