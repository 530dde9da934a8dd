// A server in memory behind the agent's seam: signs, keeps entries and bundle, speaks AgentSync with its real rules,
// and can be away, refuse, or lack AgentSync. Thread-safe.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/sync/server_client.h"
#include "common/spiffe/entry_digest.h"
#include "tests/agent/sync/agent_kit.h"

namespace signet::fakes {

class FakeServerClient final : public agent::ServerClient {
 public:
  explicit FakeServerClient(Clock& clock)
      : clock_(clock), authority_(std::make_unique<agent::TestAuthority>(clock.Now())) {}
  ~FakeServerClient() override = default;

  // --- what the test does to the server ------------------------------------------------------------------------------
  void Put(spiffe::Entry entry);
  void Remove(const std::string& id);
  void SetBundle(spiffe::Bundle bundle);
  void SetAway(bool away);              // ends the streams too
  void Refuse(agent::Refusal refusal);  // every authenticated call; ends the streams
  void RefuseEvidence(absl::Status why);
  void Notify(agent::SyncMessage::Notice notice);
  void Push(agent::SyncMessage message);  // as it is, to every stream
  void NewEpoch();                        // a restored database: ends the streams
  void OnlyPolling();                     // no AgentSync, as a SPIRE server
  void SetTtl(absl::Duration ttl);
  void RefuseEntry(const std::string& id);
  const agent::TestAuthority& authority() const { return *authority_; }
  spiffe::Bundle bundle();

  // --- what the test may look at -------------------------------------------------------------------------------------
  struct Calls {
    int attests = 0, renews = 0, mints = 0, minted = 0, jwts = 0, streams = 0, polls = 0, moves = 0;
    uint64_t last_ack = 0;
    std::vector<bool> interests;
    std::vector<std::vector<std::string>> wants;
    std::vector<std::vector<std::string>> batches;
  };
  Calls calls();
  // Until `what` holds of the calls; the test's timeout ends a wait in vain.
  void Await(const std::function<bool(const Calls&)>& what);

  // --- ServerClient --------------------------------------------------------------------------------------------------
  void Shutdown() override;
  void Reconnect() override {}
  bool MoveOn() override;
  absl::StatusOr<spiffe::Bundle> GetBundle() override;
  absl::StatusOr<spiffe::Bundle> GetFederatedBundle(const std::string& trust_domain) override;
  absl::StatusOr<agent::Attested> Attest(agent::NodeAttestor& attestor, const std::string& csr) override;
  absl::StatusOr<agent::Chain> Renew(const std::string& csr) override;
  absl::Status PostStatus(uint64_t) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<absl::StatusOr<agent::Chain>>> NewX509Svids(
      const std::vector<std::pair<std::string, std::string>>& csrs) override;
  void NewJwt(const std::string& entry_id, const std::vector<std::string>& audience,
              std::function<void(absl::StatusOr<agent::MintedJwt>)> done) override;
  std::unique_ptr<agent::SyncStream> OpenSync(const agent::SyncHello& hello, std::function<void()> on_event) override;
  absl::StatusOr<std::vector<spiffe::Entry>> AuthorizedEntries(
      const std::vector<std::shared_ptr<const spiffe::Entry>>& held) override;

 private:
  friend class FakeSyncStream;
  struct Feed {  // one stream's side of the server
    std::deque<agent::SyncMessage> messages;
    std::optional<absl::Status> end;
    bool synced = false;  // deltas follow
    std::function<void()> on_event;
  };
  absl::Status Gate() const;  // with the mutex held
  void EndAll(const absl::Status& why);
  void Tell(agent::SyncMessage message);
  agent::Chain Sign(const std::string& csr, const spiffe::Id& id) const;

  Clock& clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::unique_ptr<agent::TestAuthority> authority_;
  std::map<std::string, spiffe::Entry> entries_;
  std::optional<spiffe::Bundle> bundle_;
  uint64_t bundle_revision_ = 1, seq_ = 0;
  int epoch_ = 1;
  bool away_ = false, only_polling_ = false, down_ = false;
  agent::Refusal refusal_ = agent::Refusal::kNone;
  absl::Status evidence_refused_;
  absl::Duration ttl_ = absl::Hours(1);
  std::set<std::string> refused_entries_;
  std::set<std::shared_ptr<Feed>> feeds_;
  Calls calls_;
};

}  // namespace signet::fakes
