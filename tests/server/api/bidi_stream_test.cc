// What every stream by turns does, shown with SyncAuthorizedEntries over TCP.
#include "server/api/bidi_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include <grpcpp/create_channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "absl/strings/str_cat.h"
#include "server/api/entry_service.h"
#include "spire/api/server/entry/v1/entry.grpc.pb.h"
#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::entry::v1;
const spiffe::Id kAgent = IdOf("/spire/agent/join_token/a");

class BidiStreamTest : public ::testing::Test {
 protected:
  BidiStreamTest() {
    kit_.Attest(AgentOf("/spire/agent/join_token/a", "1"));
    kit_.callers.caller = TlsCaller(kAgent);
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    server_ = builder.BuildAndStart();
    grpc::ChannelArguments small_window;
    small_window.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    small_window.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65'535);
    stub_ = v1::Entry::NewStub(
        grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials(), small_window));
  }
  ~BidiStreamTest() override {
    streams_.FinishAll(absl::UnavailableError("test ends"));
    server_->Shutdown();
  }
  void CreateLargeEntries() {  // 3 MB together
    for (int i = 0; i < 8; ++i) {
      spiffe::Entry entry = EntryOf(absl::StrCat("/large/", i));
      for (int s = 0; s < 99; ++s) entry.selectors.push_back({"x", absl::StrCat(s, std::string(4000, 'y'))});
      spiffe::Normalize(entry.selectors);
      kit_.Create(entry);
    }
  }
  void AwaitStreams(size_t count) {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while (streams_.size() != count && absl::Now() < end) std::this_thread::yield();
    EXPECT_EQ(streams_.size(), count);
  }

  ApiKit kit_;
  Admission admission_{{}};
  Calls calls_{kit_.authorizer, kit_.executor, admission_};
  StreamRegistry streams_{kit_.authorizer, kit_.callers, *kit_.index, kit_.system_clock};
  std::unique_ptr<grpc::Service> service_ =
      MakeEntryService({Own(), calls_, streams_, *kit_.store, *kit_.index, kit_.clock});
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Entry::Stub> stub_;
};

// The status stands behind what nobody reads; without a limit the stream would outlive its authority.
TEST_F(BidiStreamTest, APeerThatDoesNotReadDoesNotKeepItsStream) {
  CreateLargeEntries();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  const auto stream = stub_->SyncAuthorizedEntries(&context);
  v1::SyncAuthorizedEntriesRequest request;
  ASSERT_TRUE(stream->Write(request));
  stream->WaitForInitialMetadata();  // the one answer, which is also the last message, is on its way
  AwaitStreams(1);
  kit_.Ban(kAgent);
  AwaitStreams(0);
  context.TryCancel();  // else the client waits for what it has not read
  (void)stream->Finish();
}

// A slow reader of an answer to which it has a right is not hurried.
TEST_F(BidiStreamTest, ASlowPeerGetsItsAnswer) {
  CreateLargeEntries();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  const auto stream = stub_->SyncAuthorizedEntries(&context);
  ASSERT_TRUE(stream->Write({}));
  stream->WaitForInitialMetadata();
  std::this_thread::sleep_for(rpc::Patience::kPatience + std::chrono::milliseconds(200));  // what it must outlast
  v1::SyncAuthorizedEntriesResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.entries_size(), 8);
  EXPECT_FALSE(stream->Read(&response));
  SIGNET_EXPECT_OK(FromGrpc(stream->Finish()));
}

}  // namespace
}  // namespace signet::server
