#include "agent/token/token_socket.h"

#include <utility>

#include "common/status/macros.h"

namespace signet::agent {
namespace {

constexpr absl::Duration kTidyEvery = absl::Minutes(1);
constexpr absl::Duration kQuietAfter = absl::Minutes(12);  // longer than anything is kept for a workload that has left

}  // namespace

TokenSocket::TokenSocket(Options options, Deps deps)
    : options_(std::move(options)),
      clock_(deps.clock),
      upstream_(deps.upstream != nullptr ? std::move(deps.upstream)
                                         : Upstream::Create(
                                               {.server_id = options_.server_id},
                                               [&cache = deps.cache] { return cache.OwnBundle(); }, deps.clock)),
      keys_(deps.clock, {}),
      introspection_(deps.pushed, deps.clock, deps.metrics, {.offline_grace = options_.offline_grace}),
      callers_(deps.cache, deps.attestation, deps.clock, {}),
      front_(
          {callers_, keys_, *upstream_, deps.pushed, introspection_, deps.clock, deps.metrics, options_.server_url}) {
  tidier_ = std::make_unique<Worker>("token-tidy", deps.clock, [this] { return Tidy(); });
}

absl::StatusOr<std::unique_ptr<TokenSocket>> TokenSocket::Create(Options options, Deps deps) {
  // The limit holds for a user in each cgroup; pods of one user do not keep each other out (W10).
  const size_t of_a_user = 4 * options.connections_per_uid;
  const rpc::UnixFront::Options socket = {.path = options.path, .max_connections_per_uid = of_a_user};
  net::WebServer::Limits limits;
  limits.max_connections_per_peer = of_a_user;
  limits.max_connections = 4 * of_a_user;  // no user alone keeps the others out
  rpc::UnixFront::OnAccept on_accept = PinAtAccept(deps.pinner, deps.metrics, options.connections_per_uid);
  std::unique_ptr<TokenSocket> made(new TokenSocket(std::move(options), std::move(deps)));
  SIGNET_ASSIGN_OR_RETURN(made->server_, net::WebServer::ListenUnix(
                                             socket, limits, std::move(on_accept),
                                             [raw = made.get()](const net::WebRequest& request, net::Respond respond) {
                                               raw->Handle(request, std::move(respond));
                                             }));
  return made;
}

TokenSocket::~TokenSocket() {
  server_.reset();
  tidier_->Stop();
  callers_.Stop();
  upstream_->Stop();
  std::unique_lock lock(under_way_->mutex);
  under_way_->idle.wait(lock, [&] { return under_way_->count == 0; });
}

void TokenSocket::Handle(const net::WebRequest& request, net::Respond respond) {
  last_request_ = absl::ToInt64Seconds(clock_.Steady());
  if (!active_.exchange(true)) tidier_->Wake();
  {
    std::lock_guard lock(under_way_->mutex);
    ++under_way_->count;
  }
  std::shared_ptr<void> running(nullptr, [under_way = under_way_](void*) {
    std::lock_guard lock(under_way->mutex);
    if (--under_way->count == 0) under_way->idle.notify_all();
  });
  front_.Handle(request, [running = std::move(running), respond = std::move(respond)](net::WebResponse answer) mutable {
    respond(std::move(answer));
  });
}

absl::Duration TokenSocket::Tidy() {
  upstream_->CloseIdle();
  callers_.Tidy();
  const absl::Duration quiet = clock_.Steady() - absl::Seconds(last_request_.load());
  if (!active_ || quiet > kQuietAfter) {
    active_ = false;
    return absl::InfiniteDuration();
  }
  return kTidyEvery;
}

}  // namespace signet::agent
