#include "server/api/trust_domain_service.h"

#include "spire/api/server/trustdomain/v1/trustdomain.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::trustdomain::v1;
namespace wire = ::spire::api::types;

class TrustDomainService final : public v1::TrustDomain::CallbackService {
 public:
  explicit TrustDomainService(Calls& calls) : calls_(calls) {}

#define SIGNET_LATER(Name, Response)                                                                                   \
  grpc::ServerUnaryReactor* Name(grpc::CallbackServerContext* context, const v1::Name##Request*, Response*) override { \
    return calls_.Unimplemented(context, Method::k##Name);                                                             \
  }
  SIGNET_LATER(ListFederationRelationships, v1::ListFederationRelationshipsResponse)
  SIGNET_LATER(GetFederationRelationship, wire::FederationRelationship)
  SIGNET_LATER(BatchCreateFederationRelationship, v1::BatchCreateFederationRelationshipResponse)
  SIGNET_LATER(BatchUpdateFederationRelationship, v1::BatchUpdateFederationRelationshipResponse)
  SIGNET_LATER(BatchDeleteFederationRelationship, v1::BatchDeleteFederationRelationshipResponse)
  SIGNET_LATER(RefreshBundle, google::protobuf::Empty)
#undef SIGNET_LATER

 private:
  Calls& calls_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeTrustDomainService(Calls& calls) {
  return std::make_unique<TrustDomainService>(calls);
}

}  // namespace signet::server
