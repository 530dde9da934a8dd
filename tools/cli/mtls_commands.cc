// `signet svid serve` and `signet svid call`: two workloads prove to each other, over mutual TLS, who they are. What is
// asked and answered is gRPC's health check: the handshake is the point.
#include <memory>
#include <ostream>
#include <set>
#include <utility>

#include <google/protobuf/struct.pb.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/concurrency/mutex.h"
#include "common/config/load.h"
#include "common/daemon/daemon.h"
#include "common/rpc/client_channel.h"
#include "common/rpc/health_service.h"
#include "common/rpc/server_credentials.h"
#include "common/rpc/tls_peer.h"
#include "common/status/macros.h"
#include "common/telemetry/health.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tools/cli/connect.h"
#include "tools/cli/identity_stream.h"
#include "tools/cli/text.h"
#include "tools/cli/workload_commands.h"

namespace signet::cli {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(10), kDrain = absl::Seconds(2);

struct MtlsFlags {
  std::string listen, address, expect, every;
  std::vector<std::string> allow;
};

// One line an event: "12:00:00 called by spiffe://..." or an object. From any thread.
class Teller {
 public:
  explicit Teller(Context& context) : context_(context) {}

  void Tell(absl::string_view event, std::vector<std::pair<std::string, std::string>> facts) {
    MutexLock lock(mutex_);
    const absl::Time now = context_.clock.Now();
    if (context_.json()) {
      google::protobuf::Struct line;
      (*line.mutable_fields())["time"].set_string_value(absl::FormatTime(absl::RFC3339_sec, now, absl::UTCTimeZone()));
      (*line.mutable_fields())["event"].set_string_value(std::string(event));
      for (auto& [name, value] : facts) (*line.mutable_fields())[name].set_string_value(std::move(value));
      (void)PrintJson(context_, line, true);
    } else {
      context_.out << absl::FormatTime("%H:%M:%S ", now, absl::UTCTimeZone()) << event;
      for (const auto& [name, value] : facts) context_.out << "  " << name << " " << Safe(value);
      context_.out << "\n";
    }
    context_.out << std::flush;
  }

  void TellHeld(const HeldIdentity& held) {
    Tell("holds", {{"id", held.svid.id.string()},
                   {"serial", held.svid.leaf().SerialDecimal()},
                   {"until", absl::FormatTime(absl::RFC3339_sec, held.svid.leaf().not_after(), absl::UTCTimeZone())}});
  }

 private:
  Context& context_;
  Mutex mutex_;
};

std::unique_ptr<IdentityStream> FollowIdentity(Context& context, std::string socket, Teller& teller) {
  return std::make_unique<IdentityStream>(
      std::move(socket), context.clock, [&teller](const absl::Status& why, absl::Duration pause) {
        teller.Tell("no identity", {{"why", std::string(why.message())},
                                    {"again in", absl::FormatDuration(absl::Trunc(pause, absl::Milliseconds(100)))}});
      });
}

// False: told to stop before the agent gave an SVID.
bool AwaitIdentity(IdentityStream& identity) {
  while (identity.current().Get() == nullptr) {
    if (daemon::WaitForEvent(absl::Milliseconds(50)) == daemon::Event::kStop) return false;
  }
  return true;
}

rpc::ServerIdentity TlsOf(const HeldIdentity& held) {
  return {.key_pem = held.svid.key.Pkcs8Pem(),
          .chain_pem = held.svid.ChainPem(),
          .roots_pem = held.BundleOf(held.svid.id.trust_domain())->ToPem()};
}

// The ID that the peer of a call proved, when it is one of `allowed`.
absl::StatusOr<spiffe::Id> CheckCaller(const grpc::CallbackServerContext& call, const HeldIdentity& held,
                                       const std::set<std::string>& allowed, absl::Time now) {
  SIGNET_ASSIGN_OR_RETURN(const std::optional<std::vector<crypto::Certificate>> chain,
                          rpc::PeerChain(*call.auth_context()));
  if (!chain.has_value()) return absl::UnauthenticatedError("the caller showed no certificate: it needs an X509-SVID");
  SIGNET_ASSIGN_OR_RETURN(spiffe::Id id, held.Verify(*chain, now));
  if (!allowed.contains(id.string())) {
    return absl::PermissionDeniedError(absl::StrCat(id.string(), " is not one of those that --allow names"));
  }
  return id;
}

absl::StatusOr<std::set<std::string>> ParseAllowed(const std::vector<std::string>& ids) {
  std::set<std::string> allowed;
  for (const std::string& text : ids) {
    const absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(text);
    if (!id.ok()) return UsageError(absl::StrCat("--allow: ", id.status().message()));
    allowed.insert(id->string());
  }
  return allowed;
}

absl::Status Serve(Context& context, const MtlsFlags& flags) {
  SIGNET_ASSIGN_OR_RETURN(const std::set<std::string> allowed, ParseAllowed(flags.allow));
  SIGNET_ASSIGN_OR_RETURN(std::string socket, WorkloadSocketPath(context.socket));
  daemon::BlockSignals();  // before gRPC's first thread
  Teller teller(context);
  const auto identity = FollowIdentity(context, std::move(socket), teller);
  if (!AwaitIdentity(*identity)) return absl::OkStatus();

  LatestValue<rpc::ServerIdentity> tls;
  const auto take = [&](const HeldIdentity& held) {
    teller.TellHeld(held);
    tls.Set(TlsOf(held));
  };
  take(*identity->current().Get());
  const auto subscription = identity->current().Subscribe([&](const auto& held) { take(*held); });

  telemetry::Health health;
  const auto service = rpc::MakeHealthService(health, {}, [&](const grpc::CallbackServerContext& call) -> absl::Status {
    const auto held = identity->current().Get();
    const absl::StatusOr<spiffe::Id> id = CheckCaller(call, *held, allowed, context.clock.Now());
    if (!id.ok()) {
      teller.Tell("refused", {{"why", std::string(id.status().message())}});
      return id.status();
    }
    teller.Tell("called", {{"by", id->string()}});
    return absl::OkStatus();
  });
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(flags.listen, rpc::MakeRotatingServerCredentials(tls), &port);
  builder.RegisterService(service.get());
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", flags.listen, ": is the address free and ours?"));
  }
  teller.Tell("serving", {{"port", absl::StrCat(port)}});
  while (daemon::WaitForEvent() != daemon::Event::kStop) {
  }
  server->Shutdown(absl::ToChronoTime(context.clock.Now() + kDrain));
  server->Wait();
  return absl::OkStatus();
}

// One handshake and one call, with the SVID of this moment.
absl::Status CallOnce(const std::string& address, const spiffe::Id& expected,
                      const std::shared_ptr<const HeldIdentity>& held, Clock& clock) {
  const auto channel =
      rpc::MakeTlsChannel(address,
                          {.server_id = expected,
                           .identity = held->svid,
                           .bundle = [held, expected] { return held->BundleOf(expected.trust_domain()); }},
                          clock);
  const auto stub = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext call;
  SetDeadline(call, kCallTimeout);
  grpc::health::v1::HealthCheckResponse response;
  return rpc::FromTlsCall(stub->Check(&call, {}, &response));
}

absl::Status CallPeer(Context& context, const MtlsFlags& flags) {
  const absl::StatusOr<spiffe::Id> expected = spiffe::Id::Parse(flags.expect);
  if (!expected.ok()) return UsageError(absl::StrCat("--expect: ", expected.status().message()));
  config::Errors errors;
  const absl::Duration every = config::ParseDuration("--every", flags.every, absl::ZeroDuration(), errors);
  if (!errors.empty()) return UsageError(errors.ToStatus().message());
  SIGNET_ASSIGN_OR_RETURN(std::string socket, WorkloadSocketPath(context.socket));
  daemon::BlockSignals();  // before gRPC's first thread
  Teller teller(context);
  const auto identity = FollowIdentity(context, std::move(socket), teller);
  if (!AwaitIdentity(*identity)) return absl::OkStatus();
  teller.TellHeld(*identity->current().Get());
  const auto subscription = identity->current().Subscribe([&](const auto& held) { teller.TellHeld(*held); });
  for (;;) {
    const auto held = identity->current().Get();
    const absl::Status status = CallOnce(flags.address, *expected, held, context.clock);
    if (status.ok()) {
      teller.Tell("answered", {{"by", expected->string()}, {"to", held->svid.id.string()}});
    } else if (every == absl::ZeroDuration()) {
      return status;
    } else {
      teller.Tell("failed", {{"why", std::string(status.message())}});
    }
    if (every == absl::ZeroDuration() || daemon::WaitForEvent(every) == daemon::Event::kStop) return absl::OkStatus();
  }
}

}  // namespace

void AddMtlsCommands(CLI::App& svid, Context& context) {
  auto flags = std::make_shared<MtlsFlags>();

  CLI::App& serve =
      AddVerb(svid, context, "serve", "answer over mutual TLS with the SVID of this process, and tell who called",
              "signet svid serve --listen 0.0.0.0:8443 --allow spiffe://example.org/frontend", Target::kWorkloadApi);
  serve.add_option("--listen", flags->listen, "ADDRESS:PORT")->required();
  AddList(serve, "--allow", flags->allow, "an ID that may call; repeatable")->required();
  serve.callback([&context, flags] { context.action = [&context, flags] { return Serve(context, *flags); }; });

  CLI::App& call =
      AddVerb(svid, context, "call", "call somebody who serves so, and tell who answered",
              "signet svid call backend:8443 --expect spiffe://example.org/backend --every 5s", Target::kWorkloadApi);
  call.add_option("address", flags->address, "HOST:PORT")->required();
  call.add_option("--expect", flags->expect, "the ID that must answer")->required();
  call.add_option("--every", flags->every, "again and again at this interval, with the SVID of the moment");
  call.callback([&context, flags] { context.action = [&context, flags] { return CallPeer(context, *flags); }; });
}

}  // namespace signet::cli
