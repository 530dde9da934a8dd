// The agent as a whole, over its real sockets, with a server in memory.
#include "agent/agent.h"

#include <gmock/gmock.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/config.h"
#include "common/fs/atomic_file.h"
#include "common/rpc/client_channel.h"
#include "spiffe/workload/workload.grpc.pb.h"
#include "tests/agent/sync/agent_kit.h"
#include "tests/fakes/fake_server_client.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace signet::agent {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

class Evidence final : public NodeAttestor {
 public:
  absl::string_view type() const override { return "test"; }
  absl::StatusOr<std::string> Payload() override { return "evidence"; }
  absl::StatusOr<std::string> Respond(absl::string_view) override { return absl::FailedPreconditionError("none"); }
};

class AgentTest : public ::testing::Test {
 protected:
  AgentOptions Options() {
    config::Agent config;
    config.set_trust_domain("example.org");
    config.set_data_dir(dir_.file("data"));
    config.add_server_address("127.0.0.1:1");
    config.set_workload_socket(dir_.file("workload/api.sock"));
    config.set_admin_socket(dir_.file("admin/admin.sock"));
    config.mutable_http()->set_listen("127.0.0.1:0");
    config.mutable_bootstrap()->set_insecure(true);
    return OptionsFromConfig(config).value();
  }
  absl::StatusOr<std::unique_ptr<Agent>> Start(std::unique_ptr<fakes::FakeServerClient> server) {
    AgentDeps deps;
    deps.client = std::move(server);
    deps.node_attestor = std::make_unique<Evidence>();
    deps.on_fatal = [this](absl::Status) { fatal_ = true; };
    return Agent::Create(Options(), std::move(deps));
  }
  std::unique_ptr<fakes::FakeServerClient> Server(bool away = false) {
    auto server = std::make_unique<fakes::FakeServerClient>(clock_);
    server->Put(EntryOf("me", {absl::StrCat("unix:uid:", getuid())}));
    server->SetAway(away);
    return server;
  }
  // The first message of FetchX509SVID, asked for until it comes or `deadline` has passed.
  absl::StatusOr<X509SVIDResponse> Fetch(absl::Duration deadline) {
    const auto channel = rpc::MakeUnixChannel(dir_.file("workload/api.sock"));
    const auto stub = SpiffeWorkloadAPI::NewStub(channel);
    const absl::Time end = absl::Now() + deadline;
    grpc::Status status;
    do {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(end));
      context.AddMetadata("workload.spiffe.io", "true");
      auto stream = stub->FetchX509SVID(&context, X509SVIDRequest());
      X509SVIDResponse response;
      if (stream->Read(&response)) {
        context.TryCancel();
        stream->Finish();
        return response;
      }
      status = stream->Finish();
      std::this_thread::yield();
    } while (absl::Now() < end);
    return absl::UnavailableError(status.error_message());
  }

  testing::TempDir dir_;
  SystemClock clock_;
  std::atomic<bool> fatal_ = false;
};

TEST_F(AgentTest, ServesAnSvidOverItsSocketAndSaysWhere) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Agent> agent, Start(Server()));
  SIGNET_ASSERT_OK_AND_ASSIGN(const X509SVIDResponse response, Fetch(absl::Seconds(20)));
  EXPECT_EQ(response.svids(0).spiffe_id(), "spiffe://example.org/me");
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::string addresses, fs::ReadFile(dir_.file("data/addresses.json"), 4096));
  EXPECT_THAT(addresses, HasSubstr(agent->addresses().http));
  EXPECT_FALSE(absl::EndsWith(agent->addresses().http, ":0"));
  agent->Shutdown();
  agent->Shutdown();
  EXPECT_FALSE(std::filesystem::exists(dir_.file("workload/api.sock")));
}

TEST_F(AgentTest, RestartedWithoutAServerItServesTheSameSvid) {
  std::string chain;
  {
    SIGNET_ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Agent> agent, Start(Server()));
    SIGNET_ASSERT_OK_AND_ASSIGN(const X509SVIDResponse response, Fetch(absl::Seconds(20)));
    chain = response.svids(0).x509_svid();
    agent->Shutdown();
  }
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Agent> agent, Start(Server(/*away=*/true)));
  SIGNET_ASSERT_OK_AND_ASSIGN(const X509SVIDResponse response, Fetch(absl::Seconds(20)));
  EXPECT_EQ(response.svids(0).x509_svid(), chain);
}

TEST_F(AgentTest, TwoAgentsNeverShareAFolder) {
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Agent> agent, Start(Server()));
  EXPECT_THAT(Start(Server()), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(AgentTest, RefusedAttestationIsReported) {
  auto server = Server();
  server->RefuseEvidence(absl::PermissionDeniedError("unknown token"));
  SIGNET_ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Agent> agent, Start(std::move(server)));
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (!fatal_ && absl::Now() < end) std::this_thread::yield();
  EXPECT_TRUE(fatal_);
}

}  // namespace
}  // namespace signet::agent
