#include "server/token/administration_service.h"

#include <utility>

#include "signet/server/token/v1/token.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = token::v1;
using google::protobuf::Empty;

class AdministrationService final : public v1::Administration::CallbackService {
 public:
  AdministrationService(Calls& calls, Administration* administration)
      : calls_(calls), administration_(administration) {}

#define SIGNET_ADMINISTER(Name, Request, Response)                                                                 \
  grpc::ServerUnaryReactor* Name(grpc::CallbackServerContext* context, const Request* request, Response* response) \
      override {                                                                                                   \
    return Administer(context, Method::kToken##Name, #Name, *request, response);                                   \
  }
  SIGNET_ADMINISTER(CreateIdentity, v1::Identity, v1::Identity)
  SIGNET_ADMINISTER(UpdateIdentity, v1::Identity, v1::Identity)
  SIGNET_ADMINISTER(GetIdentity, v1::GetRequest, v1::Identity)
  SIGNET_ADMINISTER(ListIdentities, v1::ListRequest, v1::ListIdentitiesResponse)
  SIGNET_ADMINISTER(SetIdentityState, v1::SetIdentityStateRequest, v1::Identity)
  SIGNET_ADMINISTER(PutIssuer, v1::Issuer, v1::Issuer)
  SIGNET_ADMINISTER(GetIssuer, v1::GetRequest, v1::Issuer)
  SIGNET_ADMINISTER(DeleteIssuer, v1::GetRequest, Empty)
  SIGNET_ADMINISTER(ListIssuers, v1::ListRequest, v1::ListIssuersResponse)
  SIGNET_ADMINISTER(PutResource, v1::Resource, v1::Resource)
  SIGNET_ADMINISTER(GetResource, v1::GetRequest, v1::Resource)
  SIGNET_ADMINISTER(DeleteResource, v1::GetRequest, Empty)
  SIGNET_ADMINISTER(ListResources, v1::ListRequest, v1::ListResourcesResponse)
  SIGNET_ADMINISTER(CreateGrant, v1::Grant, v1::Grant)
  SIGNET_ADMINISTER(GetGrant, v1::GetRequest, v1::Grant)
  SIGNET_ADMINISTER(ListGrants, v1::ListRequest, v1::ListGrantsResponse)
  SIGNET_ADMINISTER(CreateTask, v1::Task, v1::Task)
  SIGNET_ADMINISTER(GetTask, v1::GetRequest, v1::Task)
  SIGNET_ADMINISTER(CloseTask, v1::GetRequest, v1::Task)
  SIGNET_ADMINISTER(ListTasks, v1::ListRequest, v1::ListTasksResponse)
  SIGNET_ADMINISTER(PutUserRights, v1::UserRights, v1::UserRights)
  SIGNET_ADMINISTER(ListUserRights, v1::ListRequest, v1::ListUserRightsResponse)
  SIGNET_ADMINISTER(Revoke, v1::RevokeRequest, v1::Revocation)
  SIGNET_ADMINISTER(Reinstate, v1::RevokeRequest, v1::Revocation)
  SIGNET_ADMINISTER(ListRevocations, v1::ListRequest, v1::ListRevocationsResponse)
  SIGNET_ADMINISTER(ListSigningKeys, Empty, v1::ListSigningKeysResponse)
  SIGNET_ADMINISTER(PrepareSigningKey, Empty, v1::SigningKey)
  SIGNET_ADMINISTER(ActivateSigningKey, v1::GetRequest, v1::SigningKey)
  SIGNET_ADMINISTER(RotateSigningKey, Empty, v1::SigningKey)
  SIGNET_ADMINISTER(GetChain, v1::GetRequest, v1::Chain)
  SIGNET_ADMINISTER(ListAudit, v1::ListAuditRequest, v1::ListAuditResponse)
  SIGNET_ADMINISTER(VerifyAudit, v1::VerifyAuditRequest, v1::VerifyAuditResponse)
  SIGNET_ADMINISTER(ListAlerts, v1::ListRequest, v1::ListAlertsResponse)
  SIGNET_ADMINISTER(Explain, v1::ExplainRequest, v1::ExplainResponse)
#undef SIGNET_ADMINISTER

 private:
  grpc::ServerUnaryReactor* Administer(grpc::CallbackServerContext* context, Method method, absl::string_view name,
                                       const google::protobuf::Message& request, google::protobuf::Message* response) {
    return calls_.Async(context, method, [this, name, &request, response](const CallerPtr& caller, Reply reply) {
      if (administration_ == nullptr) {
        return reply.Send(absl::UnimplementedError("the token service is off: set token_service and restart"));
      }
      administration_->Call(name, {.name = caller->ToString(), .administrator = true}, request, response,
                            [reply = std::move(reply)](absl::Status status) mutable { reply.Send(status); });
    });
  }

  Calls& calls_;
  Administration* const administration_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeAdministrationService(Calls& calls, Administration* administration) {
  return std::make_unique<AdministrationService>(calls, administration);
}

}  // namespace signet::server
