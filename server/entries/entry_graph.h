// Which agent is authorised for which entry, kept up change by change. The structure behind EntryIndex.
// An entry hangs below its parent ID ("node"); a node that an agent is authorised for the children of is in that
// agent's reach. A look-up walks the reach: O(result). A change of one entry concerns the agents that reach its node;
// only a change of the shape (an alias, an entry whose ID has children, a first or last child, an agent's selectors)
// makes reaches anew, and only those of the agents concerned. Not thread-safe: EntryIndex guards it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/node_hash_map.h"
#include "absl/strings/string_view.h"
#include "server/entries/entry_index.h"

namespace signet::server {

class EntryGraph {
 public:
  // What happened to the agents that somebody listens for, by agent ID.
  using Notes = std::vector<std::pair<std::string, AgentChange>>;

  explicit EntryGraph(const spiffe::TrustDomain& trust_domain);
  ~EntryGraph();

  void SetEntry(const std::string& id, EntryPtr entry);    // null: it is gone
  void SetAgent(const spiffe::Id& id, AgentPtr agent);     // null: it is gone
  void NoteBundle(const spiffe::TrustDomain& foreign);     // its bundle changed
  void SetListened(const std::string& agent_id, bool on);  // whether notes are taken for it
  Notes TakeNotes();

  EntryPtr FindEntry(absl::string_view id) const;
  AgentPtr FindAgent(absl::string_view id) const;
  std::vector<EntryPtr> AuthorizedEntries(absl::string_view agent_id) const;  // sorted by id
  EntryPtr FindAuthorized(absl::string_view agent_id, absl::string_view entry_id) const;
  std::vector<EntryPtr> EntriesWithSpiffeId(absl::string_view id) const;
  std::vector<std::string> EntryIds() const;
  std::vector<spiffe::Id> AgentIds() const;
  size_t entry_count() const { return entries_.size(); }
  size_t agent_count() const { return agents_.size(); }

 private:
  struct EntrySlot;
  struct AgentSlot;
  struct Node;
  // Slots are found by a string of their own, so that the string is kept once.
  struct ById {
    using is_transparent = void;
    size_t operator()(absl::string_view id) const { return absl::Hash<absl::string_view>()(id); }
    size_t operator()(const EntrySlot* slot) const;
    bool operator()(const EntrySlot* a, const EntrySlot* b) const;
    bool operator()(const EntrySlot* slot, absl::string_view id) const;
    bool operator()(absl::string_view id, const EntrySlot* slot) const { return (*this)(slot, id); }
  };
  struct BySpiffeId {
    using is_transparent = void;
    size_t operator()(absl::string_view id) const { return absl::Hash<absl::string_view>()(id); }
    size_t operator()(const EntrySlot* slot) const;
    bool operator()(const EntrySlot* a, const EntrySlot* b) const;
    bool operator()(const EntrySlot* slot, absl::string_view id) const;
    bool operator()(absl::string_view id, const EntrySlot* slot) const { return (*this)(slot, id); }
  };
  struct InOrder {
    bool operator()(const EntrySlot* a, const EntrySlot* b) const;
  };
  using Agents = absl::flat_hash_set<AgentSlot*>;

  bool IsAlias(const spiffe::Entry& entry) const { return entry.parent_id.string() == server_id_; }
  const Agents& AgentsOf(const EntrySlot& slot) const;
  Node* FindNode(absl::string_view id) const;
  Node& MakeNode(absl::string_view id);
  void DropNodeIfUnused(Node& node);
  bool HasChildren(absl::string_view id) const;

  void AddEntry(EntryPtr entry);
  void AddChild(EntrySlot& slot);
  void AddAlias(EntrySlot& slot);
  void RemoveEntry(EntrySlot& slot);
  void RemoveChild(EntrySlot& slot);
  void RemoveAlias(EntrySlot& slot);
  void ReplaceEntry(EntrySlot& slot, EntryPtr entry);
  void Name(EntrySlot& slot);
  void Unname(EntrySlot& slot);
  void Federate(EntrySlot& slot, bool on);

  void MatchAliases(AgentSlot& agent);
  void UnmatchAliases(AgentSlot& agent);
  void IndexSelectors(AgentSlot& agent, bool on);
  void UpdateReach(AgentSlot& agent);

  void Note(const Agents& agents, const EntrySlot& slot);
  AgentChange* Noting(AgentSlot& agent);  // null: nobody listens
  AgentChange& NotesOf(const std::string& agent_id);

  const std::string server_id_;
  absl::flat_hash_set<EntrySlot*, ById, ById> entries_;
  absl::flat_hash_set<EntrySlot*, BySpiffeId, BySpiffeId> named_;  // the head of each chain of the same SPIFFE ID
  absl::node_hash_map<std::string, Node> nodes_;
  absl::node_hash_map<std::string, AgentSlot> agents_;
  absl::flat_hash_map<std::string, Agents> agents_by_selector_;
  absl::flat_hash_map<std::string, absl::flat_hash_set<EntrySlot*>> aliases_by_selector_;  // each under its first one
  absl::flat_hash_map<const EntrySlot*, Agents> agents_by_alias_;
  absl::flat_hash_map<std::string, absl::flat_hash_set<EntrySlot*>> federated_;  // by trust domain

  absl::flat_hash_set<std::string> listened_;
  absl::flat_hash_map<std::string, AgentChange> notes_;
};

}  // namespace signet::server
