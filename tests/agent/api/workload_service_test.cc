// The Workload API over its socket, by a stock gRPC client. Rows EP-* and WL-* are those of the SPIFFE standards'
// checklist (Workload Endpoint, Workload API); W-* are attacks.
#include "agent/api/workload_service.h"

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "agent/api/workload_server.h"
#include "agent/workloadattestor/unix.h"
#include "common/jose/jws.h"
#include "spiffe/workload/workload.grpc.pb.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_peer.h"
#include "tests/fakes/fake_svid_cache.h"

#include "tests/testing/child_process.h"
#include "tests/testing/sanitizers.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_ca.h"

namespace signet::agent {
namespace {

using ::grpc::StatusCode;
using ::signet::fakes::FakeClock;
using ::signet::fakes::FakePeerProcess;
using ::signet::fakes::FakePinner;
using ::signet::fakes::FakeSvidCache;
using ::signet::fakes::FakeWorkloadAttestor;
using ::signet::testing::ChildProcess;
using ::signet::testing::ConnectOrExit;
using ::signet::testing::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// Looks again and again: gRPC's threads tell nobody when they are done.
bool Eventually(const std::function<bool()>& condition) {
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (!condition()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

spiffe::Entry MakeEntry(const std::string& id, const std::string& path, const std::string& executable = "/bin/app") {
  spiffe::Entry entry{.id = id,
                      .spiffe_id = *spiffe::Id::Parse("spiffe://td" + path),
                      .parent_id = *spiffe::Id::Parse("spiffe://td/spire/agent/x"),
                      .selectors = {{"exe", executable}},
                      .federates_with = {},
                      .dns_names = {},
                      .hint = ""};
  entry.created_at = absl::FromUnixSeconds(1000);
  return entry;
}

std::unique_ptr<grpc::ClientContext> Context(const char* header = "true") {
  auto context = std::make_unique<grpc::ClientContext>();
  if (header != nullptr) context->AddMetadata("workload.spiffe.io", header);
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  return context;
}

// A daemon's workload socket, with what is behind it in the test's hands.
class WorkloadServiceTest : public ::testing::Test {
 protected:
  WorkloadServiceTest() {
    auto attestor = std::make_unique<FakeWorkloadAttestor>();
    attestor_ = attestor.get();
    attestors_.push_back(std::move(attestor));
  }
  ~WorkloadServiceTest() override {
    cache_.SetReady(true);
    attestor_->Release();
    streams_.FinishAll(absl::UnavailableError("the agent stops"));
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
    service_.reset();
    front_.reset();
  }

  void SetUp() override { Serve(pinner_); }

  void Serve(const PeerPinner& pinner) {
    rpc::UnixFront::Options options;
    options.path = dir_.file("api.sock");
    auto front = rpc::UnixFront::Create(options, PinAtAccept(pinner, metrics_));
    SIGNET_ASSERT_OK(front);
    front_ = *std::move(front);
    attestation_ = Attestation::Create({.pending_per_uid = 4}, std::move(attestors_), clock_, metrics_);
    service_ = MakeWorkloadService({.cache = cache_,
                                    .attestation = *attestation_,
                                    .front = *front_,
                                    .streams = streams_,
                                    .clock = clock_,
                                    .metrics = metrics_,
                                    .trust_domain = td_,
                                    .allowed_foreign_jwt_claims = {"team"},
                                    .streams_per_uid = 50});
    grpc::ServerBuilder builder;
    ConfigureWorkloadServer(builder);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    front_->Start(*server_);
    stub_ = SpiffeWorkloadAPI::NewStub(Dial());
  }

  std::shared_ptr<grpc::Channel> Dial() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(64 << 20);
    // EP-5, EP-6: neither TLS nor a credential of the client's.
    return grpc::CreateCustomChannel("unix:" + dir_.file("api.sock"), grpc::InsecureChannelCredentials(), arguments);
  }

  // Every RPC once; the first status of each, by name.
  std::vector<std::pair<std::string, grpc::Status>> CallAll(const std::function<void(grpc::ClientContext&)>& prepare) {
    std::vector<std::pair<std::string, grpc::Status>> all;
    auto with = [&](const char* name, auto call) {
      auto context = Context(nullptr);
      prepare(*context);
      all.emplace_back(name, call(context.get()));
    };
    auto stream = [](auto reader, auto message) {
      while (reader->Read(&message)) {
      }
      return reader->Finish();
    };
    with("FetchX509SVID", [&](auto* c) { return stream(stub_->FetchX509SVID(c, {}), X509SVIDResponse()); });
    with("FetchX509Bundles", [&](auto* c) { return stream(stub_->FetchX509Bundles(c, {}), X509BundlesResponse()); });
    with("FetchJWTBundles", [&](auto* c) { return stream(stub_->FetchJWTBundles(c, {}), JWTBundlesResponse()); });
    with("FetchJWTSVID", [&](auto* c) {
      JWTSVIDRequest request;
      request.add_audience("a");
      JWTSVIDResponse response;
      return stub_->FetchJWTSVID(c, request, &response);
    });
    with("ValidateJWTSVID", [&](auto* c) {
      ValidateJWTSVIDRequest request;
      request.set_audience("a");
      request.set_svid("x");
      ValidateJWTSVIDResponse response;
      return stub_->ValidateJWTSVID(c, request, &response);
    });
    return all;
  }
  static void Plain(grpc::ClientContext& context) { context.AddMetadata("workload.spiffe.io", "true"); }

  void Register(const std::string& id, const std::string& path, const std::string& executable = "/bin/app") {
    cache_.Batch([&] {
      cache_.PutEntry(MakeEntry(id, path, executable));
      cache_.SetSvid(id, "svid of " + path);
    });
  }

  spiffe::TrustDomain td_ = *spiffe::TrustDomain::Parse("td");
  TempDir dir_;
  FakeClock clock_;
  telemetry::Metrics registry_;
  Metrics metrics_{registry_};
  std::shared_ptr<FakePeerProcess> process_ = std::make_shared<FakePeerProcess>();
  FakePinner pinner_{process_};
  std::unique_ptr<PeerPinner> real_;  // of RealPeerTest; here, because calls go on until the destructor above
  FakeSvidCache cache_{td_};
  FakeWorkloadAttestor* attestor_;  // owned by attestation_
  std::vector<std::unique_ptr<WorkloadAttestor>> attestors_;
  std::unique_ptr<Attestation> attestation_;
  rpc::StreamSet streams_;
  std::unique_ptr<rpc::UnixFront> front_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<SpiffeWorkloadAPI::Stub> stub_;
};

// --- Who is let in
// -------------------------------------------------------------------------------------------------------

TEST_F(WorkloadServiceTest, AsksForTheHeaderFirstOnEachCall) {  // EP-3, EP-4, W9
  Register("e1", "/a");
  const std::vector<std::function<void(grpc::ClientContext&)>> wrong = {
      [](auto&) {},
      [](auto& c) { c.AddMetadata("workload.spiffe.io", "True"); },
      [](auto& c) { c.AddMetadata("workload.spiffe.io", "false"); },
      [](auto& c) { c.AddMetadata("workload.spiffe.io", ""); },
      [](auto& c) { c.AddMetadata("workload.spiffe.io", "true "); },
      [](auto& c) { c.AddMetadata("broker.spiffe.io", "true"); },
      [](auto& c) {
        c.AddMetadata("workload.spiffe.io", "true");
        c.AddMetadata("workload.spiffe.io", "false");
      },
  };
  for (const auto& prepare : wrong) {
    for (const auto& [rpc, status] : CallAll(prepare)) {
      EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << rpc;
      EXPECT_THAT(status.error_message(), HasSubstr("workload.spiffe.io")) << rpc;
    }
  }
  EXPECT_EQ(process_->facts_read(), 0u);  // before attestation
  EXPECT_EQ(attestor_->calls(), 0u);
}

TEST_F(WorkloadServiceTest, DoesNotServeWit) {  // WIT-18
  for (const auto& [header, code] :
       {std::pair("true", StatusCode::UNIMPLEMENTED), {"no", StatusCode::INVALID_ARGUMENT}}) {
    auto context = Context(header);
    WITSVIDResponse svid;
    auto reader = stub_->FetchWITSVID(context.get(), {});
    EXPECT_FALSE(reader->Read(&svid));
    EXPECT_EQ(reader->Finish().error_code(), code);
    context = Context(header);
    WITBundlesResponse bundles;
    auto bundle_reader = stub_->FetchWITBundles(context.get(), {});
    EXPECT_FALSE(bundle_reader->Read(&bundles));
    EXPECT_EQ(bundle_reader->Finish().error_code(), code);
  }
}

TEST_F(WorkloadServiceTest, IsUnavailableUntilTheAgentHasHeardFromItsServer) {  // EP-11
  cache_.SetReady(false);
  for (const auto& [rpc, status] : CallAll(Plain)) EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE) << rpc;
  EXPECT_EQ(attestor_->calls(), 0u);
}

TEST_F(WorkloadServiceTest, IsUnavailableWhenNoAttestorCanSay) {  // EP-11
  Register("e1", "/a");
  attestor_->SetError(absl::UnavailableError("kubelet down"));
  for (const auto& [rpc, status] : CallAll(Plain)) {
    EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE) << rpc;
    EXPECT_THAT(status.error_message(), HasSubstr("kubelet down")) << rpc;
  }
}

TEST_F(WorkloadServiceTest, ShedsLoadOfOneUser) {  // EP-11, W10
  Register("e1", "/a");
  attestor_->Hold();
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  std::vector<std::unique_ptr<SpiffeWorkloadAPI::Stub>> stubs;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<X509SVIDResponse>>> readers;
  for (int i = 0; i < 4; ++i) {
    stubs.push_back(SpiffeWorkloadAPI::NewStub(Dial()));
    contexts.push_back(Context());
    readers.push_back(stubs.back()->FetchX509SVID(contexts.back().get(), {}));
  }
  attestor_->AwaitCalls(4);
  for (const auto& [rpc, status] : CallAll(Plain)) {
    EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE) << rpc;
    EXPECT_THAT(status.error_message(), HasSubstr("attestations under way")) << rpc;
  }
  attestor_->Release();
  for (auto& reader : readers) {
    X509SVIDResponse message;
    EXPECT_TRUE(reader->Read(&message));
  }
  for (auto& context : contexts) context->TryCancel();
}

TEST_F(WorkloadServiceTest, LimitsOpenStreamsOfOneUser) {  // W10
  Register("e1", "/a");
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<X509SVIDResponse>>> readers;
  X509SVIDResponse message;
  for (int i = 0; i < 50; ++i) {
    contexts.push_back(Context());
    readers.push_back(stub_->FetchX509SVID(contexts.back().get(), {}));
    ASSERT_TRUE(readers.back()->Read(&message));
  }
  auto context = Context();
  auto reader = stub_->FetchX509SVID(context.get(), {});
  EXPECT_FALSE(reader->Read(&message));
  grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("too many streams"));
  contexts.back()->TryCancel();
  EXPECT_TRUE(Eventually([&] {
    auto again = Context();
    return stub_->FetchX509SVID(again.get(), {})->Read(&message);
  }));
  for (auto& c : contexts) c->TryCancel();
}

TEST_F(WorkloadServiceTest, DeniesWhoHasNoIdentity) {  // EP-12, WL-8, WL-15
  Register("e1", "/a", "/bin/other");
  for (const auto& [rpc, status] : CallAll(Plain)) {
    EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED) << rpc;
    EXPECT_EQ(status.error_message(), "no identity issued") << rpc;
  }
}

TEST_F(WorkloadServiceTest, DeniesWhoDidNotComeThroughTheSocket) {
  Register("e1", "/a");
  stub_ = SpiffeWorkloadAPI::NewStub(server_->InProcessChannel({}));
  for (const auto& [rpc, status] : CallAll(Plain)) {
    EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED) << rpc;
  }
  EXPECT_EQ(attestor_->calls(), 0u);
}

TEST_F(WorkloadServiceTest, DeniesAProcessThatIsGone) {
  Register("e1", "/a");
  process_->Exit();
  for (const auto& [rpc, status] : CallAll(Plain)) {
    EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED) << rpc;
  }
}

// --- Streams
// -------------------------------------------------------------------------------------------------------------

class Watch {
 public:
  explicit Watch(SpiffeWorkloadAPI::Stub& stub)
      : context_(Context()), reader_(stub.FetchX509SVID(context_.get(), {})) {}
  ~Watch() { context_->TryCancel(); }
  bool Next(X509SVIDResponse* message) { return reader_->Read(message); }
  // The next message's IDs; empty when the stream has ended.
  std::vector<std::string> NextIds() {
    X509SVIDResponse message;
    std::vector<std::string> ids;
    if (!reader_->Read(&message)) return ids;
    for (const X509SVID& svid : message.svids()) ids.push_back(svid.spiffe_id());
    return ids;
  }
  grpc::Status Finish() { return reader_->Finish(); }
  void Cancel() { context_->TryCancel(); }

 private:
  const std::unique_ptr<grpc::ClientContext> context_;
  const std::unique_ptr<grpc::ClientReader<X509SVIDResponse>> reader_;
};

TEST_F(WorkloadServiceTest, SendsTheWholeStateAtOnceAndAfterEachChange) {  // EP-7, WL-3, WL-4, WL-26
  Register("e1", "/a");
  Watch watch(*stub_);
  X509SVIDResponse message;
  ASSERT_TRUE(watch.Next(&message));
  ASSERT_THAT(message.svids(), SizeIs(1));
  EXPECT_EQ(message.svids(0).spiffe_id(), "spiffe://td/a");
  EXPECT_EQ(message.svids(0).x509_svid(), "svid of /a");

  cache_.SetSvid("e1", "renewed svid of /a");
  ASSERT_TRUE(watch.Next(&message));
  EXPECT_EQ(message.svids(0).x509_svid(), "renewed svid of /a");

  Register("e2", "/b");
  ASSERT_TRUE(watch.Next(&message));
  ASSERT_THAT(message.svids(), SizeIs(2));
  EXPECT_EQ(message.svids(0).spiffe_id(), "spiffe://td/a");  // WL-24: the order stays
  EXPECT_EQ(message.svids(0).x509_svid(), "renewed svid of /a");
}

TEST_F(WorkloadServiceTest, ServesAWaitingStreamTheMomentItsSvidIsMinted) {
  cache_.PutEntry(MakeEntry("e1", "/a"));
  Watch watch(*stub_);
  ASSERT_TRUE(Eventually([&] { return cache_.subscriptions() == 1; }));
  auto ids = std::async(std::launch::async, [&] { return watch.NextIds(); });
  EXPECT_EQ(ids.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  cache_.SetSvid("e1", "svid");
  EXPECT_THAT(ids.get(), ElementsAre("spiffe://td/a"));
}

TEST_F(WorkloadServiceTest, WithdrawsWhatIsTakenAway) {  // WL-7, WL-8
  Register("e1", "/a");
  Register("e2", "/b");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a", "spiffe://td/b"));
  cache_.RemoveEntry("e1");
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/b"));
  cache_.RemoveEntry("e2");
  EXPECT_THAT(watch.NextIds(), IsEmpty());
  EXPECT_EQ(watch.Finish().error_code(), StatusCode::PERMISSION_DENIED);
}

TEST_F(WorkloadServiceTest, ASlowReaderGetsTheNewestState) {  // WL-5
  Register("e1", "/a");
  Watch watch(*stub_);
  X509SVIDResponse message;
  ASSERT_TRUE(watch.Next(&message));
  // Messages of 4 MiB fill the flow control window at once, so the stream waits for its reader.
  constexpr int kChanges = 16;
  for (int i = 1; i <= kChanges; ++i) cache_.SetSvid("e1", std::string(4 << 20, 'x') + std::to_string(i));
  int messages = 0;
  const std::string last = std::to_string(kChanges);
  while (watch.Next(&message)) {
    ++messages;
    if (absl::string_view(message.svids(0).x509_svid()).substr(4 << 20) == last) break;
  }
  EXPECT_LE(messages, kChanges / 2);
  EXPECT_EQ(absl::string_view(message.svids(0).x509_svid()).substr(4 << 20), last);
}

TEST_F(WorkloadServiceTest, ManyStreamsGetEachChange) {
  Register("e1", "/a");
  std::vector<std::unique_ptr<Watch>> watches;
  X509SVIDResponse message;
  for (int i = 0; i < 40; ++i) {
    watches.push_back(std::make_unique<Watch>(*stub_));
    ASSERT_TRUE(watches.back()->Next(&message));
  }
  EXPECT_EQ(attestor_->calls(), 1u);  // one connection, one attestation
  for (int round = 0; round < 5; ++round) {
    const std::string svid = absl::StrCat("svid ", round);
    cache_.SetSvid("e1", svid);
    for (auto& watch : watches) {
      do {
        ASSERT_TRUE(watch->Next(&message));
      } while (message.svids(0).x509_svid() != svid);
    }
  }
}

TEST_F(WorkloadServiceTest, EndsAllStreamsAtShutdown) {
  Register("e1", "/a");
  cache_.PutEntry(MakeEntry("e2", "/not-minted", "/bin/waiting"));
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), SizeIs(1));
  attestor_->Hold();
  auto other = SpiffeWorkloadAPI::NewStub(Dial());
  Watch attesting(*other);
  attestor_->AwaitCalls(2);
  streams_.FinishAll(absl::UnavailableError("the agent stops"));
  EXPECT_THAT(watch.NextIds(), IsEmpty());
  EXPECT_EQ(watch.Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(attesting.NextIds(), IsEmpty());
  EXPECT_EQ(attesting.Finish().error_code(), StatusCode::UNAVAILABLE);
  attestor_->Release();
  Watch late(*stub_);
  EXPECT_THAT(late.NextIds(), IsEmpty());
  EXPECT_EQ(late.Finish().error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(Eventually([&] { return streams_.size() == 0 && cache_.subscriptions() == 0; }));
}

// --- The process behind a stream
// ----------------------------------------------------------------------------------------

TEST_F(WorkloadServiceTest, GivesNothingToAProcessThatExecutedAnotherProgram) {  // W4
  Register("e1", "/a");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  process_->Exec("/bin/evil");
  cache_.SetSvid("e1", "renewed");  // must not reach it
  X509SVIDResponse message;
  EXPECT_FALSE(watch.Next(&message));
  grpc::Status status = watch.Finish();
  EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(status.error_message(), "no identity issued");
}

TEST_F(WorkloadServiceTest, FollowsAProcessToItsNewIdentity) {
  Register("e1", "/a");
  Register("e2", "/b", "/bin/next");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  process_->Exec("/bin/next");
  cache_.SetSvid("e1", "renewed");
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/b"));
  // And a second change is seen, too, by the timer alone.
  process_->Exec("/bin/app");
  auto ids = std::async(std::launch::async, [&] { return watch.NextIds(); });
  EXPECT_TRUE(Eventually([&] {  // one look may come while the attestation before is not quite over
    clock_.Advance(absl::Seconds(10));
    return ids.wait_for(std::chrono::milliseconds(5)) == std::future_status::ready;
  }));
  EXPECT_THAT(ids.get(), ElementsAre("spiffe://td/a"));
}

TEST_F(WorkloadServiceTest, GivesNothingOfTheIdentityBeforeThatComesLate) {  // W4
  Register("e1", "/a");
  Register("e2", "/b", "/bin/next");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  cache_.SetCallLate(true);
  process_->Exec("/bin/next");
  cache_.SetSvid("e1", "renewed");
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/b"));
}

TEST_F(WorkloadServiceTest, NoticesAChangeOfSelectorsThatTheCheapLookMisses) {
  Register("e1", "/a");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  auto facts = *process_->ReadFacts();
  facts.executable = "/bin/moved";  // same inode: StillTheSame() holds
  process_->SetFacts(facts);
  EXPECT_TRUE(Eventually([&] {
    clock_.Advance(absl::Seconds(10));
    return streams_.size() == 0;
  }));
  EXPECT_THAT(watch.NextIds(), IsEmpty());
  EXPECT_EQ(watch.Finish().error_code(), StatusCode::PERMISSION_DENIED);
}

TEST_F(WorkloadServiceTest, EndsTheStreamWhenTheProcessIsGone) {
  Register("e1", "/a");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  process_->Exit();
  EXPECT_TRUE(Eventually([&] {
    clock_.Advance(absl::Seconds(10));
    return streams_.size() == 0 && cache_.subscriptions() == 0;
  }));
  EXPECT_THAT(watch.NextIds(), IsEmpty());
  EXPECT_EQ(watch.Finish().error_code(), StatusCode::PERMISSION_DENIED);
}

TEST_F(WorkloadServiceTest, GivesNothingToAProcessThatExitedWhileItsStreamWaited) {
  cache_.PutEntry(MakeEntry("e1", "/a"));
  Watch watch(*stub_);
  ASSERT_TRUE(Eventually([&] { return cache_.subscriptions() == 1; }));
  process_->Exit();
  cache_.SetSvid("e1", "svid");
  EXPECT_THAT(watch.NextIds(), IsEmpty());
  EXPECT_EQ(watch.Finish().error_code(), StatusCode::PERMISSION_DENIED);
}

TEST_F(WorkloadServiceTest, AnAttestorThatFailsLaterEndsNoStream) {
  Register("e1", "/a");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  attestor_->SetError(absl::UnavailableError("kubelet down"));
  absl::Duration down;
  EXPECT_TRUE(Eventually([&] {
    if (down < absl::Minutes(8)) {
      clock_.Advance(absl::Seconds(20));
      down += absl::Seconds(20);
    }
    return attestor_->calls() >= 2;
  }));
  cache_.SetSvid("e1", "renewed");
  X509SVIDResponse message;
  ASSERT_TRUE(watch.Next(&message));
  EXPECT_EQ(message.svids(0).x509_svid(), "renewed");
}

// What nobody vouches for any more is not kept without end: what an attestor forgot, a deleted pod, it cannot take
// back.
TEST_F(WorkloadServiceTest, AnAttestorThatNeverAnswersAgainEndsTheStream) {
  Register("e1", "/a");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  attestor_->SetError(absl::UnavailableError("kubelet down"));
  const absl::Duration begun = clock_.Steady();
  auto finish = std::async(std::launch::async, [&] {
    EXPECT_THAT(watch.NextIds(), IsEmpty());
    return watch.Finish().error_code();
  });
  EXPECT_TRUE(Eventually([&] {
    clock_.Advance(absl::Seconds(20));
    return finish.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }));
  EXPECT_EQ(finish.get(), StatusCode::UNAVAILABLE);
  EXPECT_GE(clock_.Steady() - begun, absl::Minutes(10));
}

// No clock is moved in these two: an attestor that takes back what it said is heard at once.
TEST_F(WorkloadServiceTest, FollowsWhatAnAttestorSaysAnewAtOnce) {
  Register("e1", "/a");
  Register("e2", "/b", "labelled otherwise");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  attestor_->Change("labelled otherwise");
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/b"));
}

TEST_F(WorkloadServiceTest, EndsTheStreamWhenAnAttestorTakesBackWhatEntitledIt) {
  Register("e1", "/a");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  attestor_->Change("deleted");
  EXPECT_THAT(watch.NextIds(), IsEmpty());
  EXPECT_EQ(watch.Finish().error_code(), StatusCode::PERMISSION_DENIED);
}

// --- Bundles
// -------------------------------------------------------------------------------------------------------------

class WorkloadBundlesTest : public WorkloadServiceTest {
 protected:
  WorkloadBundlesTest() {
    const absl::Time now = absl::Now();
    own_.x509_authorities.push_back({signet::testing::SelfSigned(signet::testing::CaTemplate("own", now)).certificate});
    own_.jwt_authorities.push_back({"k1", key_.public_key()});
    foreign_.x509_authorities.push_back(
        {signet::testing::SelfSigned(signet::testing::CaTemplate("foreign", now)).certificate});
    foreign_.jwt_authorities.push_back({"k1", foreign_key_.public_key()});
    cache_.SetBundle(own_);
    cache_.SetBundle(foreign_);
    cache_.SetBundle(spiffe::Bundle{*spiffe::TrustDomain::Parse("unrelated"), {}, {}});
  }
  // An identity that federates with `foreign`.
  void RegisterFederated(bool federated = true) {
    spiffe::Entry entry = MakeEntry("e1", "/a");
    if (federated) entry.federates_with = {"foreign"};
    cache_.Batch([&] {
      cache_.PutEntry(entry);
      cache_.SetSvid("e1", "svid");
    });
  }

  crypto::PrivateKey key_ = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  crypto::PrivateKey foreign_key_ = *crypto::PrivateKey::Generate(crypto::KeyType::kEcP256);
  spiffe::Bundle own_{*spiffe::TrustDomain::Parse("td"), {}, {}};
  spiffe::Bundle foreign_{*spiffe::TrustDomain::Parse("foreign"), {}, {}};
};

TEST_F(WorkloadBundlesTest, GivesOwnAndFederatedX509Bundles) {  // WL-11, WL-14, WL-20
  RegisterFederated();
  auto context = Context();
  auto reader = stub_->FetchX509Bundles(context.get(), {});
  X509BundlesResponse message;
  ASSERT_TRUE(reader->Read(&message));
  ASSERT_EQ(message.bundles().size(), 2u);
  EXPECT_EQ(message.bundles().at("spiffe://td"), own_.X509Der());
  EXPECT_EQ(message.bundles().at("spiffe://foreign"), foreign_.X509Der());
  for (const auto& [key, der] : message.bundles()) {
    EXPECT_THAT(spiffe::Id::Parse(key), signet::testing::IsOk()) << key;
    EXPECT_THAT(crypto::Certificate::ParseChain(der), signet::testing::IsOk()) << key;
  }
  // A rotation of the SVID says nothing new here; the end of a federation does (WL-6).
  cache_.SetSvid("e1", "renewed");
  RegisterFederated(false);
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.bundles().size(), 1u);
  EXPECT_EQ(message.bundles().count("spiffe://td"), 1u);
  context->TryCancel();
}

TEST_F(WorkloadBundlesTest, GivesJwtKeysOnly) {  // WL-14, WL-16, WL-21
  RegisterFederated();
  auto context = Context();
  auto reader = stub_->FetchJWTBundles(context.get(), {});
  JWTBundlesResponse message;
  ASSERT_TRUE(reader->Read(&message));
  ASSERT_EQ(message.bundles().size(), 2u);
  EXPECT_EQ(message.bundles().at("spiffe://td"), own_.ToJwtJwks());
  EXPECT_THAT(message.bundles().at("spiffe://td"), HasSubstr("\"kid\":\"k1\""));
  EXPECT_THAT(message.bundles().at("spiffe://td"), Not(HasSubstr("x509-svid")));
  cache_.RemoveEntry("e1");
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::PERMISSION_DENIED);
}

// --- JWT
// -----------------------------------------------------------------------------------------------------------------

class WorkloadJwtTest : public WorkloadBundlesTest {
 protected:
  grpc::Status Fetch(std::vector<std::string> audience, const std::string& id, JWTSVIDResponse* response) {
    JWTSVIDRequest request;
    for (const std::string& a : audience) request.add_audience(a);
    request.set_spiffe_id(id);
    return stub_->FetchJWTSVID(Context().get(), request, response);
  }
  StatusCode FetchCode(std::vector<std::string> audience, const std::string& id) {
    JWTSVIDResponse response;
    StatusCode code = Fetch(std::move(audience), id, &response).error_code();
    EXPECT_TRUE(code == StatusCode::OK || response.svids().empty());
    return code;
  }

  std::string Token(const std::string& subject, const crypto::PrivateKey& key,
                    const std::string& header_and_claims = "") {
    const absl::Time now = clock_.Now();
    const std::string payload =
        absl::StrCat(R"({"aud":"me","exp":)", absl::ToUnixSeconds(now + absl::Minutes(5)), R"(,"iat":)",
                     absl::ToUnixSeconds(now), R"(,"sub":")", subject, "\"", header_and_claims, "}");
    return *jose::SignCompact(R"({"alg":"ES256","kid":"k1","typ":"JWT"})", payload, key.type(),
                              signet::testing::SignerOf(key));
  }
  grpc::Status Validate(const std::string& token, ValidateJWTSVIDResponse* response,
                        const std::string& audience = "me") {
    ValidateJWTSVIDRequest request;
    request.set_audience(audience);
    request.set_svid(token);
    return stub_->ValidateJWTSVID(Context().get(), request, response);
  }
};

TEST_F(WorkloadJwtTest, GivesOneTokenForEachIdentity) {  // WL-18, WL-24, WL-26
  Register("e1", "/a");
  Register("e2", "/b");
  JWTSVIDResponse response;
  ASSERT_TRUE(Fetch({"x", "y"}, "", &response).ok());
  ASSERT_THAT(response.svids(), SizeIs(2));
  EXPECT_EQ(response.svids(0).spiffe_id(), "spiffe://td/a");
  EXPECT_EQ(response.svids(0).svid(), "spiffe://td/a for x,y");
  EXPECT_EQ(response.svids(1).spiffe_id(), "spiffe://td/b");
}

TEST_F(WorkloadJwtTest, GivesTheIdentityThatIsAskedFor) {  // WL-19
  Register("e1", "/a");
  Register("e2", "/b");
  Register("e3", "/c", "/bin/other");
  JWTSVIDResponse response;
  ASSERT_TRUE(Fetch({"x"}, "spiffe://td/b", &response).ok());
  ASSERT_THAT(response.svids(), SizeIs(1));
  EXPECT_EQ(response.svids(0).spiffe_id(), "spiffe://td/b");
  EXPECT_EQ(FetchCode({"x"}, "spiffe://td/c"), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(FetchCode({"x"}, "spiffe://td/nobody"), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(FetchCode({"x"}, "spiffe://other/b"), StatusCode::PERMISSION_DENIED);
}

TEST_F(WorkloadJwtTest, RefusesBadRequests) {  // WL-17
  Register("e1", "/a");
  EXPECT_EQ(FetchCode({}, ""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FetchCode({""}, ""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FetchCode({"x", ""}, ""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FetchCode({"x"}, "http://td/a"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FetchCode({"x"}, "spiffe://td/a/"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FetchCode(std::vector<std::string>(65, "x"), ""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FetchCode({std::string(8193, 'x')}, ""), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FetchCode({std::string(8192, 'x')}, ""), StatusCode::OK);
  ValidateJWTSVIDResponse response;
  EXPECT_EQ(Validate("", &response).error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Validate("x", &response, "").error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(WorkloadJwtTest, GivesEachHintOnce) {  // WL-13
  for (int i = 0; i < 3; ++i) {
    spiffe::Entry entry = MakeEntry(absl::StrCat("e", i), absl::StrCat("/", i));
    entry.hint = i < 2 ? "db" : "";
    entry.created_at += absl::Seconds(i);
    cache_.PutEntry(entry);
  }
  cache_.PutEntry(MakeEntry("e9", "/9"));
  JWTSVIDResponse response;
  ASSERT_TRUE(Fetch({"x"}, "", &response).ok());
  ASSERT_THAT(response.svids(), SizeIs(3));
  EXPECT_EQ(response.svids(0).hint(), "db");
  EXPECT_EQ(response.svids(0).spiffe_id(), "spiffe://td/0");
}

TEST_F(WorkloadJwtTest, PassesOnWhyNothingWasSigned) {
  Register("e1", "/a");
  cache_.SetMint([](auto, auto, auto done) { done(absl::UnavailableError("server away")); });
  JWTSVIDResponse response;
  grpc::Status status = Fetch({"x"}, "", &response);
  EXPECT_EQ(status.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("server away"));
}

TEST_F(WorkloadJwtTest, GivesNoTokenToAProcessThatChangedMeanwhile) {  // W1, W4: the last step
  Register("e1", "/a");
  for (const bool exits : {false, true}) {
    std::function<void(absl::StatusOr<SvidCache::JwtResult>)> held;
    std::promise<void> asked;
    cache_.SetMint([&](auto, auto, auto done) {
      held = std::move(done);
      asked.set_value();
    });
    JWTSVIDResponse response;
    auto status = std::async(std::launch::async, [&] { return Fetch({"x"}, "", &response); });
    asked.get_future().wait();
    exits ? process_->Exit() : process_->Exec("/bin/evil");
    held(SvidCache::JwtResult{*spiffe::Id::Parse("spiffe://td/a"), "token", ""});
    EXPECT_EQ(status.get().error_code(), StatusCode::PERMISSION_DENIED);
    EXPECT_THAT(response.svids(), IsEmpty());
    process_->Exec("/bin/app");
  }
}

TEST_F(WorkloadJwtTest, CancelledCallDoesNoHarm) {
  Register("e1", "/a");
  std::function<void(absl::StatusOr<SvidCache::JwtResult>)> held;
  std::promise<void> asked;
  cache_.SetMint([&](auto, auto, auto done) {
    held = std::move(done);
    asked.set_value();
  });
  auto context = Context();
  JWTSVIDRequest request;
  request.add_audience("x");
  JWTSVIDResponse response;
  auto status = std::async(std::launch::async, [&] { return stub_->FetchJWTSVID(context.get(), request, &response); });
  asked.get_future().wait();
  context->TryCancel();
  EXPECT_EQ(status.get().error_code(), StatusCode::CANCELLED);
  held(SvidCache::JwtResult{*spiffe::Id::Parse("spiffe://td/a"), "token", ""});
}

TEST_F(WorkloadJwtTest, SecondCallCostsNoAttestation) {
  Register("e1", "/a");
  JWTSVIDResponse response;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Fetch({"x"}, "", &response).ok());
  EXPECT_EQ(attestor_->calls(), 1u);
  EXPECT_EQ(process_->facts_read(), 1u);
  process_->Exec("/bin/app");  // the same path, another file
  ASSERT_TRUE(Fetch({"x"}, "", &response).ok());
  EXPECT_EQ(attestor_->calls(), 2u);
}

TEST_F(WorkloadJwtTest, ValidatesOwnTokens) {  // WL-22, WL-23
  RegisterFederated();
  ValidateJWTSVIDResponse response;
  ASSERT_TRUE(
      Validate(Token("spiffe://td/peer", key_, R"(,"role":"r","n":[1,{"x":null,"y":true}],"f":1.5)"), &response).ok());
  EXPECT_EQ(response.spiffe_id(), "spiffe://td/peer");
  const auto& claims = response.claims().fields();
  EXPECT_EQ(claims.at("sub").string_value(), "spiffe://td/peer");
  ASSERT_EQ(claims.at("aud").list_value().values_size(), 1);
  EXPECT_EQ(claims.at("aud").list_value().values(0).string_value(), "me");
  EXPECT_EQ(claims.at("exp").number_value(), static_cast<double>(absl::ToUnixSeconds(clock_.Now() + absl::Minutes(5))));
  EXPECT_EQ(claims.at("role").string_value(), "r");
  EXPECT_EQ(claims.at("f").number_value(), 1.5);
  EXPECT_EQ(claims.at("n").list_value().values(0).number_value(), 1);
  EXPECT_TRUE(claims.at("n").list_value().values(1).struct_value().fields().at("y").bool_value());
}

TEST_F(WorkloadJwtTest, FiltersClaimsOfForeignTokens) {  // WL-23
  RegisterFederated();
  ValidateJWTSVIDResponse response;
  ASSERT_TRUE(
      Validate(Token("spiffe://foreign/peer", foreign_key_, R"(,"role":"r","team":"t","iss":"i","jti":"j")"), &response)
          .ok());
  std::vector<std::string> names;
  for (const auto& [name, value] : response.claims().fields()) names.push_back(name);
  EXPECT_THAT(names, ::testing::UnorderedElementsAre("sub", "aud", "exp", "iat", "iss", "jti", "team"));
}

TEST_F(WorkloadJwtTest, RefusesBadTokens) {  // WL-22, JWT-*: all by the same function; here the kinds, through the RPC
  RegisterFederated();
  ValidateJWTSVIDResponse response;
  auto code = [&](const std::string& token, const std::string& audience = "me") {
    grpc::Status status = Validate(token, &response, audience);
    EXPECT_EQ(response.ByteSizeLong(), 0u);
    EXPECT_THAT(status.error_message(), Not(HasSubstr(token.substr(token.size() / 2))));
    return status.error_code();
  };
  const std::string good = Token("spiffe://td/peer", key_);
  EXPECT_EQ(code("garbage"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(good, "you"), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(Token("spiffe://td/peer", foreign_key_)), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(Token("spiffe://foreign/peer", key_)), StatusCode::INVALID_ARGUMENT);  // JWT-19
  EXPECT_EQ(code(Token("spiffe://unrelated/peer", key_)), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(good + std::string(16 << 10, 'x')), StatusCode::INVALID_ARGUMENT);
  clock_.Advance(absl::Minutes(7));
  EXPECT_EQ(code(good), StatusCode::INVALID_ARGUMENT);  // expired
}

TEST_F(WorkloadJwtTest, TrustsForeignTokensOnlyWhenFederated) {
  RegisterFederated(false);
  ValidateJWTSVIDResponse response;
  EXPECT_EQ(Validate(Token("spiffe://foreign/peer", foreign_key_), &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

// --- With real processes
// ------------------------------------------------------------------------------------------------

class RealPeerTest : public WorkloadServiceTest, public ::testing::WithParamInterface<PinMethod> {
 protected:
  void SetUp() override {
    auto pinner = PeerPinner::Create(GetParam());
    SIGNET_ASSERT_OK(pinner);
    real_ = *std::move(pinner);
    attestors_.push_back(std::make_unique<UnixAttestor>(UnixAttestor::Options{}, clock_));
    Serve(*real_);
  }
};
INSTANTIATE_TEST_SUITE_P(, RealPeerTest, ::testing::Values(PinMethod::kAuto, PinMethod::kNoPeerPidfd),
                         [](const ::testing::TestParamInfo<PinMethod>& test) {
                           return test.param == PinMethod::kAuto ? "Auto" : "NoPeerPidfd";
                         });

TEST_P(RealPeerTest, ServesThisProcessByItsUser) {  // EP-1, EP-7
  spiffe::Entry entry = MakeEntry("e1", "/a");
  entry.selectors = {{"unix", absl::StrCat("uid:", geteuid())}};
  cache_.PutEntry(entry);
  cache_.SetSvid("e1", "svid");
  Watch watch(*stub_);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
}

// The child connects, and the test speaks over the child's connection: so the caller is the child, and dies.
TEST_P(RealPeerTest, ConnectionDiesWithTheProcessThatMadeIt) {
  spiffe::Entry entry = MakeEntry("e1", "/a");
  entry.selectors = {{"unix", absl::StrCat("uid:", geteuid())}};
  cache_.PutEntry(entry);
  cache_.SetSvid("e1", "svid");
  int relay[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, relay), 0);
  const std::string path = dir_.file("api.sock");
  ChildProcess child([&](const ChildProcess::Steps& steps) {
    signet::testing::SendFd(relay[1], ConnectOrExit(path.c_str()));
    steps.Done();
    steps.Await();
  });
  ASSERT_TRUE(child.AwaitDone());
  const int fd = signet::testing::ReceiveFd(relay[0]);
  ASSERT_GE(fd, 0);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  auto stub = SpiffeWorkloadAPI::NewStub(grpc::CreateInsecureChannelFromFd("child", fd));
  Watch watch(*stub);
  EXPECT_THAT(watch.NextIds(), ElementsAre("spiffe://td/a"));
  kill(child.pid(), SIGKILL);
  child.Reap();
  cache_.SetSvid("e1", "renewed");
  EXPECT_THAT(watch.NextIds(), IsEmpty());
  EXPECT_EQ(watch.Finish().error_code(), StatusCode::PERMISSION_DENIED);
  JWTSVIDRequest request;
  request.add_audience("x");
  JWTSVIDResponse response;
  EXPECT_EQ(stub->FetchJWTSVID(Context().get(), request, &response).error_code(), StatusCode::PERMISSION_DENIED);
  close(relay[0]);
  close(relay[1]);
}

int OpenDescriptors() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    (void)entry;
    ++count;
  }
  return count;
}
long ResidentKilobytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return atol(line.c_str() + 6);
  }
  return 0;
}

// W10, scaled down: calls broken off while attesting, while waiting for an SVID, with an open stream, and during a
// mint.
TEST_P(RealPeerTest, BrokenOffCallsLeaveNothingBehind) {
  spiffe::Entry entry = MakeEntry("e1", "/a");
  entry.selectors = {{"unix", absl::StrCat("uid:", geteuid())}};
  const int rounds = getenv("SIGNET_SOAK") != nullptr ? 10000 : 200;
  auto arrived = [&] { ASSERT_TRUE(Eventually([&] { return front_->connections() > 0; })); };  // else it may never
  auto round = [&](int i) {
    if (i % 4 == 0) cache_.PutEntry(entry);
    if (i % 4 == 2) cache_.SetSvid("e1", "svid");
    if (i % 4 == 0) cache_.RemoveEntry("e1");
    auto stub = SpiffeWorkloadAPI::NewStub(Dial());
    auto context = Context();
    if (i % 2 == 0) {
      auto reader = stub->FetchX509SVID(context.get(), {});
      if (i % 3 == 0) arrived();
      context->TryCancel();
      reader->Finish();
    } else {
      Watch watch(*stub);
      if (i % 3 == 0) arrived();
    }
  };
  for (int i = 0; i < 100; ++i) round(i);
  auto quiet = [&] { return front_->connections() == 0 && streams_.size() == 0 && cache_.subscriptions() == 0; };
  stub_.reset();
  ASSERT_TRUE(Eventually(quiet));
  const int descriptors = OpenDescriptors();
  const long resident = ResidentKilobytes();
  for (int i = 0; i < rounds; ++i) round(i);
  EXPECT_TRUE(Eventually([&] { return quiet() && OpenDescriptors() <= descriptors; }))
      << OpenDescriptors() << " descriptors open, " << descriptors << " before; " << front_->connections()
      << " connections, " << streams_.size() << " streams, " << cache_.subscriptions() << " subscriptions";
  if (!testing::kSanitized) {
    EXPECT_LT(ResidentKilobytes(), resident + resident / 10 + 2048);
  }
}

}  // namespace
}  // namespace signet::agent
