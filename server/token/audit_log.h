// The audit chain of this server (T10): every decision, refusals too, as canonical JSON hashed into a chain; durable
// before a token leaves; a signed head every N records and every 10 s even when idle. Tokens stand in it as hashes
// only. Exported from the database, not from a queue: a sink that was away gets what it missed, whatever the time.
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
  virtual ~AuditLog() = default;  // writes and exports what waits, as far as a second allows
  struct Options {
    std::string server_id;
    absl::Duration head_every = absl::Seconds(10);
    uint64_t head_records = 1000;
    // JSON lines. A file goes on where it ends; for a URL the place is kept in `export_cursor_path` (empty: starts with
    // what is new). https, or http on a loopback address.
    std::string export_path, export_url, export_cursor_path;
  };
  static absl::StatusOr<std::unique_ptr<AuditLog>> Create(Options options, TokenUseStore& store, TokenSigner& signer,
                                                          Clock& clock);

  // Adds `record` (without seq, ts, server, epoch, prev: set here) and commits it together with `consume`.
  // What `consume` is refused with; then nothing of it is stored.
  virtual void Append(boost::json::object record, Consume consume, StatusCompletion done) = 0;

  // A refusal of somebody unknown: counted, and written as one record a head's time, so that strangers cannot fill the
  // log. Returns the error_id of that record. `reason` is of a small closed set, `peer` ADDRESS:PORT.
  virtual std::string CountRefusal(const std::string& reason, const std::string& peer) = 0;

  virtual std::string head() const = 0;  // the latest signed head; empty before the first
  using OnHead = std::function<void(const std::string& head)>;
  virtual void SetOnHead(OnHead on_head) = 0;  // runs on the log's own thread; must be quick

  struct Verification {
    bool proven = false, tail_proven = false;
    uint64_t records = 0;
    std::string problem;
  };
  // Reads the whole chain; blocking. `outside_head`: kept elsewhere, younger than 20 s proves the tail.
  virtual Verification Verify(const std::string& server_id, const std::string& outside_head) = 0;
};

}  // namespace signet::server
