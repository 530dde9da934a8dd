// `signet bundle`: show, list, count.
#include <memory>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/server/bundle/v1/bundle.grpc.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

using namespace ::spire::api::server::bundle::v1;  // NOLINT: the one API of this file
namespace wire = ::spire::api::types;
using BundleStub = ::spire::api::server::bundle::v1::Bundle::Stub;

constexpr int kPage = 100;

absl::StatusOr<std::unique_ptr<BundleStub>> Connect(const Context& context) {
  SIGNET_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, ServerChannel(context));
  return ::spire::api::server::bundle::v1::Bundle::NewStub(channel);
}

absl::StatusOr<std::string> Document(const wire::Bundle& bundle, const std::string& format) {
  SIGNET_ASSIGN_OR_RETURN(const spiffe::Bundle parsed, spiffe::BundleFromWire(bundle));
  if (format == "spiffe") return absl::StrCat(parsed.ToSpiffeJson(), "\n");
  if (format == "jwks") return absl::StrCat(parsed.ToJwtJwks(), "\n");
  return parsed.ToPem();
}

absl::Status Show(Context& context, const std::string& format) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  wire::Bundle bundle;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &BundleStub::GetBundle, GetBundleRequest(), bundle));
  if (context.json() && format.empty()) return PrintJson(context, bundle);
  SIGNET_ASSIGN_OR_RETURN(const std::string document, Document(bundle, format));
  context.out << document;
  return absl::OkStatus();
}

absl::Status List(Context& context) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  ListFederatedBundlesRequest request;
  ListFederatedBundlesResponse all;
  request.set_page_size(kPage);
  for (;;) {
    ListFederatedBundlesResponse page;
    SIGNET_RETURN_IF_ERROR(Call(*stub, &BundleStub::ListFederatedBundles, request, page));
    all.mutable_bundles()->MergeFrom(page.bundles());
    if (page.next_page_token().empty()) break;
    request.set_page_token(page.next_page_token());
  }
  if (context.json()) return PrintJson(context, all);
  if (all.bundles().empty()) {
    context.out << "no federated bundles\n";
    return absl::OkStatus();
  }
  Table table({"TRUST DOMAIN", "X.509 AUTHORITIES", "JWT AUTHORITIES", "SEQUENCE"});
  for (const wire::Bundle& bundle : all.bundles()) {
    table.Add({Safe(bundle.trust_domain()), absl::StrCat(bundle.x509_authorities_size()),
               absl::StrCat(bundle.jwt_authorities_size()), absl::StrCat(bundle.sequence_number())});
  }
  table.Print(context.out);
  return absl::OkStatus();
}

absl::Status Count(Context& context) {
  SIGNET_ASSIGN_OR_RETURN(const auto stub, Connect(context));
  CountBundlesResponse response;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &BundleStub::CountBundles, CountBundlesRequest(), response));
  if (context.json()) return PrintJson(context, response);
  context.out << response.count() << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddBundleCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("bundle", "trust bundles: whose signatures are believed");
  noun.require_subcommand(1);
  auto format = std::make_shared<std::string>();

  CLI::App& show = AddVerb(noun, context, "show", "the trust bundle of this trust domain",
                           "signet bundle show --format spiffe > bundle.json", Target::kServer);
  show.add_option("--format", *format, "pem (X.509 only, the default), spiffe (JWK set of both), jwks (JWT keys only)")
      ->check(CLI::IsMember({"pem", "spiffe", "jwks"}));
  show.callback([&context, format] { context.action = [&context, format] { return Show(context, *format); }; });

  CLI::App& list = AddVerb(noun, context, "list", "bundles of the trust domains federated with", "signet bundle list",
                           Target::kServer);
  list.callback([&context] { context.action = [&context] { return List(context); }; });

  CLI::App& count = AddVerb(noun, context, "count", "how many bundles the server holds, its own included",
                            "signet bundle count", Target::kServer);
  count.callback([&context] { context.action = [&context] { return Count(context); }; });
}

}  // namespace signet::cli
