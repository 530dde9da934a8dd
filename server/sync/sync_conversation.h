// One agent's end of AgentSync: what it holds, what it still has to be told, and the next message. Knows no gRPC:
// messages in, messages out, so that every order of events can be tried.
// The agent says hello; then either `complete` at once, or revisions, its wants, entries, `complete`; then deltas.
// Not thread-safe.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/spiffe/id.h"
#include "server/entries/entry_index.h"
#include "server/sync/bundle_updates.h"
#include "server/sync/delta.h"
#include "server/sync/token_updates.h"
#include "signet/server/v1/agent_sync.pb.h"

namespace signet::server {

class SyncConversation {
 public:
  struct Options {
    spiffe::TrustDomain trust_domain;
    std::string epoch;
    size_t max_message_bytes;
    const TokenUpdates* tokens = nullptr;  // null: no token service
  };
  SyncConversation(const Options& options, spiffe::Id agent, const EntryIndex& index, BundleUpdates& bundles)
      : options_(options), agent_(std::move(agent)), index_(index), bundles_(bundles), tokens_(options.tokens) {}

  // kInvalidArgument: the agent breaks the protocol, end the stream.
  absl::Status OnMessage(const v1::AgentMessage& message, absl::Duration now);
  // Something concerns this agent. `now`: steady time, for propagation().
  void OnChange(const AgentChange& change, absl::Duration now);

  void OnTokens(const TokenUpdates::Note& note) { tokens_.OnNote(note); }

  // The next message to send. False: nothing to say now.
  bool Next(v1::ServerMessage& message);

  const std::string& agent_version() const { return agent_version_; }
  // Times from a change to its acknowledgement, since the last call.
  std::vector<absl::Duration> TakePropagation() { return std::exchange(propagation_, {}); }

 private:
  enum class Phase { kHello, kListing, kWants, kSending, kLive };

  absl::Status OnHello(const v1::Hello& hello);
  absl::Status OnWant(const v1::Want& want);
  absl::Status OnAck(const v1::Ack& ack, absl::Duration now);
  void NextRevisions(v1::Revisions& revisions);
  void NextDelta(v1::Delta& delta);
  void AddBundles(v1::Delta& delta);
  void Federate(const std::string& entry_id, const std::vector<std::string>* trust_domains);

  const Options& options_;
  const spiffe::Id agent_;
  const EntryIndex& index_;
  BundleUpdates& bundles_;

  Phase phase_ = Phase::kHello;
  std::string agent_version_;
  WaitingDelta waiting_;
  WaitingTokens tokens_;
  std::vector<EntryPtr> listed_;  // while they are listed
  size_t next_listed_ = 0;
  size_t wants_left_ = 0;  // ids the agent may still ask for
  bool send_all_ = false;  // what it holds is of another epoch: the same revision may be another content

  std::map<std::string, std::string> held_bundles_;  // trust domain -> revision, as the agent holds them
  absl::flat_hash_map<std::string, std::vector<std::string>> federating_;  // entry id -> trust domains, where any

  // Changes on their way: position and when they were noted.
  std::deque<std::pair<uint64_t, absl::Duration>> on_their_way_;
  absl::Duration noted_at_ = absl::InfiniteDuration();  // the first of what waits
  std::vector<absl::Duration> propagation_;
};

}  // namespace signet::server
