// The service over a channel within the process, fed by a real store.
#include "server/sync/agent_sync_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <grpcpp/create_channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <map>
#include <optional>
#include <thread>

#include "common/status/grpc_status.h"
#include "server/api/stream_registry.h"
#include "signet/server/v1/agent_sync.grpc.pb.h"
#include "tests/server/api/api_kit.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_ca.h"

namespace signet::server {
namespace {

const spiffe::Id kAgent = IdOf("/spire/agent/join_token/a");

class AgentSyncServiceTest : public ::testing::Test {
 protected:
  AgentSyncServiceTest() {
    spiffe::X509Authority root{testing::SelfSigned(testing::CaTemplate("root", kit_.clock.Now())).certificate};
    EXPECT_TRUE(testing::Await<spiffe::Bundle>([&](auto done) {
                  kit_.store->ChangeBundle(Own(), {.add_x509 = {root}}, std::move(done));
                }).ok());
    kit_.Attest(AgentOf("/spire/agent/join_token/a", "1"));
    kit_.callers.caller = TlsCaller(kAgent);
    service_ = MakeAgentSyncService({Own(), kit_.store->Epoch().value(), kit_.authorizer, streams_, *kit_.index,
                                     *kit_.store, kit_.clock, kit_.metrics});
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    server_ = builder.BuildAndStart();
    stub_ = v1::AgentSync::NewStub(server_->InProcessChannel({}));
  }
  // A stream that was forgotten would hang here.
  ~AgentSyncServiceTest() override {
    streams_.FinishAll(absl::UnavailableError("test ends"));
    server_->Shutdown();
  }

  // An agent's end of a stream, by blocking calls.
  struct Client {
    explicit Client(v1::AgentSync::Stub& stub) {
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
      stream = stub.Sync(&context);
    }
    ~Client() {
      if (stream == nullptr) return;
      context.TryCancel();
      (void)stream->Finish();
    }
    void Hello(absl::string_view version = "1.2.3") {
      v1::AgentMessage message;
      message.mutable_hello()->set_agent_version(std::string(version));
      stream->Write(message);
    }
    void Ack(uint64_t position) {
      v1::AgentMessage message;
      message.mutable_ack()->set_seq(position);
      stream->Write(message);
    }
    // Answers a list by wanting all of it. Nullopt at the end of the stream.
    std::optional<v1::ServerMessage> Read() {
      v1::ServerMessage message;
      if (!stream->Read(&message)) return std::nullopt;
      if (message.has_revisions()) {
        v1::AgentMessage want;
        for (const auto& entry : message.revisions().entries()) want.mutable_want()->add_entry_ids(entry.id());
        want.mutable_want()->set_last(message.revisions().last());
        stream->Write(want);
      }
      for (const auto& entry : message.delta().upserts()) entries[entry.id()] = entry.revision_number();
      for (const auto& id : message.delta().removed_ids()) entries.erase(id);
      bundles += static_cast<size_t>(message.delta().bundles_size());
      seq = std::max(seq, message.seq());
      return message;
    }
    bool ReachesComplete() {
      while (const auto message = Read()) {
        if (message->has_complete()) return true;
      }
      return false;
    }
    void ReadUntilComplete() { ASSERT_TRUE(ReachesComplete()) << "stream ended before complete"; }
    absl::Status End() { return FromGrpc(std::exchange(stream, nullptr)->Finish()); }

    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<v1::AgentMessage, v1::ServerMessage>> stream;
    std::map<std::string, int64_t> entries;
    size_t bundles = 0;
    uint64_t seq = 0;
  };

  ApiKit kit_;
  StreamRegistry streams_{kit_.authorizer, kit_.callers, *kit_.index, kit_.system_clock};
  std::unique_ptr<grpc::Service> service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::AgentSync::Stub> stub_;
};

TEST_F(AgentSyncServiceTest, BringsAnAgentUpToDateThenPushesEachChange) {
  const std::string first = kit_.Create(EntryOf("/first")).id;
  Client agent(*stub_);
  agent.Hello();
  agent.ReadUntilComplete();
  EXPECT_THAT(agent.entries, ::testing::ElementsAre(::testing::Pair(first, 0)));
  EXPECT_EQ(agent.bundles, 1u);
  EXPECT_EQ(kit_.metrics.sync_streams.value(), 1);

  const std::string second = kit_.Create(EntryOf("/second")).id;
  auto message = agent.Read();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->delta().upserts(0).id(), second);
  ASSERT_TRUE(testing::Await<std::vector<absl::Status>>([&](auto done) {
                kit_.store->DeleteEntries({first}, std::move(done));
              }).ok());
  message = agent.Read();
  EXPECT_THAT(message->delta().removed_ids(), ::testing::ElementsAre(first));
  EXPECT_EQ(message->seq(), kit_.store->LastSeq().value());
  agent.Ack(message->seq());

  // The acknowledgement is counted, the version kept.
  while (kit_.registry.Text().find("signet_propagation_seconds_count 2") == std::string::npos)
    std::this_thread::yield();
  EXPECT_EQ(kit_.store->GetAgent(kAgent).value().agent_version, "1.2.3");
}

TEST_F(AgentSyncServiceTest, MergesForASlowReader) {
  Client agent(*stub_);
  agent.Hello();
  agent.ReadUntilComplete();
  spiffe::Entry entry = kit_.Create(EntryOf("/busy"));
  const std::string gone = kit_.Create(EntryOf("/gone")).id;
  for (int i = 0; i < 300; ++i) {
    entry.hint = std::string(1000, static_cast<char>('a' + i % 26));
    ASSERT_TRUE(testing::Await<std::vector<EntryResult>>([&](auto done) {
                  kit_.store->UpdateEntries({entry}, {}, std::move(done));
                }).ok());
  }
  ASSERT_TRUE(testing::Await<std::vector<absl::Status>>([&](auto done) {
                kit_.store->DeleteEntries({gone}, std::move(done));
              }).ok());
  kit_.CatchUp();
  const uint64_t last = kit_.store->LastSeq().value();
  int messages = 0;
  while (agent.seq < last) {
    ASSERT_TRUE(agent.Read().has_value());
    ++messages;
  }
  EXPECT_THAT(agent.entries, ::testing::ElementsAre(::testing::Pair(entry.id, 300)));
  EXPECT_LT(messages, 300);
}

TEST_F(AgentSyncServiceTest, ABannedAgentIsToldAndCutOff) {
  Client agent(*stub_);
  agent.Hello();
  agent.ReadUntilComplete();
  kit_.Ban(kAgent);
  std::optional<v1::ServerMessage> message = agent.Read();
  while (message.has_value() && !message->has_notice()) message = agent.Read();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->notice().kind(), v1::Notice::KIND_BANNED);
  EXPECT_FALSE(agent.Read().has_value());
  EXPECT_THAT(agent.End(), testing::StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(AgentSyncServiceTest, AnEvictedAgentIsToldAndCutOff) {
  Client agent(*stub_);
  agent.Hello();
  agent.ReadUntilComplete();
  kit_.Delete(kAgent);
  std::optional<v1::ServerMessage> message = agent.Read();
  while (message.has_value() && !message->has_notice()) message = agent.Read();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->notice().kind(), v1::Notice::KIND_EVICTED);
  EXPECT_FALSE(agent.Read().has_value());
  EXPECT_THAT(agent.End(), testing::StatusIs(absl::StatusCode::kPermissionDenied));
}

// Over TCP, with more to send than flow control lets through unread.
TEST_F(AgentSyncServiceTest, ABannedAgentThatDoesNotReadIsCutOffToo) {
  grpc::ChannelArguments small_window;
  small_window.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  small_window.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65'535);
  auto over_tcp = v1::AgentSync::NewStub(
      grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port_), grpc::InsecureChannelCredentials(), small_window));
  Client agent(*over_tcp);
  agent.Hello();
  agent.ReadUntilComplete();
  for (int i = 0; i < 8; ++i) {
    spiffe::Entry entry = EntryOf(absl::StrCat("/large/", i));
    for (int s = 0; s < 100; ++s) entry.selectors.push_back({"x", absl::StrCat(s, std::string(4000, 'y'))});
    spiffe::Normalize(entry.selectors);
    kit_.Create(entry);
  }
  const absl::Time start = absl::Now();
  kit_.Ban(kAgent);
  while (kit_.metrics.sync_streams.value() > 0) std::this_thread::yield();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));  // well before the client's own deadline
}

TEST_F(AgentSyncServiceTest, AtShutdownAgentsAreSentAway) {
  Client agent(*stub_);
  agent.Hello();
  agent.ReadUntilComplete();
  streams_.FinishAll(absl::UnavailableError("server stops"));
  const auto message = agent.Read();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->notice().kind(), v1::Notice::KIND_GO_AWAY);
  EXPECT_FALSE(agent.Read().has_value());
  EXPECT_THAT(agent.End(), testing::StatusIs(absl::StatusCode::kUnavailable));
}

TEST_F(AgentSyncServiceTest, OnlyAnAgentMayOpenIt) {
  for (const CallerPtr& caller : {std::make_shared<const Caller>(), LocalCaller(), TlsCaller(IdOf("/workload")),
                                  TlsCaller(IdOf("/spire/agent/join_token/other"))}) {
    kit_.callers.caller = caller;
    Client client(*stub_);
    client.Hello();
    EXPECT_FALSE(client.Read().has_value());
    EXPECT_THAT(client.End(), ::testing::AnyOf(testing::StatusIs(absl::StatusCode::kPermissionDenied),
                                               testing::StatusIs(absl::StatusCode::kUnauthenticated)));
  }
}

TEST_F(AgentSyncServiceTest, AnAgentHoldsFewStreams) {
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<Client>(*stub_));
    clients.back()->Hello();
    clients.back()->ReadUntilComplete();
  }
  Client ninth(*stub_);
  ninth.Hello();
  EXPECT_FALSE(ninth.Read().has_value());
  EXPECT_THAT(ninth.End(), testing::StatusIs(absl::StatusCode::kResourceExhausted));
  clients.clear();
  while (kit_.metrics.sync_streams.value() > 0) std::this_thread::yield();
}

TEST_F(AgentSyncServiceTest, EndsAStreamThatBreaksTheProtocol) {
  Client agent(*stub_);
  agent.Ack(1);
  EXPECT_FALSE(agent.Read().has_value());
  EXPECT_THAT(agent.End(), testing::StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(AgentSyncServiceTest, ManyAgentsComeAndGoWhileThingsChange) {
  std::atomic<bool> stop = false;
  std::thread operator_thread([&] {
    for (int i = 0; !stop; ++i) {
      const auto results = testing::CreateEntries(*kit_.store, {EntryOf(absl::StrCat("/", i))}, kit_.clock.Now());
      (void)testing::Await<std::vector<absl::Status>>(
          [&](auto done) { kit_.store->DeleteEntries({results->front().record->id}, std::move(done)); });
    }
  });
  std::vector<std::thread> agents;
  for (int t = 0; t < 3; ++t) {
    agents.emplace_back([&] {
      for (int completed = 0; completed < 20;) {
        Client agent(*stub_);
        agent.Hello();
        if (!agent.ReachesComplete()) {  // those that were left are not gone yet, and one agent may have only so many
          ASSERT_THAT(agent.End(), testing::StatusIs(absl::StatusCode::kResourceExhausted));
          continue;
        }
        ++completed;
        for (int read = 0; read < 3; ++read) ASSERT_TRUE(agent.Read().has_value());
      }
    });
  }
  for (std::thread& agent : agents) agent.join();
  stop = true;
  operator_thread.join();
}

}  // namespace
}  // namespace signet::server
