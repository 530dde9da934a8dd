// The agent's calls to a signet-server or SPIRE server, each with a deadline. A seam: the synchroniser sees records of
// our own, never a generated type, and tests put a fake here. Thread-safe. Calls block but for NewJwt and OpenSync; run
// them on a worker, never in a gRPC reaction. Errors: kUnavailable and kDeadlineExceeded are worth a retry. A refusal
// of this agent is kPermissionDenied or kUnauthenticated, and RefusalOf() says what to do about it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/nodeattestor/node_attestor.h"
#include "agent/sync/jwt_cache.h"
#include "agent/sync/pushed_tokens.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/entry.h"
#include "common/spiffe/x509_svid.h"
#include "common/time/clock.h"

namespace signet::agent {

// What the server says by refusing the agent (spire.api.types.PermissionDeniedDetails).
enum class Refusal { kNone, kExpired, kNotAttested, kNotActive, kBanned, kMustReattest };
Refusal RefusalOf(const absl::Status& status);
absl::Status RefusalStatus(Refusal refusal, absl::string_view message);  // kPermissionDenied

using Chain = std::vector<crypto::Certificate>;  // leaf first

struct Attested {
  Chain chain;
  bool reattestable = false;
};

struct EntryRevision {
  std::string id;
  int64_t revision = 0;
  absl::Time created_at;  // whole seconds
};

// signet.server.v1.AgentSync, as records.
struct SyncHello {
  std::string epoch;
  std::string digest;
  std::map<std::string, std::string> bundle_revisions;
};
struct SyncMessage {
  enum class Kind { kRevisions, kDelta, kComplete, kNotice, kTokens, kHeartbeat, kAuditHead };
  enum class Notice { kNone, kBanned, kEvicted, kGoAway };
  Kind kind = Kind::kDelta;
  uint64_t seq = 0;
  std::vector<EntryRevision> revisions;
  bool last_revisions = false;
  std::vector<spiffe::Entry> upserts;
  std::vector<std::string> removed_ids;
  std::vector<std::pair<spiffe::Bundle, std::string>> bundles;  // with the server's name for the revision
  std::vector<std::string> removed_bundles;
  std::string epoch;
  Notice notice = Notice::kNone;
  absl::Duration delay = absl::ZeroDuration();
  TokenUpdate tokens;
  std::string audit_head;
};

class SyncStream {
 public:
  virtual ~SyncStream() = default;  // ends the stream and waits until nothing of it runs
  // Queued in order; false once the stream has ended.
  virtual bool Want(std::vector<std::string> entry_ids) = 0;
  virtual bool Ack(uint64_t seq, std::map<std::string, uint32_t> svids_by_authority) = 0;
  virtual bool TokenInterest(bool wanted) = 0;
  // The next message, or nothing yet. After the last one, end() says why the stream ended.
  virtual std::optional<SyncMessage> Next() = 0;
  virtual std::optional<absl::Status> end() const = 0;
};

class ServerClient {
 public:
  virtual ~ServerClient() = default;

  // Ends the calls that run, waits until their completions have run, and refuses new ones with kCancelled: the agent is
  // stopping. Streams go on until they are destroyed. Idempotent.
  virtual void Shutdown() = 0;
  // Drops the channels, so that the next call makes one with the identity and the bundle of now. Calls that run go on.
  virtual void Reconnect() = 0;
  // The address in use does not answer: the next call tries the next one. True when all have been tried in turn.
  virtual bool MoveOn() = 0;

  virtual absl::StatusOr<spiffe::Bundle> GetBundle() = 0;
  virtual absl::StatusOr<spiffe::Bundle> GetFederatedBundle(const std::string& trust_domain) = 0;
  // Without a client certificate: the evidence is what authenticates.
  virtual absl::StatusOr<Attested> Attest(NodeAttestor& attestor, const std::string& csr) = 0;
  virtual absl::StatusOr<Chain> Renew(const std::string& csr) = 0;
  virtual absl::Status PostStatus(uint64_t bundle_sequence) = 0;

  // (entry id, CSR) -> chains in the same order, each with a status of its own.
  virtual absl::StatusOr<std::vector<absl::StatusOr<Chain>>> NewX509Svids(
      const std::vector<std::pair<std::string, std::string>>& csrs) = 0;
  // `done` runs on any thread, exactly once.
  virtual void NewJwt(const std::string& entry_id, const std::vector<std::string>& audience,
                      std::function<void(absl::StatusOr<MintedJwt>)> done) = 0;

  // Never null. `on_event` is called on any thread when Next() or end() has something new; must be quick, and
  // may take no lock that is held around a call of the stream's.
  virtual std::unique_ptr<SyncStream> OpenSync(const SyncHello& hello, std::function<void()> on_event) = 0;
  // All entries of this agent, for servers without AgentSync. `held` are not sent again when the server can tell.
  virtual absl::StatusOr<std::vector<spiffe::Entry>> AuthorizedEntries(
      const std::vector<std::shared_ptr<const spiffe::Entry>>& held) = 0;

  struct Options {
    std::vector<std::string> addresses;  // HOST:PORT, at least one
    spiffe::TrustDomain trust_domain;
    absl::Duration deadline = absl::Seconds(20);         // of a unary call
    absl::Duration attest_deadline = absl::Seconds(60);  // with challenges
    std::string version;                                 // told to the server
  };
  // What the channels are made with; read anew at each Reconnect() and, the bundle, at each handshake.
  struct Credentials {
    std::function<std::shared_ptr<const spiffe::X509Svid>()> identity;  // null: none yet
    std::function<std::shared_ptr<const spiffe::Bundle>()> bundle;      // null: no server is trusted
    bool insecure = false;                                              // as long as there is no bundle
  };
  static std::unique_ptr<ServerClient> Create(Options options, Credentials credentials, Clock& clock);
};

}  // namespace signet::agent
