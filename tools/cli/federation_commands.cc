// `signet federation`: create, update, list, show, delete, refresh.
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/fs/atomic_file.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/id.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/server/trustdomain/v1/trustdomain.grpc.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

using namespace ::spire::api::server::trustdomain::v1;  // NOLINT: the one API of this file
namespace wire = ::spire::api::types;
using FederationStub = ::spire::api::server::trustdomain::v1::TrustDomain::Stub;

constexpr int kPage = 200;
constexpr char kSeeList[] = "signet federation list shows the relationships there are";

absl::StatusOr<std::unique_ptr<FederationStub>> Connect(const Context& context) {
  SIGNET_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ServerChannel(context));
  return ::spire::api::server::trustdomain::v1::TrustDomain::NewStub(channel);
}

struct Flags {
  std::string trust_domain, url, profile, endpoint_id, bundle_path;

  void AddTo(CLI::App& verb, bool create) {
    verb.add_option("trust-domain,--trust-domain", trust_domain, "the foreign trust domain")->required();
    verb.add_option("--bundle-endpoint-url", url, "where its bundle is fetched; begins with https://")
        ->required(create);
    verb.add_option("--bundle-endpoint-profile", profile,
                    "https_web (a certificate of the web PKI) or https_spiffe (an X.509-SVID)")
        ->check(CLI::IsMember({"https_web", "https_spiffe"}))
        ->required(create);
    verb.add_option("--endpoint-spiffe-id", endpoint_id, "https_spiffe: the ID that the endpoint shows");
    verb.add_option("--bundle", bundle_path,
                    "file with its bundle now, PEM or SPIFFE JSON; https_spiffe needs it when the endpoint is in that "
                    "trust domain and its bundle is not here yet");
  }
};

absl::StatusOr<wire::FederationRelationship> Read(const Flags& flags, wire::FederationRelationshipMask& mask) {
  wire::FederationRelationship out;
  const absl::StatusOr<spiffe::TrustDomain> name = spiffe::TrustDomain::ParseNameOrId(flags.trust_domain);
  if (!name.ok()) return UsageError(absl::StrCat("--trust-domain: ", name.status().message()));
  out.set_trust_domain(name->name());
  if (!flags.url.empty()) {
    out.set_bundle_endpoint_url(flags.url);
    mask.set_bundle_endpoint_url(true);
  }
  if (flags.profile == "https_spiffe") {
    const absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(flags.endpoint_id);
    if (!id.ok()) return UsageError(absl::StrCat("--endpoint-spiffe-id: ", id.status().message()));
    out.mutable_https_spiffe()->set_endpoint_spiffe_id(id->string());
  } else if (!flags.endpoint_id.empty()) {
    return UsageError("--endpoint-spiffe-id goes with --bundle-endpoint-profile https_spiffe");
  } else if (!flags.profile.empty()) {
    out.mutable_https_web();
  }
  mask.set_bundle_endpoint_profile(!flags.profile.empty());
  if (!flags.bundle_path.empty()) {
    constexpr size_t kMaxBundleBytes = 4 * 1024 * 1024;
    SIGNET_ASSIGN_OR_RETURN(const std::string text, fs::ReadFile(flags.bundle_path, kMaxBundleBytes));
    SIGNET_ASSIGN_OR_RETURN(const spiffe::Bundle bundle, spiffe::Bundle::ParsePemOrJson(*name, text),
                            flags.bundle_path);
    spiffe::ToWire(bundle, out.mutable_trust_domain_bundle());
    mask.set_trust_domain_bundle(true);
  }
  return out;
}

absl::Status ToStatus(const wire::Status& status) {
  return status.code() == 0 ? absl::OkStatus()
                            : absl::Status(static_cast<absl::StatusCode>(status.code()), Safe(status.message()));
}

std::string ProfileText(const wire::FederationRelationship& relationship) {
  return relationship.has_https_spiffe() ? "https_spiffe" : relationship.has_https_web() ? "https_web" : "";
}

void Print(Context& context, const wire::FederationRelationship& relationship) {
  Facts facts;
  facts.Add("Trust domain", Safe(relationship.trust_domain()));
  facts.Add("Bundle endpoint", Safe(relationship.bundle_endpoint_url()));
  facts.Add("Profile", ProfileText(relationship));
  facts.Add("Endpoint SPIFFE ID", Safe(relationship.https_spiffe().endpoint_spiffe_id()));
  const wire::Bundle& bundle = relationship.trust_domain_bundle();
  facts.Add(
      "Bundle",
      relationship.has_trust_domain_bundle()
          ? absl::StrCat(
                CountText(static_cast<size_t>(bundle.x509_authorities_size()), "X.509 authority", "X.509 authorities"),
                ", ", CountText(static_cast<size_t>(bundle.jwt_authorities_size()), "JWT authority", "JWT authorities"),
                ", sequence ", bundle.sequence_number())
          : "none yet");
  facts.Print(context.out);
}

// One relationship in a batch of one; create and update have the same shape.
template <typename Response, typename Request, typename Method>
absl::Status Send(Context& context, Method method, const Request& request, absl::string_view next_step) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  Response response;
  SIGNET_RETURN_IF_ERROR(Call(*stub, method, request, response));
  if (response.results_size() != 1) return absl::InternalError("the server answered another number of results");
  SIGNET_RETURN_IF_ERROR(WithNextStep(ToStatus(response.results(0).status()), next_step));
  if (context.json()) return PrintJson(context, response);
  Print(context, response.results(0).federation_relationship());
  return absl::OkStatus();
}

absl::Status Create(Context& context, const Flags& flags) {
  BatchCreateFederationRelationshipRequest request;
  wire::FederationRelationshipMask mask;
  SIGNET_ASSIGN_OR_RETURN(*request.add_federation_relationships(), Read(flags, mask));
  return Send<BatchCreateFederationRelationshipResponse>(context, &FederationStub::BatchCreateFederationRelationship,
                                                         request, "signet federation update changes one that exists");
}

absl::Status Update(Context& context, const Flags& flags) {
  BatchUpdateFederationRelationshipRequest request;
  SIGNET_ASSIGN_OR_RETURN(*request.add_federation_relationships(), Read(flags, *request.mutable_input_mask()));
  const wire::FederationRelationshipMask& mask = request.input_mask();
  if (!mask.bundle_endpoint_url() && !mask.bundle_endpoint_profile() && !mask.trust_domain_bundle()) {
    return UsageError("nothing to change: give a URL, a profile or a bundle");
  }
  return Send<BatchUpdateFederationRelationshipResponse>(context, &FederationStub::BatchUpdateFederationRelationship,
                                                         request, kSeeList);
}

absl::Status List(Context& context) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  ListFederationRelationshipsRequest request;
  ListFederationRelationshipsResponse all;
  request.set_page_size(kPage);
  for (;;) {
    ListFederationRelationshipsResponse page;
    SIGNET_RETURN_IF_ERROR(Call(*stub, &FederationStub::ListFederationRelationships, request, page));
    all.mutable_federation_relationships()->MergeFrom(page.federation_relationships());
    if (page.next_page_token().empty()) break;
    request.set_page_token(page.next_page_token());
  }
  if (context.json()) return PrintJson(context, all);
  if (all.federation_relationships().empty()) {
    context.out << "no federation relationships\n";
    return absl::OkStatus();
  }
  Table table({"TRUST DOMAIN", "PROFILE", "BUNDLE", "ENDPOINT"});
  for (const wire::FederationRelationship& one : all.federation_relationships()) {
    table.Add({Safe(one.trust_domain()), ProfileText(one), one.has_trust_domain_bundle() ? "yes" : "none yet",
               Safe(one.bundle_endpoint_url())});
  }
  table.Print(context.out);
  return absl::OkStatus();
}

absl::Status Show(Context& context, const std::string& trust_domain) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  GetFederationRelationshipRequest request;
  request.set_trust_domain(trust_domain);
  wire::FederationRelationship relationship;
  const absl::Status found = Call(*stub, &FederationStub::GetFederationRelationship, request, relationship);
  SIGNET_RETURN_IF_ERROR(WithNextStep(found, kSeeList));
  if (context.json()) return PrintJson(context, relationship);
  Print(context, relationship);
  return absl::OkStatus();
}

absl::Status Delete(Context& context, const std::string& trust_domain) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  BatchDeleteFederationRelationshipRequest request;
  request.add_trust_domains(trust_domain);
  BatchDeleteFederationRelationshipResponse response;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &FederationStub::BatchDeleteFederationRelationship, request, response));
  if (response.results_size() != 1) return absl::InternalError("the server answered another number of results");
  SIGNET_RETURN_IF_ERROR(WithNextStep(ToStatus(response.results(0).status()), kSeeList));
  if (context.json()) return PrintJson(context, response);
  context.out << "deleted " << Safe(trust_domain) << "; its bundle, as far as it is known, stays\n";
  return absl::OkStatus();
}

absl::Status Refresh(Context& context, const std::string& trust_domain) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  RefreshBundleRequest request;
  request.set_trust_domain(trust_domain);
  google::protobuf::Empty response;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &FederationStub::RefreshBundle, request, response));
  if (context.json()) return PrintJson(context, response);
  context.out << "fetched the bundle of " << Safe(trust_domain) << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddFederationCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("federation", "foreign trust domains, and where their bundles are fetched");
  noun.require_subcommand(1);

  auto created = std::make_shared<Flags>();
  CLI::App& create = AddVerb(noun, context, "create", "federate with a trust domain",
                             "signet federation create --trust-domain partner.org --bundle-endpoint-url "
                             "https://partner.org:8443 --bundle-endpoint-profile https_web",
                             Target::kServer);
  created->AddTo(create, /*create=*/true);
  create.callback([&context, created] { context.action = [&context, created] { return Create(context, *created); }; });

  auto updated = std::make_shared<Flags>();
  CLI::App& update =
      AddVerb(noun, context, "update", "change what is given, leave the rest",
              "signet federation update --trust-domain partner.org --bundle partner.json", Target::kServer);
  updated->AddTo(update, /*create=*/false);
  update.callback([&context, updated] { context.action = [&context, updated] { return Update(context, *updated); }; });

  CLI::App& list = AddVerb(noun, context, "list", "all relationships", "signet federation list", Target::kServer);
  list.callback([&context] { context.action = [&context] { return List(context); }; });

  const auto add = [&](const std::string& verb, const std::string& what, auto action) {
    auto name = std::make_shared<std::string>();
    CLI::App& one =
        AddVerb(noun, context, verb, what, absl::StrCat("signet federation ", verb, " partner.org"), Target::kServer);
    one.add_option("trust-domain,--trust-domain", *name, "the foreign trust domain")->required();
    one.callback(
        [&context, name, action] { context.action = [&context, name, action] { return action(context, *name); }; });
  };
  add("show", "one relationship, and what is known of the other's bundle", &Show);
  add("delete", "end a relationship; the bundle stays until it is deleted", &Delete);
  add("refresh", "fetch the bundle now", &Refresh);
}

}  // namespace signet::cli
