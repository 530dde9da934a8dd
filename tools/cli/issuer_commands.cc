// `signet issuer`: identity providers trusted for users.
#include "absl/strings/str_join.h"
#include "common/fs/atomic_file.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {

using token_v1::Issuer;

struct Flags {
  Issuer issuer;
  std::string jwks_file, file;
  std::vector<std::string> rights;
};

// "RIGHT=RESOURCE=SCOPES": what a string of the rights claim means.
absl::Status AddRights(const std::vector<std::string>& texts, Issuer& issuer) {
  for (const std::string& text : texts) {
    const size_t at = text.find('=');
    if (at == std::string::npos) return UsageError("--rights: expects RIGHT=RESOURCE=SCOPE[,SCOPE]");
    SIGNET_ASSIGN_OR_RETURN(*(*issuer.mutable_rights())[text.substr(0, at)].add_authorities(),
                            ParseAuthority("--rights", text.substr(at + 1)));
  }
  return absl::OkStatus();
}

absl::Status Create(Context& context, Flags& flags) {
  config::Issuers records;
  if (flags.file.empty()) {
    if (flags.issuer.url().empty()) return UsageError("--url is required: the exact `iss` of its tokens");
    if (!flags.jwks_file.empty()) {
      SIGNET_ASSIGN_OR_RETURN(*flags.issuer.mutable_jwks_json(), fs::ReadFile(flags.jwks_file, 1 << 20));
    }
    SIGNET_RETURN_IF_ERROR(AddRights(flags.rights, flags.issuer));
    *records.add_issuers() = flags.issuer;
  } else {
    SIGNET_RETURN_IF_ERROR(ReadRecords(flags.file, context.in, records));
  }
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  for (const Issuer& issuer : records.issuers()) {
    Issuer stored;
    SIGNET_RETURN_IF_ERROR(client.Call("PutIssuer", issuer, stored));
    SIGNET_RETURN_IF_ERROR(Answer(context, stored));
  }
  return absl::OkStatus();
}

absl::Status Put(AdministrationClient& client, const Issuer& issuer, bool, Issuer& stored) {
  return client.Call("PutIssuer", issuer, stored);
}

}  // namespace

void AddIssuerCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("issuer", "identity providers trusted for users, never for workloads");
  noun.require_subcommand(1);
  auto flags = std::make_shared<Flags>();
  CLI::App& create = AddVerb(noun, context, "create", "trust an issuer, or replace what is known of it",
                             "signet issuer create --url https://idp.example.org/realms/main --jwks-uri "
                             "https://idp.example.org/realms/main/protocol/openid-connect/certs --audience https://id.example.org",
                             Target::kServer);
  const auto text = [&create, flags](const std::string& name, void (Issuer::*set)(const std::string&),
                                     const std::string& what) {
    create.add_option_function<std::string>(name, [flags, set](const std::string& v) { (flags->issuer.*set)(v); }, what);
  };
  text("--url", &Issuer::set_url, "the exact `iss` of its tokens");
  text("--jwks-uri", &Issuer::set_jwks_uri, "https URL of its public keys");
  text("--ca-file", &Issuer::set_ca_file, "PEM roots for that URL, on the server; default the system's");
  text("--user-claim", &Issuer::set_user_claim, "stable claim that names the user (sub)");
  text("--rights-claim", &Issuer::set_rights_claim, "claim that lists the user's rights (scope)");
  text("--rights-max-age", &Issuer::set_rights_max_age, "rights older than this count as none (1h)");
  text("--reauth-after", &Issuer::set_reauth_after, "the user must log in again after this (1h)");
  create.add_option("--jwks-file", flags->jwks_file, "file of its public keys, instead of --jwks-uri");
  create.add_option_function<std::vector<std::string>>(
            "--audience",
            [flags](const std::vector<std::string>& all) {
              for (const std::string& one : all) flags->issuer.add_audiences(one);
            },
            "audience reserved for exchange; repeatable")
      ->allow_extra_args(false);
  AddList(create, "--rights", flags->rights, "RIGHT=RESOURCE=SCOPE[,SCOPE]: what a string of the claim means; repeatable");
  create.add_flag_callback(
      "--allow-private-address", [flags] { flags->issuer.set_allow_private_address(true); },
      "its URL may lead to a private address");
  create.add_option("--file", flags->file, "YAML or JSON with one issuer or many; - reads standard input")->excludes("--url");
  create.callback([&context, flags] { context.action = [&context, flags] { return Create(context, *flags); }; });
  AddShowVerb<Issuer>(noun, context, "the issuer's URL", "one issuer in full", "signet issuer show https://idp.example.org",
                      "GetIssuer");
  AddListVerb<token_v1::ListIssuersResponse>(
      noun, context, "all issuers", "signet issuer list", "ListIssuers", {"URL", "AUDIENCES", "USER CLAIM"},
      [](const token_v1::ListIssuersResponse& all, Table& table) {
        for (const Issuer& i : all.issuers()) {
          table.Add({Safe(i.url()), Safe(absl::StrJoin(i.audiences(), " ")), Safe(i.user_claim())});
        }
      });
  AddApplyVerb<config::Issuers, Issuer>(
      noun, context, "make the issuers what a file says, and show what changed", "signet issuer apply --file issuers.yaml",
      &config::Issuers::issuers, [](const Issuer& i) { return i.url(); }, "GetIssuer", &Put);
  auto id = std::make_shared<std::string>();
  CLI::App& remove = AddVerb(noun, context, "delete", "trust it no longer: its users' tokens start nothing any more",
                             "signet issuer delete https://idp.example.org", Target::kServer);
  remove.add_option("id,--id", *id, "the issuer's URL")->required();
  remove.callback([&context, id] {
    context.action = [&context, id] {
      return CallAndShow<google::protobuf::Empty>(context, "DeleteIssuer", ById(*id));
    };
  });
}

}  // namespace signet::cli
