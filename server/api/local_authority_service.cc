#include "server/api/local_authority_service.h"

#include "spire/api/server/localauthority/v1/localauthority.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::localauthority::v1;

class LocalAuthorityService final : public v1::LocalAuthority::CallbackService {
 public:
  explicit LocalAuthorityService(Calls& calls) : calls_(calls) {}

#define SIGNET_LATER(Name)                                                                                            \
  grpc::ServerUnaryReactor* Name(grpc::CallbackServerContext* context, const v1::Name##Request*, v1::Name##Response*) \
      override {                                                                                                      \
    return calls_.Unimplemented(context, Method::k##Name);                                                            \
  }
  SIGNET_LATER(GetJWTAuthorityState)
  SIGNET_LATER(PrepareJWTAuthority)
  SIGNET_LATER(ActivateJWTAuthority)
  SIGNET_LATER(TaintJWTAuthority)
  SIGNET_LATER(RevokeJWTAuthority)
  SIGNET_LATER(GetX509AuthorityState)
  SIGNET_LATER(PrepareX509Authority)
  SIGNET_LATER(ActivateX509Authority)
  SIGNET_LATER(TaintX509Authority)
  SIGNET_LATER(TaintX509UpstreamAuthority)
  SIGNET_LATER(RevokeX509Authority)
  SIGNET_LATER(RevokeX509UpstreamAuthority)
  SIGNET_LATER(GetWITAuthorityState)
  SIGNET_LATER(PrepareWITAuthority)
  SIGNET_LATER(ActivateWITAuthority)
  SIGNET_LATER(TaintWITAuthority)
  SIGNET_LATER(RevokeWITAuthority)
#undef SIGNET_LATER

 private:
  Calls& calls_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeLocalAuthorityService(Calls& calls) {
  return std::make_unique<LocalAuthorityService>(calls);
}

}  // namespace signet::server
