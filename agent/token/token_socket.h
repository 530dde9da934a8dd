// token.sock with all that stands behind it, in build order. Create binds and serves. The destructor stops listening,
// ends what is under way and waits for it. Both are called from one thread; the server and the tidier have their own.
// Errors of Create: those of net::WebServer::ListenUnix.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/metrics.h"
#include "agent/sync/pushed_tokens.h"
#include "agent/sync/svid_cache.h"
#include "agent/token/token_front.h"
#include "agent/workloadattestor/attestation.h"
#include "common/concurrency/worker.h"
#include "common/net/web_server.h"
#include "common/spiffe/id.h"
#include "common/time/clock.h"

namespace signet::agent {

class TokenSocket {
 public:
  struct Options {
    std::string path;
    std::string server_url;  // empty: the issuer's
    spiffe::Id server_id;    // who must answer there
    absl::Duration offline_grace = absl::Seconds(30);  // at most, whatever the server says
    size_t connections_per_uid = 4096;
  };
  // References outlive the socket. `upstream` null: libcurl.
  struct Deps {
    SvidCache& cache;
    Attestation& attestation;
    const PeerPinner& pinner;
    PushedTokens& pushed;
    Clock& clock;
    Metrics& metrics;
    std::unique_ptr<Upstream> upstream;
  };
  static absl::StatusOr<std::unique_ptr<TokenSocket>> Create(Options options, Deps deps);
  ~TokenSocket();

  const std::string& path() const { return options_.path; }

 private:
  TokenSocket(Options options, Deps deps);
  void Handle(const net::WebRequest& request, net::Respond respond);
  absl::Duration Tidy();

  // Requests under way: each holds it until it is answered and forgotten.
  struct UnderWay {
    std::mutex mutex;
    std::condition_variable idle;
    size_t count = 0;
  };

  const Options options_;
  Clock& clock_;
  const std::shared_ptr<UnderWay> under_way_ = std::make_shared<UnderWay>();
  std::unique_ptr<Upstream> upstream_;
  InstanceKeys keys_;
  Introspection introspection_;
  TokenCallers callers_;
  TokenFront front_;
  std::atomic<bool> active_ = false;
  std::atomic<int64_t> last_request_ = 0;  // steady, seconds
  std::unique_ptr<Worker> tidier_;
  std::unique_ptr<net::WebServer> server_;
};

}  // namespace signet::agent
