// Rows of the agent: what a workload on its socket sees.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "spiffe/workload/workload.grpc.pb.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"
#include "tests/bench/measure.h"
#include "tests/bench/rows.h"

namespace signet::bench {
namespace entryv1 = spire::api::server::entry::v1;
namespace {

void AddHeader(grpc::ClientContext& context) { context.AddMetadata("workload.spiffe.io", "true"); }

spire::api::types::Entry OwnEntry(const System& system, const std::string& path) {
  return MakeEntry(system, system.agent_path, path, "unix", absl::StrCat("uid:", getuid()));
}

// A FetchX509SVID stream that notes when its messages arrive and whether they hold an ID.
class Watch final : public grpc::ClientReadReactor<X509SVIDResponse> {
 public:
  explicit Watch(std::shared_ptr<grpc::Channel> channel) : stub_(SpiffeWorkloadAPI::NewStub(std::move(channel))) {
    AddHeader(context_);
    stub_->async()->FetchX509SVID(&context_, &request_, this);
    StartRead(&message_);
    StartCall();
  }
  ~Watch() override {
    context_.TryCancel();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_; });
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    {
      std::lock_guard lock(mutex_);
      ++messages_;
      last_at_ = absl::Now();
      ids_.clear();
      for (const auto& svid : message_.svids()) ids_.push_back(svid.spiffe_id());
      changed_.notify_all();
    }
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override {
    std::lock_guard lock(mutex_);
    done_ = true;
    last_at_ = absl::Now();
    code_ = status.error_code();
    changed_.notify_all();
  }
  void AwaitMessages(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return messages_ >= count || done_; });
    Check(!done_ || messages_ >= count, absl::StrCat("stream ended with code ", code_));
  }
  absl::Time AwaitId(const std::string& id, bool present) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ || (std::count(ids_.begin(), ids_.end(), id) > 0) == present; });
    Check(!done_, absl::StrCat("stream ended with code ", code_));
    return last_at_;
  }
  int messages() {
    std::lock_guard lock(mutex_);
    return messages_;
  }
  absl::Time last_at() {
    std::lock_guard lock(mutex_);
    return last_at_;
  }

 private:
  std::unique_ptr<SpiffeWorkloadAPI::Stub> stub_;
  grpc::ClientContext context_;
  X509SVIDRequest request_;
  X509SVIDResponse message_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int messages_ = 0;
  absl::Time last_at_;
  std::vector<std::string> ids_;
  bool done_ = false;
  int code_ = 0;
};

void FetchFirst(SpiffeWorkloadAPI::Stub& stub) {
  grpc::ClientContext context;
  AddHeader(context);
  auto reader = stub.FetchX509SVID(&context, {});
  X509SVIDResponse response;
  const bool ok = reader->Read(&response);
  context.TryCancel();
  const grpc::Status status = reader->Finish();
  Check(ok && response.svids_size() > 0, "FetchX509SVID: " + status.error_message());
}

}  // namespace

void JwtCacheHit(System& system) {
  const auto ids = CreateEntries(system, {OwnEntry(system, "/bench/jwt")});
  { Watch settle(system.WorkloadChannel()); settle.AwaitId(absl::StrCat("spiffe://", system.trust_domain, "/bench/jwt"), true); }
  for (const auto& [callers, budget] : {std::pair{8, "60 us"}, std::pair{1, "110 us; p50 150 us"}}) {
    std::vector<std::unique_ptr<SpiffeWorkloadAPI::Stub>> stubs;
    for (int i = 0; i < callers; ++i) stubs.push_back(SpiffeWorkloadAPI::NewStub(system.WorkloadChannel()));
    const Load load = Run(callers, absl::Seconds(4), system.agent_pid, [&](int caller) {
      JWTSVIDRequest request;
      request.add_audience("bench");
      grpc::ClientContext context;
      AddHeader(context);
      JWTSVIDResponse response;
      const grpc::Status status = stubs[caller]->FetchJWTSVID(&context, request, &response);
      Check(status.ok(), "FetchJWTSVID: " + status.error_message());
    });
    PrintRow("P4", absl::StrCat("FetchJWTSVID cache hit, ", callers, " connections, agent"),
             absl::StrFormat("%.0f us CPU, %.0f/s, p50 %s, p99 %s", load.cpu_seconds_per_operation * 1e6,
                             load.operations_per_second, Micros(load.samples.Percentile(0.5)),
                             Micros(load.samples.Percentile(0.99))),
             budget);
  }
  DeleteEntries(system, ids);
}

void FirstX509(System& system) {
  const auto ids = CreateEntries(system, {OwnEntry(system, "/bench/first")});
  { Watch settle(system.WorkloadChannel()); settle.AwaitId(absl::StrCat("spiffe://", system.trust_domain, "/bench/first"), true); }
  const Load fresh = Run(1, absl::Seconds(4), system.agent_pid, [&](int) {
    auto stub = SpiffeWorkloadAPI::NewStub(system.WorkloadChannel());
    FetchFirst(*stub);
  });
  PrintRow("P5", "FetchX509SVID first message, new connection, agent",
           absl::StrFormat("p50 %s, p99 %s, %.0f us CPU", Micros(fresh.samples.Percentile(0.5)),
                           Micros(fresh.samples.Percentile(0.99)), fresh.cpu_seconds_per_operation * 1e6),
           "500 us, 2 ms, 350 us");
  auto stub = SpiffeWorkloadAPI::NewStub(system.WorkloadChannel());
  const Load open = Run(1, absl::Seconds(4), system.agent_pid, [&](int) { FetchFirst(*stub); });
  PrintRow("P6", "same on an open connection",
           absl::StrFormat("p50 %s, p99 %s, %.0f us CPU", Micros(open.samples.Percentile(0.5)),
                           Micros(open.samples.Percentile(0.99)), open.cpu_seconds_per_operation * 1e6),
           "200 us, 100 us CPU");
  DeleteEntries(system, ids);
}

void IdleStreams(System& system) {
  constexpr int kStreams = 4000;
  auto entry = OwnEntry(system, "/bench/idle");
  const auto ids = CreateEntries(system, {entry});
  Watch settle(system.WorkloadChannel());
  settle.AwaitId(absl::StrCat("spiffe://", system.trust_domain, "/bench/idle"), true);
  const double before = RssMegabytes(system.agent_pid);
  std::vector<std::unique_ptr<Watch>> streams;
  for (int i = 0; i < kStreams; ++i) {
    streams.push_back(std::make_unique<Watch>(system.WorkloadChannel()));
    if (i % 64 == 63) streams.back()->AwaitMessages(1);
  }
  for (auto& stream : streams) stream->AwaitMessages(1);
  PrintRow("P7", absl::StrCat("idle FetchX509SVID stream, ", kStreams, " of them, agent RSS each"),
           absl::StrFormat("%.1f KB", (RssMegabytes(system.agent_pid) - before) * 1000 / kStreams), "34 KB");

  Samples spread;
  for (int round = 1; round <= 5; ++round) {
    auto stub = entryv1::Entry::NewStub(system.AdminChannel());
    entryv1::BatchUpdateEntryRequest request;
    auto* update = request.add_entries();
    *update = entry;
    update->set_id(ids[0]);
    update->add_dns_names(absl::StrCat("round", round, ".bench"));
    std::vector<int> seen;
    for (auto& stream : streams) seen.push_back(stream->messages());
    grpc::ClientContext context;
    entryv1::BatchUpdateEntryResponse response;
    Check(stub->BatchUpdateEntry(&context, request, &response).ok(), "update");
    absl::Time first = absl::InfiniteFuture(), last = absl::InfinitePast();
    for (size_t i = 0; i < streams.size(); ++i) streams[i]->AwaitMessages(seen[i] + 1);
    for (auto& stream : streams) {
      first = std::min(first, stream->last_at());
      last = std::max(last, stream->last_at());
    }
    spread.Add(last - first);
  }
  PrintRow("P8", "one change to 4 000 streams: first to last, median of 5", Micros(spread.Percentile(0.5)), "100 ms");
  streams.clear();
  DeleteEntries(system, ids);
}

void Propagation(System& system) {
  constexpr int kRounds = 200;
  const auto base = CreateEntries(system, {OwnEntry(system, "/bench/base")});
  Watch watch(system.WorkloadChannel());
  watch.AwaitId(absl::StrCat("spiffe://", system.trust_domain, "/bench/base"), true);
  Samples created, deleted;
  for (int i = 0; i < kRounds; ++i) {
    const std::string path = absl::StrCat("/bench/propagation/", i);
    const std::string id = absl::StrCat("spiffe://", system.trust_domain, path);
    absl::Time start = absl::Now();
    const auto ids = CreateEntries(system, {OwnEntry(system, path)});
    created.Add(watch.AwaitId(id, true) - start);
    start = absl::Now();
    DeleteEntries(system, ids);
    deleted.Add(watch.AwaitId(id, false) - start);
  }
  PrintRow("P9", "create called -> the caller has the SVID: p50, p99",
           absl::StrCat(Micros(created.Percentile(0.5)), ", ", Micros(created.Percentile(0.99))), "20 ms, 100 ms");
  PrintRow("P10", "delete called -> the stream is told: p50, p99",
           absl::StrCat(Micros(deleted.Percentile(0.5)), ", ", Micros(deleted.Percentile(0.99))), "20 ms, 100 ms");
  DeleteEntries(system, base);
}

void Idle(System& system) {
  const double server = CpuSeconds(system.server_pid), agent = CpuSeconds(system.agent_pid);
  const double server_rss = RssMegabytes(system.server_pid), agent_rss = RssMegabytes(system.agent_pid);
  absl::SleepFor(absl::Seconds(60));
  PrintRow("P16", "RSS idle, server / agent",
           absl::StrFormat("%.1f MB / %.1f MB", server_rss, agent_rss), "35 MB / 22 MB");
  PrintRow("P16", "CPU over an idle minute, server / agent",
           absl::StrFormat("%.3f s / %.3f s", CpuSeconds(system.server_pid) - server, CpuSeconds(system.agent_pid) - agent),
           "0.02 s each");
}

}  // namespace signet::bench
