// The audit chain of this server (T10): every decision, refusals too, as canonical JSON hashed into a chain; durable
// before a token leaves; a signed head every N records and every 10 s even when idle. Tokens stand in it as hashes only.
// Thread-safe. Append never blocks; its completion runs on the datastore's writer thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <boost/json/fwd.hpp>

#include "absl/status/statusor.h"
#include "common/time/clock.h"
#include "server/datastore/token_store.h"
#include "server/token/token_signer.h"

namespace signet::server {

class AuditLog {
 public:
  virtual ~AuditLog() = default;
  struct Options {
    std::string server_id;
    absl::Duration head_every = absl::Seconds(10);
    uint64_t head_records = 1000;
    std::string export_path, export_url;
  };
  static absl::StatusOr<std::unique_ptr<AuditLog>> Create(Options options, TokenUseStore& store, TokenSigner& signer,
                                                          Clock& clock);

  // Adds `record` (without seq, ts, prev: set here) and commits it together with `consume`, in order of the calls.
  // kAlreadyExists, kResourceExhausted, ...: what `consume` says; then nothing of it is stored and the position is given
  // to the next one.
  virtual void Append(boost::json::object record, Consume consume, StatusCompletion done) = 0;

  virtual std::string head() const = 0;  // the latest signed head
  using OnHead = std::function<void(const std::string& head)>;
  virtual void SetOnHead(OnHead on_head) = 0;

  struct Verification {
    bool proven = false, tail_proven = false;
    uint64_t records = 0;
    std::string problem;
  };
  // Reads the whole chain; blocking. `outside_head`: kept elsewhere, younger than 20 s proves the tail.
  virtual Verification Verify(const std::string& server_id, const std::string& outside_head) = 0;
};

}  // namespace signet::server
