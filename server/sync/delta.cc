#include "server/sync/delta.h"

#include <utility>
#include <vector>

namespace signet::server {

void WaitingDelta::Merge(const AgentChange& change) {
  entry_ids_.insert(change.entry_ids.begin(), change.entry_ids.end());
  bundles_ = bundles_ || !change.bundles.empty();
  set_seq(change.seq);
}

void WaitingDelta::Take(const std::function<EntryPtr(const std::string& id)>& find,
                        const std::function<bool(const std::string& id)>& remove,
                        const std::function<bool(const spiffe::Entry& entry)>& upsert) {
  std::vector<EntryPtr> present;
  bool room = true;
  for (auto it = entry_ids_.begin(); it != entry_ids_.end() && room;) {
    if (EntryPtr entry = find(*it)) {
      present.push_back(std::move(entry));
      ++it;
      continue;
    }
    room = remove(*it);
    it = entry_ids_.erase(it);
  }
  for (size_t i = 0; i < present.size() && room; ++i) {
    room = upsert(*present[i]);
    entry_ids_.erase(present[i]->id);
  }
}

}  // namespace signet::server
