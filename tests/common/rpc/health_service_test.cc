#include "common/rpc/health_service.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "common/rpc/reflection_service.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"

namespace signet::rpc {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// Both services on one in-process server; callers without the metadata "who: operator" are refused.
class PublicServicesTest : public ::testing::Test {
 protected:
  PublicServicesTest() {
    const Authorise operators = [](const grpc::CallbackServerContext& context) {
      const auto it = context.client_metadata().find("who");
      if (it != context.client_metadata().end() && it->second == "operator") return absl::OkStatus();
      return absl::PermissionDeniedError("operators only");
    };
    services_.push_back(MakeHealthService(health_, {"a.B"}, operators));
    services_.push_back(MakeReflectionService({"grpc.health.v1.Health"}, operators));
    services_.push_back(MakeReflectionV1AlphaService({"grpc.health.v1.Health"}, operators));
    grpc::ServerBuilder builder;
    for (const auto& service : services_) builder.RegisterService(service.get());
    server_ = builder.BuildAndStart();
    channel_ = server_->InProcessChannel({});
  }
  ~PublicServicesTest() override { server_->Shutdown(std::chrono::system_clock::now()); }

  static std::unique_ptr<grpc::ClientContext> Operator() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->AddMetadata("who", "operator");
    return context;
  }

  telemetry::Health health_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(PublicServicesTest, ChecksTheDaemonAndItsServices) {
  const auto stub = Health::NewStub(channel_);
  HealthCheckRequest request;
  HealthCheckResponse response;
  health_.SetUnready("sync", "server away");
  ASSERT_TRUE(stub->Check(Operator().get(), request, &response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  health_.SetReady("sync");
  request.set_service("a.B");
  ASSERT_TRUE(stub->Check(Operator().get(), request, &response).ok());
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  request.set_service("a.C");
  EXPECT_EQ(stub->Check(Operator().get(), request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  grpc::health::v1::HealthListResponse list;
  ASSERT_TRUE(stub->List(Operator().get(), {}, &list).ok());
  EXPECT_EQ(list.statuses_size(), 2);
}

TEST_F(PublicServicesTest, WatchTellsEachChange) {
  const auto stub = Health::NewStub(channel_);
  const auto context = Operator();
  HealthCheckResponse response;
  const auto stream = stub->Watch(context.get(), {});
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  health_.SetUnready("sync", "server away");
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  health_.SetReady("sync");
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  context->TryCancel();
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(PublicServicesTest, WatchOfAnUnknownServiceStays) {
  const auto stub = Health::NewStub(channel_);
  const auto context = Operator();
  HealthCheckRequest request;
  request.set_service("a.C");
  HealthCheckResponse response;
  const auto stream = stub->Watch(context.get(), request);
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  context->TryCancel();
  stream->Finish();
}

TEST_F(PublicServicesTest, AnOpenWatchDoesNotHoldUpShutdown) {
  const auto stub = Health::NewStub(channel_);
  const auto context = Operator();
  HealthCheckResponse response;
  const auto stream = stub->Watch(context.get(), {});
  ASSERT_TRUE(stream->Read(&response));
  server_->Shutdown(std::chrono::system_clock::now());
  EXPECT_FALSE(stream->Finish().ok());
}

TEST_F(PublicServicesTest, RefusesWhoTheHookRefuses) {
  grpc::ClientContext check, watch, reflect, reflect_alpha;
  HealthCheckResponse response;
  EXPECT_EQ(Health::NewStub(channel_)->Check(&check, {}, &response).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Health::NewStub(channel_)->Watch(&watch, {})->Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(
      grpc::reflection::v1::ServerReflection::NewStub(channel_)->ServerReflectionInfo(&reflect)->Finish().error_code(),
      grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(grpc::reflection::v1alpha::ServerReflection::NewStub(channel_)
                ->ServerReflectionInfo(&reflect_alpha)
                ->Finish()
                .error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
}

template <typename Stub, typename Request, typename Response>
void AskReflection(Stub& stub, std::unique_ptr<grpc::ClientContext> context) {
  const auto stream = stub.ServerReflectionInfo(context.get());
  Request request;
  Response response;
  request.set_list_services("");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  ASSERT_EQ(response.list_services_response().service_size(), 1);
  EXPECT_EQ(response.list_services_response().service(0).name(), "grpc.health.v1.Health");

  request.set_file_containing_symbol("grpc.health.v1.Health");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  ASSERT_EQ(response.file_descriptor_response().file_descriptor_proto_size(), 1);
  google::protobuf::FileDescriptorProto file;
  ASSERT_TRUE(file.ParseFromString(response.file_descriptor_response().file_descriptor_proto(0)));
  EXPECT_EQ(file.name(), "grpc/health/v1/health.proto");

  request.set_file_by_filename("no/such.proto");
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(response.original_request().file_by_filename(), "no/such.proto");

  request.Clear();
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  EXPECT_EQ(response.error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(PublicServicesTest, ReflectsItsServicesInBothVersions) {
  namespace v1 = grpc::reflection::v1;
  namespace v1alpha = grpc::reflection::v1alpha;
  AskReflection<v1::ServerReflection::Stub, v1::ServerReflectionRequest, v1::ServerReflectionResponse>(
      *v1::ServerReflection::NewStub(channel_), Operator());
  AskReflection<v1alpha::ServerReflection::Stub, v1alpha::ServerReflectionRequest, v1alpha::ServerReflectionResponse>(
      *v1alpha::ServerReflection::NewStub(channel_), Operator());
}

}  // namespace
}  // namespace signet::rpc
