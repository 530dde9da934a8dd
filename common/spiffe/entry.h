// A registration entry: which process (selectors), under which node or alias (parent), gets which SPIFFE ID.
// Plain record, shared by server and agent. Times of 0 (absl::UnixEpoch()) mean "not set".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/spiffe/id.h"
#include "common/spiffe/selector.h"

namespace signet::spiffe {

struct Entry {
  std::string id;          // [A-Za-z0-9._-]{1,255}; made by the server (UUID) when the creator gives none
  Id spiffe_id;
  Id parent_id;            // an agent's ID, an alias's ID, or /spire/server: then this entry is a node alias
  Selectors selectors;     // normalised
  absl::Duration x509_svid_ttl = absl::ZeroDuration();  // zero: the server's default
  absl::Duration jwt_svid_ttl = absl::ZeroDuration();
  std::vector<std::string> federates_with;              // trust domain names, sorted
  std::vector<std::string> dns_names;                   // first becomes the CN
  std::string hint;                                     // at most 1024 bytes (WL-25)
  bool admin = false;
  bool downstream = false;
  bool store_svid = false;
  bool disable_x509_svid_prefetch = false;
  bool jwt_svid_include_jti = false;
  bool withdrawn = false;  // server alone, from the token service: its identity is suspended, no agent is given it
  absl::Time expires_at = absl::UnixEpoch();  // pruned after it; not enforced at issue
  absl::Time created_at = absl::UnixEpoch();  // whole seconds, set by the server
  int64_t revision = 0;                       // set by the server, grows with each update

  friend bool operator==(const Entry&, const Entry&) = default;
};

}  // namespace signet::spiffe
