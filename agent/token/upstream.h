// POST to the token service as a workload: mutual TLS with that workload's own X.509-SVID, and the server must prove
// exactly the expected SPIFFE ID under the bundle of that moment (T6). Connections are kept alive in one pool for each
// (entry, certificate serial): what one workload's connection is authenticated as is never shared with another, and an
// SVID that was replaced is not shown again. Thread-safe. A seam: tests put a fake here.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/sync/svid_cache.h"
#include "common/spiffe/id.h"
#include "common/time/clock.h"

namespace signet::agent {

class Upstream {
 public:
  struct Request {
    std::string url;       // https
    std::string form;      // the body
    std::string dpop;      // proof; empty: none
    std::string entry_id;  // whose SVID it is
    SvidPtr svid;
  };
  struct Answer {
    int status = 0;
    std::string content_type, body;
    std::vector<std::pair<std::string, std::string>> headers;  // those a client of OAuth reads; names lower case
    const std::string& Header(absl::string_view name) const;   // empty: absent
  };
  // kUnavailable nobody answers; kUnauthenticated the server is not who it should be; kResourceExhausted too much is
  // under way; kFailedPrecondition the answer is too large. On a thread of the upstream's own, or inline when refused.
  using Done = absl::AnyInvocable<void(absl::StatusOr<Answer>)>;

  virtual ~Upstream() = default;
  virtual void Post(Request request, Done done) = 0;
  // Closes connections that have idled; called now and then.
  virtual void CloseIdle() = 0;
  // What is under way, and all that comes, is answered with kUnavailable, soon. Idempotent.
  virtual void Stop() = 0;

  struct Options {
    spiffe::Id server_id;
    size_t threads = 4;           // requests at once
    size_t queue_limit = 256;     // waiting ones
    size_t per_entry_limit = 64;  // waiting and running ones of one entry: it does not starve the others
    size_t idle_per_pool = 4;     // connections kept
    size_t idle_total = 128;
    absl::Duration keep_idle = absl::Seconds(60);  // below the server's own limit
    absl::Duration connect_timeout = absl::Seconds(5), timeout = absl::Seconds(20);
    size_t max_answer_bytes = 64 * 1024;
  };
  using BundleSource = std::function<BundlePtr()>;  // of the own trust domain; null: no server is trusted
  static std::unique_ptr<Upstream> Create(Options options, BundleSource bundle, Clock& clock);
};

}  // namespace signet::agent
