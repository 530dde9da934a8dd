#include "server/api/bundle_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/server/bundle/v1/bundle.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::bundle::v1;
namespace wire = ::spire::api::types;

template <typename Request>
void Fill(const spiffe::Bundle& bundle, const Request& request, wire::Bundle& out) {
  spiffe::ToWire(bundle, &out);
  if (request.has_output_mask()) spiffe::ApplyMask(request.output_mask(), &out);
}

class BundleService final : public v1::Bundle::CallbackService {
 public:
  explicit BundleService(BundleServiceDeps deps) : d_(std::move(deps)) {}

  grpc::ServerUnaryReactor* GetBundle(grpc::CallbackServerContext* context, const v1::GetBundleRequest* request,
                                      wire::Bundle* response) override {
    return d_.calls.Inline(context, Method::kGetBundle, [=, this](const CallerPtr&) -> absl::Status {
      const BundlePtr bundle = d_.index.FindBundle(d_.trust_domain);
      if (bundle == nullptr) return absl::NotFoundError("bundle not found");
      Fill(*bundle, *request, *response);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* GetFederatedBundle(grpc::CallbackServerContext* context,
                                               const v1::GetFederatedBundleRequest* request,
                                               wire::Bundle* response) override {
    return d_.calls.Inline(context, Method::kGetFederatedBundle, [=, this](const CallerPtr&) -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(const spiffe::TrustDomain name,
                              spiffe::TrustDomain::ParseNameOrId(request->trust_domain()), "trust_domain");
      if (name == d_.trust_domain) {
        return absl::InvalidArgumentError("trust_domain: is the server's own; its bundle is had by GetBundle");
      }
      const BundlePtr bundle = d_.index.FindBundle(name);
      if (bundle == nullptr)
        return absl::NotFoundError(absl::StrCat("no bundle of trust domain \"", name.name(), "\""));
      Fill(*bundle, *request, *response);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* CountBundles(grpc::CallbackServerContext* context, const v1::CountBundlesRequest*,
                                         v1::CountBundlesResponse* response) override {
    return d_.calls.Blocking(context, Method::kCountBundles, [=, this](const CallerPtr&) -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(const std::vector<spiffe::Bundle> bundles, d_.bundles.ListBundles());
      response->set_count(static_cast<int32_t>(bundles.size()));
      return absl::OkStatus();
    });
  }

#define SIGNET_LATER(Name)                                                                                          \
  grpc::ServerUnaryReactor* Name(grpc::CallbackServerContext* context, const v1::Name##Request*, ResponseOf##Name*) \
      override {                                                                                                    \
    return d_.calls.Unimplemented(context, Method::k##Name);                                                        \
  }
  using ResponseOfAppendBundle = wire::Bundle;
  using ResponseOfPublishJWTAuthority = v1::PublishJWTAuthorityResponse;
  using ResponseOfPublishWITAuthority = v1::PublishWITAuthorityResponse;
  using ResponseOfListFederatedBundles = v1::ListFederatedBundlesResponse;
  using ResponseOfBatchCreateFederatedBundle = v1::BatchCreateFederatedBundleResponse;
  using ResponseOfBatchUpdateFederatedBundle = v1::BatchUpdateFederatedBundleResponse;
  using ResponseOfBatchSetFederatedBundle = v1::BatchSetFederatedBundleResponse;
  using ResponseOfBatchDeleteFederatedBundle = v1::BatchDeleteFederatedBundleResponse;
  SIGNET_LATER(AppendBundle)
  SIGNET_LATER(PublishJWTAuthority)
  SIGNET_LATER(PublishWITAuthority)
  SIGNET_LATER(ListFederatedBundles)
  SIGNET_LATER(BatchCreateFederatedBundle)
  SIGNET_LATER(BatchUpdateFederatedBundle)
  SIGNET_LATER(BatchSetFederatedBundle)
  SIGNET_LATER(BatchDeleteFederatedBundle)
#undef SIGNET_LATER

 private:
  const BundleServiceDeps d_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeBundleService(BundleServiceDeps deps) {
  return std::make_unique<BundleService>(std::move(deps));
}

}  // namespace signet::server
