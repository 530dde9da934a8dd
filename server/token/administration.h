// Administration of the token service: what the gRPC service and /v1/... both call. Validates, expands scopes and tools
// to atoms (T9), writes, waits until the registry shows it, answers with the record as stored. Who may call was decided
// before; `actor` is for the audit. Thread-safe; asynchronous; reads run on an Executor.
#pragma once

#include <memory>
#include <string>

#include <google/protobuf/message.h>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace signet::server {

class Administration {
 public:
  virtual ~Administration() = default;
  // One call by the name of the RPC of signet.server.token.v1.Administration: "CreateIdentity". `request` and `response`
  // are of its types; `response` must live until `done` has run. kUnimplemented: no such name.
  virtual void Call(absl::string_view rpc, const std::string& actor, const google::protobuf::Message& request,
                    google::protobuf::Message* response, absl::AnyInvocable<void(absl::Status)> done) = 0;
};

}  // namespace signet::server
