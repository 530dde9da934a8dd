// Sends the audit chain out as JSON lines: appended to a file, or posted to a URL. Reads the database after the place
// it has reached, so nothing is queued and nothing is lost while a sink is away. At least once: after a crash a few
// lines may come twice. One worker thread; Wake() from anywhere.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/time/clock.h"
#include "server/datastore/token_store.h"

namespace signet::server {

class AuditExport {
 public:
  struct Options {
    std::string server_id;
    uint64_t epoch = 0;
    std::string path, url, cursor_path;
  };
  virtual ~AuditExport() = default;  // one last round, bounded by the sinks' time limit
  // kInvalidArgument: a URL that is neither https nor http on a loopback address; kUnavailable the file.
  static absl::StatusOr<std::unique_ptr<AuditExport>> Create(Options options, TokenUseStore& store, Clock& clock);

  virtual void Wake() = 0;
  virtual void SetHead(std::string jws) = 0;  // sent as {"head": "<jws>"} after the records
  // Records that were committed up to `seq`: what the sinks are behind of. For tests and metrics: what a sink has.
  virtual uint64_t file_seq() const = 0;
  virtual uint64_t url_seq() const = 0;
};

}  // namespace signet::server
