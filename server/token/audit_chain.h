// The form of the audit chain (T10), apart from where it is kept: records of one (server, epoch), numbered from 1
// without gaps, each holding the hash of the one before; and signed heads that tell how far it reached.
// Pure; not thread-safe.
#pragma once

#include <functional>
#include <string>

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/oauth/access_token.h"
#include "server/datastore/token_records.h"

namespace signet::server {

inline constexpr char kAuditHeadType[] = "signet-audit-head+jwt";
inline constexpr absl::Duration kAuditTailWindow = absl::Seconds(20);  // a head younger than this proves the tail

// Turns a record without `prev` and `seq` into the function that gives its canonical JSON at a place of the chain.
std::function<std::string(uint64_t seq, absl::string_view previous)> AuditBody(const boost::json::object& record);

struct AuditHead {
  std::string server_id;
  uint64_t epoch = 0, seq = 0;
  std::string hash;  // of record `seq`, raw
  absl::Time at;
};
std::string AuditHeadJson(const AuditHead& head);
// kInvalidArgument; kPermissionDenied when no key of ours signed it.
absl::StatusOr<AuditHead> ReadAuditHead(absl::string_view jws, const oauth::Keys& receipt_keys);

// Checks one chain record by record, in the order of their places.
class AuditChainCheck {
 public:
  AuditChainCheck(std::string server_id, uint64_t epoch) : server_id_(std::move(server_id)), epoch_(epoch) {}

  // kDataLoss names the record: changed, missing, or another's place.
  absl::Status Add(const AuditRecord& record);
  // After the last record. kDataLoss: the chain is shorter than `head` says, or another one.
  absl::Status Finish(const AuditHead& head) const;
  // The head to be compared must be known before the records are read.
  void Expect(const AuditHead& head) { wanted_seq_ = head.seq; }
  uint64_t records() const { return seq_; }

 private:
  absl::Status Bad(uint64_t seq, absl::string_view what) const;
  const std::string server_id_;
  const uint64_t epoch_;
  uint64_t seq_ = 0, wanted_seq_ = 0;
  std::string previous_, wanted_hash_;  // raw
};

}  // namespace signet::server
