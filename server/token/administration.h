// Administration of the token service: what the gRPC service and /v1/... both call. Validates (admin_input.h), expands
// scopes and tools to atoms (T9), writes, waits until the registry shows it, puts an audit record, answers with the
// record as stored. Revoking answers only when nothing more is issued of what was revoked (T3).
// Thread-safe; asynchronous: the work runs on threads of its own, and may wait there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <google/protobuf/message.h>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/spiffe/id.h"
#include "common/time/clock.h"
#include "server/ca/authority_rotator.h"
#include "server/datastore/data_store.h"
#include "server/token/alerts.h"
#include "server/token/audit_log.h"
#include "server/token/revoker.h"
#include "server/token/token_registry.h"
#include "server/token/token_signer.h"
#include "signet/server/token/v1/token.pb.h"

namespace signet::server {

// Who calls, proven before. Of the own trust domain or local (T7).
struct AdminCaller {
  std::string name;           // SPIFFE ID, or "local uid 0 pid 7"
  bool administrator = true;  // false: a workload; may only create, see and close tasks of grants that name it (T8)
};

class Administration {
 public:
  virtual ~Administration() = default;  // runs what waits
  // One call by the name of the RPC of signet.server.token.v1.Administration: "CreateIdentity". `request` and
  // `response` are of its types; both must live until `done` has run, on a thread of ours or the caller's.
  // kUnimplemented: no such name.
  virtual void Call(absl::string_view rpc, const AdminCaller& caller, const google::protobuf::Message& request,
                    google::protobuf::Message* response, absl::AnyInvocable<void(absl::Status)> done) = 0;
};

struct AdministrationDeps {
  spiffe::TrustDomain trust_domain;
  std::string server_id;                 // of the audit chain that is listed by default
  std::vector<std::string> own_issuers;  // of access tokens and of JWT-SVIDs (T5)
  DataStore& store;
  const TokenRegistry& registry;
  Revoker::WaitFor wait_for;  // FeedApplier::WaitFor
  Revoker& revoker;           // on an executor of its own, not one that waits for us
  AuditLog& audit;
  Alerts& alerts;
  TokenSigner& signer;  // receipt keys, to show chains decoded
  TokenKeys& keys;
  std::function<void(token::v1::ExplainRequest, Completion<token::v1::ExplainResponse>)> explain;
  Clock& clock;
};
// References must outlive it.
std::unique_ptr<Administration> MakeAdministration(AdministrationDeps deps);

}  // namespace signet::server
