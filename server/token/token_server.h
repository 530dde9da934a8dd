// The token service as a whole: everything in server/token that must exist, wired in build order, and its HTTPS
// listener. The composition root makes one when the configuration has a token_service, and none otherwise. Create
// builds; Listen binds and serves; Stop closes and waits until every request has been answered. Those three and the
// destructor are called from one thread.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/concurrency/executor.h"
#include "common/net/web_server.h"
#include "common/telemetry/health.h"
#include "common/time/clock.h"
#include "server/api/authorizer.h"
#include "server/ca/authority_rotator.h"
#include "server/config.h"
#include "server/datastore/data_store.h"
#include "server/entries/entry_index.h"
#include "server/entries/feed_applier.h"
#include "server/metrics.h"
#include "server/server_svid.h"
#include "server/sync/token_updates.h"
#include "server/token/administration.h"
#include "server/token/token_registry.h"

namespace signet::server {

struct TokenServerDeps {
  std::string server_id;
  std::string data_dir;
  const IssuePolicy& policy;
  DataStore& store;
  const EntryIndex& index;
  TokenRegistry& registry;
  FeedApplier& applier;
  KeyManager& keys;
  AuthorityRotator& rotator;
  const ServerSvid& svid;
  telemetry::Health& health;
  Clock& clock;
  Metrics& metrics;
};

class TokenServer {
 public:
  // References must outlive it. kInvalidArgument, kNotFound: a file that the options name.
  static absl::StatusOr<std::unique_ptr<TokenServer>> Create(TokenServiceOptions options, TokenServerDeps deps);
  ~TokenServer();

  Administration& administration();
  TokenUpdates& updates();  // for agents

  // `authorizer` judges administrators and must outlive the listener.
  absl::Status Listen(Authorizer& authorizer);
  const std::string& address() const;  // ADDRESS:PORT really bound
  absl::Status ReloadCertificate();    // from its files; nothing to do with an SVID
  void Stop();                         // idempotent

 private:
  struct Parts;
  explicit TokenServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace signet::server
