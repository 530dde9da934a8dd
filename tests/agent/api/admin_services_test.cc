#include "agent/api/admin_services.h"

#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "common/log/log.h"
#include "spire/api/agent/debug/v1/debug.grpc.pb.h"
#include "spire/api/agent/logger/v1/logger.grpc.pb.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_svid_cache.h"
#include "tests/testing/test_ca.h"

namespace signet::agent {
namespace {

namespace debug = ::spire::agent::debug::v1;
namespace logger = ::spire::api::agent::logger::v1;
using ::spire::api::types::LogLevel;

class AdminServicesTest : public ::testing::Test {
 protected:
  void Serve(std::unique_ptr<grpc::Service> service) {
    service_ = std::move(service);
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    channel_ = server_->InProcessChannel({});
  }
  fakes::FakeClock clock_;
  fakes::FakeSvidCache cache_{*spiffe::TrustDomain::Parse("td")};
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(AdminServicesTest, TellsTheStateOfTheAgent) {
  auto ca = signet::testing::SelfSigned(signet::testing::CaTemplate("root", clock_.Now()));
  auto leaf = signet::testing::IssuedBy(
      ca, signet::testing::LeafTemplate("spiffe://td/spire/agent/join_token/x", clock_.Now()));
  std::vector<crypto::Certificate> chain;
  Serve(MakeDebugService({.cache = cache_, .clock = clock_, .agent_svid = [&] { return chain; }}));
  auto stub = debug::Debug::NewStub(channel_);
  auto get = [&] {
    grpc::ClientContext context;
    debug::GetInfoResponse response;
    EXPECT_TRUE(stub->GetInfo(&context, {}, &response).ok());
    return response;
  };
  EXPECT_EQ(get().svid_chain_size(), 0);
  EXPECT_EQ(get().last_sync_success(), 0);

  chain = {leaf.certificate, ca.certificate};
  cache_.SetSvid("e1", "svid");
  clock_.Advance(absl::Seconds(90));
  debug::GetInfoResponse info = get();
  ASSERT_EQ(info.svid_chain_size(), 2);
  EXPECT_EQ(info.svid_chain(0).id().trust_domain(), "td");
  EXPECT_EQ(info.svid_chain(0).id().path(), "/spire/agent/join_token/x");
  EXPECT_EQ(info.svid_chain(0).expires_at(), absl::ToUnixSeconds(leaf.certificate.not_after()));
  EXPECT_FALSE(info.svid_chain(1).has_id());
  EXPECT_EQ(info.uptime(), 90);
  EXPECT_EQ(info.svids_count(), 1);
  EXPECT_EQ(info.cached_x509_svids_count(), 1);
}

TEST_F(AdminServicesTest, ChangesTheLogLevelAndBack) {
  Serve(MakeLoggerService());
  auto stub = logger::Logger::NewStub(channel_);
  spire::api::types::Logger state;
  auto get = [&] {
    grpc::ClientContext context;
    EXPECT_TRUE(stub->GetLogger(&context, {}, &state).ok());
    return state.current_level();
  };
  auto set = [&](LogLevel level) {
    grpc::ClientContext context;
    logger::SetLogLevelRequest request;
    request.set_new_level(level);
    return stub->SetLogLevel(&context, request, &state).error_code();
  };
  const LogLevel launch = get();
  EXPECT_EQ(state.launch_level(), launch);
  for (LogLevel level : {LogLevel::TRACE, LogLevel::DEBUG, LogLevel::INFO, LogLevel::WARN, LogLevel::ERROR}) {
    EXPECT_EQ(set(level), grpc::StatusCode::OK);
    EXPECT_EQ(get(), level);
  }
  EXPECT_EQ(set(LogLevel::UNSPECIFIED), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(set(static_cast<LogLevel>(99)), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(get(), LogLevel::ERROR);
  grpc::ClientContext context;
  EXPECT_TRUE(stub->ResetLogLevel(&context, {}, &state).ok());
  EXPECT_EQ(get(), launch);
}

}  // namespace
}  // namespace signet::agent
