#include "server/entries/entry_graph.h"

#include <algorithm>
#include <utility>

namespace signet::server {

struct EntryGraph::EntrySlot {
  EntryPtr entry;
  uint64_t order = 0;                 // first 8 bytes of the id, big-endian: most comparisons end here
  Node* parent = nullptr;             // null: an alias
  EntrySlot* next_of_name = nullptr;  // with the same SPIFFE ID
};

struct EntryGraph::AgentSlot {
  AgentPtr agent;
  Node* node = nullptr;
  bool listened = false;
  std::vector<EntrySlot*> aliases;
  std::vector<Node*> reach;
};

struct EntryGraph::Node {
  std::string id;
  AgentSlot* agent = nullptr;  // whose own ID this is
  absl::btree_set<EntrySlot*, InOrder> children;
  bool maybe_inner = false;  // a child may have children itself; false: surely none
  Agents reached_by;
};

namespace {

uint64_t OrderOf(absl::string_view id) {
  uint64_t order = 0;
  for (size_t i = 0; i < 8; ++i) order = order << 8 | (i < id.size() ? static_cast<unsigned char>(id[i]) : 0);
  return order;
}

template <typename Map, typename Key>
void EraseFrom(Map& map, const Key& key, typename Map::mapped_type::key_type value) {
  auto it = map.find(key);
  if (it == map.end()) return;
  it->second.erase(value);
  if (it->second.empty()) map.erase(it);
}

}  // namespace

size_t EntryGraph::ById::operator()(const EntrySlot* slot) const { return (*this)(absl::string_view(slot->entry->id)); }
bool EntryGraph::ById::operator()(const EntrySlot* a, const EntrySlot* b) const { return a->entry->id == b->entry->id; }
bool EntryGraph::ById::operator()(const EntrySlot* slot, absl::string_view id) const { return slot->entry->id == id; }

size_t EntryGraph::BySpiffeId::operator()(const EntrySlot* slot) const {
  return (*this)(absl::string_view(slot->entry->spiffe_id.string()));
}
bool EntryGraph::BySpiffeId::operator()(const EntrySlot* a, const EntrySlot* b) const {
  return a->entry->spiffe_id == b->entry->spiffe_id;
}
bool EntryGraph::BySpiffeId::operator()(const EntrySlot* slot, absl::string_view id) const {
  return slot->entry->spiffe_id.string() == id;
}

bool EntryGraph::InOrder::operator()(const EntrySlot* a, const EntrySlot* b) const {
  return a->order != b->order ? a->order < b->order : a->entry->id < b->entry->id;
}

EntryGraph::EntryGraph(const spiffe::TrustDomain& trust_domain) : server_id_(spiffe::ServerId(trust_domain).string()) {}

EntryGraph::~EntryGraph() {
  for (EntrySlot* slot : entries_) delete slot;
}

// --- look-ups
// ----------------------------------------------------------------------------------------------------------

EntryPtr EntryGraph::FindEntry(absl::string_view id) const {
  auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : (*it)->entry;
}

AgentPtr EntryGraph::FindAgent(absl::string_view id) const {
  auto it = agents_.find(id);
  return it == agents_.end() ? nullptr : it->second.agent;
}

std::vector<EntryPtr> EntryGraph::AuthorizedEntries(absl::string_view agent_id) const {
  std::vector<EntryPtr> result;
  auto it = agents_.find(agent_id);
  if (it == agents_.end()) return result;
  const AgentSlot& agent = it->second;
  size_t count = agent.aliases.size();
  for (const Node* node : agent.reach) count += node->children.size();
  result.reserve(count);
  const auto in_order = [](const EntryPtr& a, const EntryPtr& b) { return a->id < b->id; };
  for (const Node* node : agent.reach) {
    const auto middle = static_cast<std::ptrdiff_t>(result.size());
    for (const EntrySlot* slot : node->children) result.push_back(slot->entry);
    std::inplace_merge(result.begin(), result.begin() + middle, result.end(), in_order);
  }
  for (const EntrySlot* slot : agent.aliases) {  // few
    result.insert(std::upper_bound(result.begin(), result.end(), slot->entry, in_order), slot->entry);
  }
  return result;
}

EntryPtr EntryGraph::FindAuthorized(absl::string_view agent_id, absl::string_view entry_id) const {
  auto entry = entries_.find(entry_id);
  auto agent = agents_.find(agent_id);
  if (entry == entries_.end() || agent == agents_.end()) return nullptr;
  // Both sets are kept from one another; the node's, not the agent's list, because it is hashed.
  return AgentsOf(**entry).contains(const_cast<AgentSlot*>(&agent->second)) ? (*entry)->entry : nullptr;
}

std::vector<EntryPtr> EntryGraph::EntriesWithSpiffeId(absl::string_view id) const {
  std::vector<EntryPtr> result;
  auto head = named_.find(id);
  if (head == named_.end()) return result;
  for (const EntrySlot* slot = *head; slot != nullptr; slot = slot->next_of_name) result.push_back(slot->entry);
  return result;
}

std::vector<std::string> EntryGraph::EntryIds() const {
  std::vector<std::string> ids;
  for (const EntrySlot* slot : entries_) ids.push_back(slot->entry->id);
  return ids;
}

std::vector<spiffe::Id> EntryGraph::AgentIds() const {
  std::vector<spiffe::Id> ids;
  for (const auto& [_, slot] : agents_) ids.push_back(slot.agent->id);
  return ids;
}

const EntryGraph::Agents& EntryGraph::AgentsOf(const EntrySlot& slot) const {
  static const Agents* const kNone = new Agents;
  if (slot.parent != nullptr) return slot.parent->reached_by;
  auto it = agents_by_alias_.find(&slot);
  return it == agents_by_alias_.end() ? *kNone : it->second;
}

EntryGraph::Node* EntryGraph::FindNode(absl::string_view id) const {
  auto it = nodes_.find(id);
  return it == nodes_.end() ? nullptr : const_cast<Node*>(&it->second);
}

EntryGraph::Node& EntryGraph::MakeNode(absl::string_view id) {
  auto [it, made] = nodes_.try_emplace(std::string(id));
  if (made) it->second.id = it->first;
  return it->second;
}

void EntryGraph::DropNodeIfUnused(Node& node) {
  if (node.children.empty() && node.agent == nullptr) nodes_.erase(std::string(node.id));
}

bool EntryGraph::HasChildren(absl::string_view id) const {
  const Node* node = FindNode(id);
  return node != nullptr && !node->children.empty();
}

// --- entries
// -----------------------------------------------------------------------------------------------------------

void EntryGraph::SetEntry(const std::string& id, EntryPtr entry) {
  auto it = entries_.find(absl::string_view(id));
  if (it == entries_.end()) {
    if (entry != nullptr) AddEntry(std::move(entry));
    return;
  }
  EntrySlot& slot = **it;
  if (entry == nullptr) {
    RemoveEntry(slot);
    return;
  }
  const spiffe::Entry& old = *slot.entry;
  const bool same_place = old.parent_id == entry->parent_id && old.spiffe_id == entry->spiffe_id &&
                          (!IsAlias(old) || old.selectors == entry->selectors);
  if (same_place) {
    ReplaceEntry(slot, std::move(entry));
  } else {
    RemoveEntry(slot);
    AddEntry(std::move(entry));
  }
}

void EntryGraph::ReplaceEntry(EntrySlot& slot, EntryPtr entry) {
  Federate(slot, false);
  slot.entry = std::move(entry);
  Federate(slot, true);
  Note(AgentsOf(slot), slot);
}

void EntryGraph::AddEntry(EntryPtr entry) {
  auto* slot = new EntrySlot{.entry = std::move(entry)};
  slot->order = OrderOf(slot->entry->id);
  entries_.insert(slot);
  Name(*slot);
  Federate(*slot, true);
  if (IsAlias(*slot->entry)) {
    AddAlias(*slot);
  } else {
    AddChild(*slot);
  }
  Note(AgentsOf(*slot), *slot);
}

void EntryGraph::AddChild(EntrySlot& slot) {
  Node& node = MakeNode(slot.entry->parent_id.string());
  const bool first = node.children.empty();
  slot.parent = &node;
  node.children.insert(&slot);

  Agents concerned;
  if (HasChildren(slot.entry->spiffe_id.string())) {  // it brings its children with it
    node.maybe_inner = true;
    concerned = node.reached_by;
  }
  if (first) {  // the node comes into reach of those who have an entry of its name
    if (node.agent != nullptr) concerned.insert(node.agent);
    auto head = named_.find(absl::string_view(node.id));
    for (EntrySlot* named = head == named_.end() ? nullptr : *head; named != nullptr; named = named->next_of_name) {
      if (named->parent != nullptr) named->parent->maybe_inner = true;
      const Agents& agents = AgentsOf(*named);
      concerned.insert(agents.begin(), agents.end());
    }
  }
  for (AgentSlot* agent : concerned) UpdateReach(*agent);
}

void EntryGraph::AddAlias(EntrySlot& slot) {
  const spiffe::Selectors& selectors = slot.entry->selectors;
  if (selectors.empty()) return;  // matches nothing
  aliases_by_selector_[selectors.front().ToString()].insert(&slot);

  const Agents* fewest = nullptr;
  for (const spiffe::Selector& selector : selectors) {
    auto it = agents_by_selector_.find(selector.ToString());
    if (it == agents_by_selector_.end()) return;
    if (fewest == nullptr || it->second.size() < fewest->size()) fewest = &it->second;
  }
  std::vector<AgentSlot*> matched;
  for (AgentSlot* agent : *fewest) {
    if (spiffe::IsSubset(selectors, agent->agent->selectors)) matched.push_back(agent);
  }
  if (matched.empty()) return;
  agents_by_alias_[&slot].insert(matched.begin(), matched.end());
  for (AgentSlot* agent : matched) {
    agent->aliases.push_back(&slot);
    UpdateReach(*agent);
  }
}

void EntryGraph::RemoveEntry(EntrySlot& slot) {
  Note(AgentsOf(slot), slot);
  Federate(slot, false);
  Unname(slot);
  entries_.erase(&slot);
  if (slot.parent != nullptr) {
    RemoveChild(slot);
  } else {
    RemoveAlias(slot);
  }
  delete &slot;
}

void EntryGraph::RemoveChild(EntrySlot& slot) {
  Node& node = *slot.parent;
  node.children.erase(&slot);
  if (node.children.empty()) node.maybe_inner = false;
  if (node.children.empty() || HasChildren(slot.entry->spiffe_id.string())) {
    const Agents concerned = node.reached_by;
    for (AgentSlot* agent : concerned) UpdateReach(*agent);
  }
  DropNodeIfUnused(node);
}

void EntryGraph::RemoveAlias(EntrySlot& slot) {
  if (slot.entry->selectors.empty()) return;
  EraseFrom(aliases_by_selector_, slot.entry->selectors.front().ToString(), &slot);
  auto it = agents_by_alias_.find(&slot);
  if (it == agents_by_alias_.end()) return;
  const Agents agents = std::move(it->second);
  agents_by_alias_.erase(it);
  for (AgentSlot* agent : agents) {
    std::erase(agent->aliases, &slot);
    UpdateReach(*agent);
  }
}

void EntryGraph::Name(EntrySlot& slot) {
  auto [head, first] = named_.insert(&slot);
  if (first) return;
  slot.next_of_name = (*head)->next_of_name;
  (*head)->next_of_name = &slot;
}

void EntryGraph::Unname(EntrySlot& slot) {
  auto head = named_.find(&slot);
  if (*head != &slot) {
    EntrySlot* before = *head;
    while (before->next_of_name != &slot) before = before->next_of_name;
    before->next_of_name = slot.next_of_name;
    return;
  }
  named_.erase(head);
  if (slot.next_of_name != nullptr) named_.insert(slot.next_of_name);
}

void EntryGraph::Federate(EntrySlot& slot, bool on) {
  for (const std::string& trust_domain : slot.entry->federates_with) {
    if (on) {
      federated_[trust_domain].insert(&slot);
    } else {
      EraseFrom(federated_, trust_domain, &slot);
    }
  }
}

// --- agents
// ------------------------------------------------------------------------------------------------------------

void EntryGraph::SetAgent(const spiffe::Id& id, AgentPtr agent) {
  auto it = agents_.find(id.string());
  if (it == agents_.end()) {
    if (agent == nullptr) return;
    AgentSlot& slot = agents_[id.string()];
    slot.agent = std::move(agent);
    slot.listened = listened_.contains(id.string());
    slot.node = &MakeNode(id.string());
    slot.node->agent = &slot;
    MatchAliases(slot);
    if (slot.listened) NotesOf(id.string()).agent_changed = true;
    return;
  }
  AgentSlot& slot = it->second;
  if (slot.listened) NotesOf(id.string()).agent_changed = true;
  if (agent != nullptr && agent->selectors == slot.agent->selectors && agent->banned == slot.agent->banned) {
    slot.agent = std::move(agent);  // a serial, a version: no entry depends on it
    return;
  }
  UnmatchAliases(slot);
  if (agent != nullptr) {
    slot.agent = std::move(agent);
    MatchAliases(slot);
    return;
  }
  slot.agent = nullptr;
  UpdateReach(slot);
  Node& node = *slot.node;
  node.agent = nullptr;
  agents_.erase(it);
  DropNodeIfUnused(node);
}

void EntryGraph::IndexSelectors(AgentSlot& agent, bool on) {
  for (const spiffe::Selector& selector : agent.agent->selectors) {
    if (on) {
      agents_by_selector_[selector.ToString()].insert(&agent);
    } else {
      EraseFrom(agents_by_selector_, selector.ToString(), &agent);
    }
  }
}

// Also makes the reach. A banned agent has none, and no alias.
void EntryGraph::MatchAliases(AgentSlot& agent) {
  if (!agent.agent->banned) {
    IndexSelectors(agent, true);
    for (const spiffe::Selector& selector : agent.agent->selectors) {
      auto it = aliases_by_selector_.find(selector.ToString());
      if (it == aliases_by_selector_.end()) continue;
      for (EntrySlot* alias : it->second) {
        if (!spiffe::IsSubset(alias->entry->selectors, agent.agent->selectors)) continue;
        agent.aliases.push_back(alias);
        agents_by_alias_[alias].insert(&agent);
        if (AgentChange* note = Noting(agent)) note->entry_ids.push_back(alias->entry->id);
      }
    }
  }
  UpdateReach(agent);
}

void EntryGraph::UnmatchAliases(AgentSlot& agent) {
  if (!agent.agent->banned) IndexSelectors(agent, false);
  for (EntrySlot* alias : agent.aliases) {
    EraseFrom(agents_by_alias_, alias, &agent);
    if (AgentChange* note = Noting(agent)) note->entry_ids.push_back(alias->entry->id);
  }
  agent.aliases.clear();
}

void EntryGraph::UpdateReach(AgentSlot& agent) {
  std::vector<Node*> reach;
  if (agent.agent != nullptr && !agent.agent->banned) {
    absl::flat_hash_set<Node*> seen;
    const auto add = [&](Node* node) {
      if (node != nullptr && !node->children.empty() && seen.insert(node).second) reach.push_back(node);
    };
    add(agent.node);
    for (const EntrySlot* alias : agent.aliases) add(FindNode(alias->entry->spiffe_id.string()));
    for (size_t i = 0; i < reach.size(); ++i) {
      if (!reach[i]->maybe_inner) continue;
      for (const EntrySlot* child : reach[i]->children) add(FindNode(child->entry->spiffe_id.string()));
    }
  }
  std::sort(reach.begin(), reach.end());
  std::vector<Node*> changed;
  std::set_symmetric_difference(reach.begin(), reach.end(), agent.reach.begin(), agent.reach.end(),
                                std::back_inserter(changed));
  AgentChange* note = changed.empty() ? nullptr : Noting(agent);
  for (Node* node : changed) {
    if (!node->reached_by.insert(&agent).second) node->reached_by.erase(&agent);
    if (note == nullptr) continue;
    for (const EntrySlot* child : node->children) note->entry_ids.push_back(child->entry->id);
  }
  agent.reach = std::move(reach);
}

// --- notes
// -------------------------------------------------------------------------------------------------------------

void EntryGraph::NoteBundle(const spiffe::TrustDomain& foreign) {
  auto it = federated_.find(foreign.name());
  if (it == federated_.end()) return;
  for (const EntrySlot* slot : it->second) {
    for (AgentSlot* agent : AgentsOf(*slot)) {
      AgentChange* note = Noting(*agent);
      if (note != nullptr && std::find(note->bundles.begin(), note->bundles.end(), foreign) == note->bundles.end()) {
        note->bundles.push_back(foreign);
      }
    }
  }
}

void EntryGraph::SetListened(const std::string& agent_id, bool on) {
  if (on) {
    listened_.insert(agent_id);
  } else {
    listened_.erase(agent_id);
  }
  auto it = agents_.find(agent_id);
  if (it != agents_.end()) it->second.listened = on;
}

void EntryGraph::Note(const Agents& agents, const EntrySlot& slot) {
  for (AgentSlot* agent : agents) {
    if (AgentChange* note = Noting(*agent)) note->entry_ids.push_back(slot.entry->id);
  }
}

AgentChange* EntryGraph::Noting(AgentSlot& agent) { return agent.listened ? &NotesOf(agent.node->id) : nullptr; }
AgentChange& EntryGraph::NotesOf(const std::string& agent_id) { return notes_[agent_id]; }

EntryGraph::Notes EntryGraph::TakeNotes() {
  Notes notes;
  notes.reserve(notes_.size());
  for (auto& [agent_id, change] : notes_) {
    std::sort(change.entry_ids.begin(), change.entry_ids.end());
    change.entry_ids.erase(std::unique(change.entry_ids.begin(), change.entry_ids.end()), change.entry_ids.end());
    notes.emplace_back(agent_id, std::move(change));
  }
  notes_.clear();
  return notes;
}

}  // namespace signet::server
