// `signet svid`: mint-x509 and mint-jwt ask the server; the Workload API's verbs are in workload_commands.cc.
#include <memory>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/load.h"
#include "common/crypto/certificate.h"
#include "common/crypto/csr.h"
#include "common/crypto/key.h"
#include "common/fs/atomic_file.h"
#include "common/spiffe/bundle.h"
#include "common/spiffe/id.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/server/bundle/v1/bundle.grpc.pb.h"
#include "spire/api/server/svid/v1/svid.grpc.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/identity_dir.h"
#include "tools/cli/text.h"
#include "tools/cli/workload_commands.h"

namespace signet::cli {
namespace {

using namespace ::spire::api::server::svid::v1;  // NOLINT: the one API of this file
namespace wire = ::spire::api::types;
namespace bundle_api = ::spire::api::server::bundle::v1;

struct MintFlags {
  std::string spiffe_id, ttl, key_type = "ec-p256", write;
  std::vector<std::string> dns_names, audience;
};

absl::StatusOr<int32_t> TtlSeconds(const std::string& text) {
  config::Errors errors;
  const absl::Duration ttl = config::ParseDuration("--ttl", text, absl::ZeroDuration(), errors);
  if (!errors.empty()) return UsageError(errors.ToStatus().message());
  if (ttl > absl::Hours(24 * 365)) return UsageError("--ttl: at most 8760h");
  return static_cast<int32_t>(absl::ToInt64Seconds(ttl));
}

absl::StatusOr<spiffe::Id> ParseId(const std::string& text) {
  absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(text);
  if (!id.ok()) return UsageError(absl::StrCat("--spiffe-id: ", id.status().message()));
  return id;
}

absl::Status MintX509(Context& context, const MintFlags& flags) {
  if (context.json() && flags.write.empty()) {
    return UsageError("--output json needs --write DIR here: the answer does not hold the key, which was made here");
  }
  SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, ParseId(flags.spiffe_id));
  SIGNET_ASSIGN_OR_RETURN(const int32_t ttl, TtlSeconds(flags.ttl));
  const absl::StatusOr<crypto::KeyType> type = crypto::ParseKeyType(flags.key_type);
  if (!type.ok()) return UsageError(absl::StrCat("--key-type: ", type.status().message()));
  SIGNET_ASSIGN_OR_RETURN(const auto channel, ServerChannel(context));
  SIGNET_ASSIGN_OR_RETURN(const crypto::PrivateKey key, crypto::PrivateKey::Generate(*type));
  MintX509SVIDRequest request;
  SIGNET_ASSIGN_OR_RETURN(*request.mutable_csr(),
                          crypto::CertificateRequest::Create(key, {id.string()}, flags.dns_names));
  request.set_ttl(ttl);
  MintX509SVIDResponse response;
  const auto stub = SVID::NewStub(channel);
  SIGNET_RETURN_IF_ERROR(Call(*stub, &SVID::Stub::MintX509SVID, request, response));

  wire::Bundle wire_bundle;
  const auto bundle_stub = bundle_api::Bundle::NewStub(channel);
  SIGNET_RETURN_IF_ERROR(
      Call(*bundle_stub, &bundle_api::Bundle::Stub::GetBundle, bundle_api::GetBundleRequest(), wire_bundle));
  SIGNET_ASSIGN_OR_RETURN(const spiffe::Bundle bundle, spiffe::BundleFromWire(wire_bundle));
  SIGNET_ASSIGN_OR_RETURN(const std::vector<crypto::Certificate> chain,
                          crypto::Certificate::ParseChain(absl::StrJoin(response.svid().cert_chain(), "")));
  std::string chain_pem;
  for (const crypto::Certificate& certificate : chain) chain_pem.append(certificate.Pem());

  if (flags.write.empty()) {
    context.out << chain_pem << key.Pkcs8Pem() << bundle.ToPem();
    return absl::OkStatus();
  }
  SIGNET_RETURN_IF_ERROR(WriteIdentity(flags.write, 0, chain_pem, key.Pkcs8Pem(), bundle.ToPem()));
  if (context.json()) return PrintJson(context, response);
  context.out << IdText(response.svid().id()) << " until "
              << TimeText(absl::FromUnixSeconds(response.svid().expires_at()), context.clock.Now()) << "\nwritten to "
              << flags.write << ": svid.0.pem, svid.0.key, bundle.0.pem\n";
  return absl::OkStatus();
}

absl::Status MintJwt(Context& context, const MintFlags& flags) {
  MintJWTSVIDRequest request;
  SIGNET_ASSIGN_OR_RETURN(const spiffe::Id id, ParseId(flags.spiffe_id));
  SIGNET_ASSIGN_OR_RETURN(const int32_t ttl, TtlSeconds(flags.ttl));
  spiffe::ToWire(id, request.mutable_id());
  *request.mutable_audience() = {flags.audience.begin(), flags.audience.end()};
  request.set_ttl(ttl);
  SIGNET_ASSIGN_OR_RETURN(const auto channel, ServerChannel(context));
  MintJWTSVIDResponse response;
  const auto stub = SVID::NewStub(channel);
  SIGNET_RETURN_IF_ERROR(Call(*stub, &SVID::Stub::MintJWTSVID, request, response));
  if (!flags.write.empty()) {
    SIGNET_RETURN_IF_ERROR(fs::WriteFileAtomically(flags.write, response.svid().token()));
    if (!context.json()) {
      context.out << IdText(response.svid().id()) << " until "
                  << TimeText(absl::FromUnixSeconds(response.svid().expires_at()), context.clock.Now())
                  << "\nwritten to " << flags.write << "\n";
    }
  }
  if (context.json()) return PrintJson(context, response);
  if (flags.write.empty()) context.out << Safe(response.svid().token()) << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddSvidCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("svid", "identities: those of this process, and minted ones");
  noun.require_subcommand(1);
  AddWorkloadCommands(noun, context);
  AddMtlsCommands(noun, context);
  auto flags = std::make_shared<MintFlags>();

  CLI::App& x509 =
      AddVerb(noun, context, "mint-x509", "have the server sign an X509-SVID for any ID, with a key made here",
              "signet svid mint-x509 --spiffe-id spiffe://example.org/legacy --ttl 24h --write /etc/legacy/svid",
              Target::kServer);
  x509.add_option("--spiffe-id", flags->spiffe_id, "the ID to mint")->required();
  AddList(x509, "--dns", flags->dns_names, "DNS name in the certificate; repeatable");
  x509.add_option("--ttl", flags->ttl, "its life; the server's default when left out");
  x509.add_option("--key-type", flags->key_type, "ec-p256, ec-p384, rsa-2048 or rsa-4096");
  x509.add_option("--write", flags->write,
                  "folder for svid.0.pem, svid.0.key (0600) and bundle.0.pem, instead of printing");
  x509.callback([&context, flags] { context.action = [&context, flags] { return MintX509(context, *flags); }; });

  CLI::App& jwt =
      AddVerb(noun, context, "mint-jwt", "have the server sign a JWT-SVID for any ID",
              "signet svid mint-jwt --spiffe-id spiffe://example.org/legacy --audience db", Target::kServer);
  jwt.add_option("--spiffe-id", flags->spiffe_id, "the ID to mint")->required();
  AddList(jwt, "--audience", flags->audience, "who shall accept it; repeatable")->required();
  jwt.add_option("--ttl", flags->ttl, "its life; the server's default when left out");
  jwt.add_option("--write", flags->write, "file (0600) for the token, instead of printing");
  jwt.callback([&context, flags] { context.action = [&context, flags] { return MintJwt(context, *flags); }; });
}

}  // namespace signet::cli
