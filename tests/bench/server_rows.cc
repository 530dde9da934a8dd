// Rows of the server: minting, entries, lists, joins, idle agents.
#include <atomic>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/crypto/csr.h"
#include "signet/server/v1/agent_sync.grpc.pb.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"
#include "spire/api/server/svid/v1/svid.grpc.pb.h"
#include "tests/bench/measure.h"
#include "tests/bench/rows.h"

namespace signet::bench {
namespace entryv1 = spire::api::server::entry::v1;
namespace svidv1 = spire::api::server::svid::v1;
namespace {

constexpr absl::Duration kLength = absl::Seconds(4);

std::string RateAndCpu(const Load& load) {
  return absl::StrFormat("%.0f us CPU, %.0f/s, p50 %s, p99 %s", load.cpu_seconds_per_operation * 1e6,
                         load.operations_per_second, Micros(load.samples.Percentile(0.5)),
                         Micros(load.samples.Percentile(0.99)));
}

std::string NewCsr(const System& system, const std::string& path) {
  auto key = crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  Check(key.ok(), "key");
  auto csr = crypto::CertificateRequest::Create(*key, {absl::StrCat("spiffe://", system.trust_domain, path)});
  Check(csr.ok(), "csr");
  return *std::move(csr);
}

}  // namespace

void MintX509(System& system) {
  for (const auto& [callers, budget] : {std::pair{8, "220 us"}, std::pair{1, "350 us"}}) {
    std::vector<std::unique_ptr<svidv1::SVID::Stub>> stubs;
    std::vector<std::string> csrs;
    for (int i = 0; i < callers; ++i) {
      stubs.push_back(svidv1::SVID::NewStub(system.AdminChannel()));
      csrs.push_back(NewCsr(system, absl::StrCat("/bench/mint/", i)));
    }
    const Load load = Run(callers, kLength, system.server_pid, [&](int caller) {
      svidv1::MintX509SVIDRequest request;
      request.set_csr(csrs[caller]);
      svidv1::MintX509SVIDResponse response;
      grpc::ClientContext context;
      const grpc::Status status = stubs[caller]->MintX509SVID(&context, request, &response);
      Check(status.ok(), "MintX509SVID: " + status.error_message());
    });
    PrintRow("P1", absl::StrCat("MintX509SVID, ", callers, " callers, server"), RateAndCpu(load), budget);
  }
}

void BatchX509AndJwt(System& system) {
  Node node = Join(system, MakeJoinToken(system));
  std::vector<spire::api::types::Entry> entries;
  for (int i = 0; i < 100; ++i) {
    entries.push_back(MakeEntry(system, node.path, absl::StrCat("/bench/batch/", i), "bench", absl::StrCat(i)));
  }
  const std::vector<std::string> ids = CreateEntries(system, entries);

  auto stub = svidv1::SVID::NewStub(node.channel);
  svidv1::BatchNewX509SVIDRequest batch;
  for (int i = 0; i < 100; ++i) {
    auto* params = batch.add_params();
    params->set_entry_id(ids[i]);
    params->set_csr(NewCsr(system, "/ignored"));
  }
  const Load x509 = Run(1, kLength, system.server_pid, [&](int) {
    grpc::ClientContext context;
    svidv1::BatchNewX509SVIDResponse response;
    const grpc::Status status = stub->BatchNewX509SVID(&context, batch, &response);
    Check(status.ok() && response.results_size() == 100 && response.results(99).status().code() == 0,
          "BatchNewX509SVID: " + status.error_message());
  });
  PrintRow("P2", "BatchNewX509SVID by 100, server per SVID",
           absl::StrFormat("%.0f us CPU, %.0f SVID/s", x509.cpu_seconds_per_operation * 1e4, x509.operations_per_second * 100),
           "130 us");

  for (const auto& [callers, budget] : {std::pair{8, "110 us"}, std::pair{1, "250 us"}}) {
    const Load jwt = Run(callers, kLength, system.server_pid, [&](int caller) {
      svidv1::NewJWTSVIDRequest request;
      request.set_entry_id(ids[caller]);
      request.add_audience("bench");
      grpc::ClientContext context;
      svidv1::NewJWTSVIDResponse response;
      const grpc::Status status = stub->NewJWTSVID(&context, request, &response);
      Check(status.ok(), "NewJWTSVID: " + status.error_message());
    });
    PrintRow("P3", absl::StrCat("NewJWTSVID over mTLS, ", callers, " callers, server"), RateAndCpu(jwt), budget);
  }
  DeleteEntries(system, ids);
}

void ListAndCount(System& system) {
  auto stub = entryv1::Entry::NewStub(system.AdminChannel());
  const Load page = Run(1, absl::Seconds(2), system.server_pid, [&](int) {
    entryv1::ListEntriesRequest request;
    request.set_page_size(500);
    grpc::ClientContext context;
    entryv1::ListEntriesResponse response;
    Check(stub->ListEntries(&context, request, &response).ok() && response.entries_size() == 500, "list");
  });
  int entries = 0;
  const Load count = Run(1, absl::Seconds(1), system.server_pid, [&](int) {
    grpc::ClientContext context;
    entryv1::CountEntriesResponse response;
    Check(stub->CountEntries(&context, {}, &response).ok(), "count");
    entries = response.count();
  });
  PrintRow("P13", absl::StrCat("list page of 500; count, ", entries, " entries"),
           absl::StrCat(Micros(page.samples.Percentile(0.5)), "; ", Micros(count.samples.Percentile(0.5))), "3 ms; 1 ms");
}

void CreateAndList(System& system) {
  std::atomic<int> next = 0;
  std::vector<std::string> made;
  std::mutex mutex;
  for (const auto& [callers, budget] : {std::pair{1, "2 000/s"}, std::pair{8, "5 000/s"}}) {
    std::vector<std::unique_ptr<entryv1::Entry::Stub>> stubs;
    for (int i = 0; i < callers; ++i) stubs.push_back(entryv1::Entry::NewStub(system.AdminChannel()));
    const Load load = Run(callers, kLength, system.server_pid, [&](int caller) {
      const int number = ++next;
      entryv1::BatchCreateEntryRequest request;
      *request.add_entries() =
          MakeEntry(system, "/spire/agent/bench", absl::StrCat("/bench/one/", number), "bench", absl::StrCat(number));
      grpc::ClientContext context;
      entryv1::BatchCreateEntryResponse response;
      const grpc::Status status = stubs[caller]->BatchCreateEntry(&context, request, &response);
      Check(status.ok() && response.results(0).status().code() == 0, "create: " + status.error_message());
      std::lock_guard lock(mutex);
      made.push_back(response.results(0).entry().id());
    });
    PrintRow("P11", absl::StrCat("create one entry, durable, ", callers, " callers"), RateAndCpu(load), budget);
  }

  constexpr int kRows = 9000;
  std::vector<spire::api::types::Entry> entries;
  for (int i = 0; i < kRows; ++i) {
    entries.push_back(MakeEntry(system, "/spire/agent/bench", absl::StrCat("/bench/bulk/", i), "bench", absl::StrCat("b", i)));
  }
  absl::Time start = absl::Now();
  const std::vector<std::string> ids = CreateEntries(system, entries);
  const double create_rate = kRows / absl::ToDoubleSeconds(absl::Now() - start);

  ListAndCount(system);
  start = absl::Now();
  DeleteEntries(system, ids);
  const double delete_rate = kRows / absl::ToDoubleSeconds(absl::Now() - start);
  PrintRow("P12", "create by 500 / delete by 500", absl::StrFormat("%.0f / %.0f rows/s", create_rate, delete_rate),
           "30 000 / 30 000");
  DeleteEntries(system, made);
}

void Joins(System& system) {
  constexpr int kJoins = 300;
  std::vector<std::string> tokens;
  for (int i = 0; i < kJoins; ++i) tokens.push_back(MakeJoinToken(system));
  const double cpu = CpuSeconds(system.server_pid);
  const absl::Time start = absl::Now();
  for (const std::string& token : tokens) Join(system, token);
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  PrintRow("P14", "agent joins by token, one at a time",
           absl::StrFormat("%.0f us CPU, %.0f/s", (CpuSeconds(system.server_pid) - cpu) / kJoins * 1e6, kJoins / seconds),
           "2 000 us");
}

namespace {

// An agent that says hello and then only listens.
class IdleSync final : public grpc::ClientBidiReactor<signet::server::v1::AgentMessage, signet::server::v1::ServerMessage> {
 public:
  IdleSync(std::shared_ptr<grpc::Channel> channel, std::atomic<int>& complete)
      : stub_(signet::server::v1::AgentSync::NewStub(std::move(channel))), complete_(complete) {
    stub_->async()->Sync(&context_, this);
    hello_.mutable_hello()->set_agent_version("bench");
    StartWrite(&hello_);
    StartRead(&message_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (message_.has_revisions() && message_.revisions().last()) {
      want_.mutable_want()->set_last(true);
      if (--before_want_ == 0) StartWrite(&want_);
    }
    if (message_.has_complete()) ++complete_;
    StartRead(&message_);
  }
  void OnWriteDone(bool ok) override {
    if (ok && --before_want_ == 0) StartWrite(&want_);
  }
  void OnDone(const grpc::Status&) override { done_ = true; }
  void Cancel() { context_.TryCancel(); }
  bool done() const { return done_; }

 private:
  std::unique_ptr<signet::server::v1::AgentSync::Stub> stub_;
  std::atomic<int>& complete_;
  std::atomic<bool> done_ = false;
  std::atomic<int> before_want_ = 2;  // the hello is written, the revisions are read
  grpc::ClientContext context_;
  signet::server::v1::AgentMessage hello_, want_;
  signet::server::v1::ServerMessage message_;
};

}  // namespace

void IdleAgents(System& system) {
  constexpr int kAgents = 1000, kEntries = 10;
  const double rss_before = RssMegabytes(system.server_pid);
  std::vector<Node> nodes;
  std::vector<spire::api::types::Entry> entries;
  for (int i = 0; i < kAgents; ++i) {
    nodes.push_back(Join(system, MakeJoinToken(system)));
    for (int k = 0; k < kEntries; ++k) {
      entries.push_back(MakeEntry(system, nodes.back().path, absl::StrCat("/bench/idle/", i, "/", k), "bench", absl::StrCat(k)));
    }
  }
  const std::vector<std::string> ids = CreateEntries(system, entries);
  std::atomic<int> complete = 0;
  std::vector<std::unique_ptr<IdleSync>> streams;
  for (Node& node : nodes) streams.push_back(std::make_unique<IdleSync>(node.channel, complete));
  while (complete < kAgents) absl::SleepFor(absl::Milliseconds(20));
  const double cpu = CpuSeconds(system.server_pid);
  absl::SleepFor(absl::Seconds(20));
  PrintRow("P15", "1 000 idle agents, 10 entries each: cores; server RSS",
           absl::StrFormat("%.4f; %.0f MB (before: %.0f)", (CpuSeconds(system.server_pid) - cpu) / 20,
                           RssMegabytes(system.server_pid), rss_before),
           "0.01; 160 MB");
  for (auto& stream : streams) stream->Cancel();
  for (auto& stream : streams) {
    while (!stream->done()) absl::SleepFor(absl::Milliseconds(1));
  }
  DeleteEntries(system, ids);
}

}  // namespace signet::bench
