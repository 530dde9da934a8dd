#include "server/api/trust_domain_service.h"

#include <utility>
#include <vector>

#include "common/status/macros.h"
#include "server/api/convert.h"
#include "spire/api/server/trustdomain/v1/trustdomain.grpc.pb.h"

namespace signet::server {
namespace {

namespace v1 = ::spire::api::server::trustdomain::v1;

using Results = absl::StatusOr<std::vector<FederationResult>>;

template <typename Request>
const wire::FederationRelationshipMask* OutputMask(const Request& request) {
  return request.has_output_mask() ? &request.output_mask() : nullptr;
}

// The items of a batch that can be asked of the store, and the place of each in the answer.
struct Wanted {
  std::vector<FederationRelationship> relationships;
  std::vector<int> where;
  FederationFields fields;  // the same for all: it follows from the mask
};

template <typename Request, typename Response>
Wanted ReadBatch(const Request& request, const wire::FederationRelationshipMask* mask, const spiffe::TrustDomain& own,
                 Response& response) {
  Wanted wanted;
  for (int i = 0; i < request.federation_relationships_size(); ++i) {
    absl::StatusOr<WantedFederation> one = FederationFromClient(request.federation_relationships(i), mask, own);
    StatusToWire(one.status(), *response.add_results()->mutable_status());
    if (!one.ok()) continue;
    wanted.fields = one->fields;
    wanted.relationships.push_back(std::move(one->relationship));
    wanted.where.push_back(i);
  }
  return wanted;
}

class TrustDomainService final : public v1::TrustDomain::CallbackService {
 public:
  explicit TrustDomainService(TrustDomainServiceDeps deps) : d_(std::move(deps)) {}

  grpc::ServerUnaryReactor* ListFederationRelationships(grpc::CallbackServerContext* context,
                                                        const v1::ListFederationRelationshipsRequest* request,
                                                        v1::ListFederationRelationshipsResponse* response) override {
    return d_.calls.Blocking(
        context, Method::kListFederationRelationships, [=, this](const CallerPtr&) -> absl::Status {
          SIGNET_ASSIGN_OR_RETURN(Page<FederationRelationship> page, d_.federations.ListFederations(PageFromWire(
                                                                         request->page_size(), request->page_token())));
          for (const FederationRelationship& one : page.items) {
            FederationToWire(one, OutputMask(*request), *response->add_federation_relationships());
          }
          response->set_next_page_token(std::move(page.next));
          return absl::OkStatus();
        });
  }

  grpc::ServerUnaryReactor* GetFederationRelationship(grpc::CallbackServerContext* context,
                                                      const v1::GetFederationRelationshipRequest* request,
                                                      wire::FederationRelationship* response) override {
    return d_.calls.Blocking(context, Method::kGetFederationRelationship, [=, this](const CallerPtr&) -> absl::Status {
      SIGNET_ASSIGN_OR_RETURN(const spiffe::TrustDomain name,
                              spiffe::TrustDomain::ParseNameOrId(request->trust_domain()), "trust_domain");
      SIGNET_ASSIGN_OR_RETURN(const FederationRelationship found, d_.federations.GetFederation(name));
      FederationToWire(found, OutputMask(*request), *response);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* BatchCreateFederationRelationship(
      grpc::CallbackServerContext* context, const v1::BatchCreateFederationRelationshipRequest* request,
      v1::BatchCreateFederationRelationshipResponse* response) override {
    constexpr Method kMethod = Method::kBatchCreateFederationRelationship;
    return d_.calls.Async(context, kMethod, [=, this](const CallerPtr&, Reply reply) {
      Wanted wanted = ReadBatch(*request, nullptr, d_.trust_domain, *response);
      if (wanted.where.empty()) return reply.Send(absl::OkStatus());
      d_.federations.CreateFederations(
          std::move(wanted.relationships),
          [=, this, where = std::move(wanted.where), reply = std::move(reply)](const Results& stored) mutable {
            Fill(stored, where, OutputMask(*request), kMethod, *response);
            reply.Send(absl::OkStatus());
          });
    });
  }

  grpc::ServerUnaryReactor* BatchUpdateFederationRelationship(
      grpc::CallbackServerContext* context, const v1::BatchUpdateFederationRelationshipRequest* request,
      v1::BatchUpdateFederationRelationshipResponse* response) override {
    constexpr Method kMethod = Method::kBatchUpdateFederationRelationship;
    return d_.calls.Async(context, kMethod, [=, this](const CallerPtr&, Reply reply) {
      const wire::FederationRelationshipMask* mask = request->has_input_mask() ? &request->input_mask() : nullptr;
      Wanted wanted = ReadBatch(*request, mask, d_.trust_domain, *response);
      if (wanted.where.empty()) return reply.Send(absl::OkStatus());
      d_.federations.UpdateFederations(
          std::move(wanted.relationships), wanted.fields,
          [=, this, where = std::move(wanted.where), reply = std::move(reply)](const Results& stored) mutable {
            Fill(stored, where, OutputMask(*request), kMethod, *response);
            reply.Send(absl::OkStatus());
          });
    });
  }

  grpc::ServerUnaryReactor* BatchDeleteFederationRelationship(
      grpc::CallbackServerContext* context, const v1::BatchDeleteFederationRelationshipRequest* request,
      v1::BatchDeleteFederationRelationshipResponse* response) override {
    constexpr Method kMethod = Method::kBatchDeleteFederationRelationship;
    return d_.calls.Async(context, kMethod, [=, this](const CallerPtr&, Reply reply) {
      std::vector<spiffe::TrustDomain> names;
      std::vector<int> where;
      for (int i = 0; i < request->trust_domains_size(); ++i) {
        auto& result = *response->add_results();
        absl::StatusOr<spiffe::TrustDomain> name = spiffe::TrustDomain::ParseNameOrId(request->trust_domains(i));
        StatusToWire(name.status(), *result.mutable_status());
        result.set_trust_domain(name.ok() ? name->name() : request->trust_domains(i));
        if (!name.ok()) continue;
        names.push_back(*std::move(name));
        where.push_back(i);
      }
      if (names.empty()) return reply.Send(absl::OkStatus());
      d_.federations.DeleteFederations(std::move(names),
                                       [=, this, where = std::move(where), reply = std::move(reply)](
                                           const absl::StatusOr<std::vector<absl::Status>>& deleted) mutable {
                                         for (size_t i = 0; i < where.size(); ++i) {
                                           const absl::Status status = deleted.ok() ? (*deleted)[i] : deleted.status();
                                           LogFailure(kMethod, status);
                                           StatusToWire(status, *response->mutable_results(where[i])->mutable_status());
                                         }
                                         if (deleted.ok()) d_.refresher.Reload();
                                         reply.Send(absl::OkStatus());
                                       });
    });
  }

  grpc::ServerUnaryReactor* RefreshBundle(grpc::CallbackServerContext* context, const v1::RefreshBundleRequest* request,
                                          google::protobuf::Empty*) override {
    return d_.calls.Async(context, Method::kRefreshBundle, [=, this](const CallerPtr&, Reply reply) {
      const absl::StatusOr<spiffe::TrustDomain> name = spiffe::TrustDomain::ParseNameOrId(request->trust_domain());
      if (!name.ok()) return reply.Send(WithContext(name.status(), "trust_domain"));
      d_.refresher.RefreshNow(*name, [reply = std::move(reply)](const absl::Status& status) mutable {  //
        reply.Send(status);
      });
    });
  }

 private:
  // Results in the order of the request: `where[i]` is the place of the i-th stored item.
  template <typename Response>
  void Fill(const Results& stored, const std::vector<int>& where, const wire::FederationRelationshipMask* mask,
            Method method, Response& response) {
    for (size_t i = 0; i < where.size(); ++i) {
      auto& result = *response.mutable_results(where[i]);
      const absl::Status status = stored.ok() ? (*stored)[i].status : stored.status();
      LogFailure(method, status);
      StatusToWire(status, *result.mutable_status());
      if (status.ok()) FederationToWire(*(*stored)[i].record, mask, *result.mutable_federation_relationship());
    }
    if (stored.ok()) d_.refresher.Reload();
  }

  const TrustDomainServiceDeps d_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeTrustDomainService(TrustDomainServiceDeps deps) {
  return std::make_unique<TrustDomainService>(std::move(deps));
}

}  // namespace signet::server
