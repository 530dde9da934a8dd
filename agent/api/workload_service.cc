#include "agent/api/workload_service.h"

#include <utility>

#include "agent/api/jwt_calls.h"
#include "agent/api/update_stream.h"
#include "agent/api/workload_caller.h"
#include "agent/api/workload_messages.h"
#include "common/status/grpc_status.h"
#include "spiffe/workload/workload.grpc.pb.h"

namespace signet::agent {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
template <typename T>
using Writer = grpc::ServerWriteReactor<T>;

// The streams are raw: their messages are serialised once and shared, and their requests have no fields. WIT is not
// served (WIT-18), but asks for the header, too.
using Base =
    SpiffeWorkloadAPI::WithRawCallbackMethod_FetchX509SVID<SpiffeWorkloadAPI::WithRawCallbackMethod_FetchX509Bundles<
        SpiffeWorkloadAPI::WithRawCallbackMethod_FetchJWTBundles<SpiffeWorkloadAPI::WithCallbackMethod_FetchJWTSVID<
            SpiffeWorkloadAPI::WithCallbackMethod_ValidateJWTSVID<SpiffeWorkloadAPI::WithRawCallbackMethod_FetchWITSVID<
                SpiffeWorkloadAPI::WithRawCallbackMethod_FetchWITBundles<SpiffeWorkloadAPI::Service>>>>>>>;

class WorkloadService final : public Base {
 public:
  explicit WorkloadService(WorkloadServiceDeps deps)
      : callers_(std::move(deps)),
        x509_svids_([](const UpdatePtr& update) { return SharedMessage(update, &update->x509_response); }),
        x509_bundles_(RememberLast(EncodeX509Bundles)),
        jwt_bundles_(RememberLast(EncodeJwtBundles)) {}

  Writer<ByteBuffer>* FetchX509SVID(CallbackServerContext* context, const ByteBuffer*) override {
    return UpdateStream::Open(callers_, x509_svids_, *context);
  }
  Writer<ByteBuffer>* FetchX509Bundles(CallbackServerContext* context, const ByteBuffer*) override {
    return UpdateStream::Open(callers_, x509_bundles_, *context);
  }
  Writer<ByteBuffer>* FetchJWTBundles(CallbackServerContext* context, const ByteBuffer*) override {
    return UpdateStream::Open(callers_, jwt_bundles_, *context);
  }
  Writer<ByteBuffer>* FetchWITSVID(CallbackServerContext* context, const ByteBuffer*) override {
    return UpdateStream::NotServed(*context);
  }
  Writer<ByteBuffer>* FetchWITBundles(CallbackServerContext* context, const ByteBuffer*) override {
    return UpdateStream::NotServed(*context);
  }

  grpc::ServerUnaryReactor* FetchJWTSVID(CallbackServerContext* context, const JWTSVIDRequest* request,
                                         JWTSVIDResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    FetchJwtSvid(callers_, *context, *request, response,
                 [reactor](const absl::Status& s) { reactor->Finish(ToGrpc(s)); });
    return reactor;
  }
  grpc::ServerUnaryReactor* ValidateJWTSVID(CallbackServerContext* context, const ValidateJWTSVIDRequest* request,
                                            ValidateJWTSVIDResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    ValidateJwtSvid(callers_, *context, *request, response,
                    [reactor](const absl::Status& s) { reactor->Finish(ToGrpc(s)); });
    return reactor;
  }

 private:
  WorkloadCallers callers_;
  const Encoder x509_svids_, x509_bundles_, jwt_bundles_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeWorkloadService(WorkloadServiceDeps deps) {
  return std::make_unique<WorkloadService>(std::move(deps));
}

}  // namespace signet::agent
