// `signet identity`: AI agents as definitions, and their life: draft, active, suspended, retired.
#include "absl/strings/str_join.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {

using token_v1::Identity;

struct Flags {
  Identity identity;
  std::vector<std::string> ceiling, own_authority;
  bool active = false;
  std::string reason;
};

absl::Status Create(Context& context, Flags& flags, const std::string& file) {
  config::Identities records;
  if (file.empty()) {
    if (flags.identity.spiffe_id().empty()) return UsageError("--spiffe-id is required");
    if (flags.identity.owner().empty()) return UsageError("--owner is required: a person or a team that answers for it");
    SIGNET_RETURN_IF_ERROR(AddAuthorities("--ceiling", flags.ceiling, flags.identity.mutable_ceiling()));
    SIGNET_RETURN_IF_ERROR(
        AddAuthorities("--own-authority", flags.own_authority, flags.identity.mutable_own_authority()));
    if (flags.active) flags.identity.set_state("active");
    *records.add_identities() = flags.identity;
  } else {
    SIGNET_RETURN_IF_ERROR(ReadRecords(file, context.in, records));
  }
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  for (const Identity& identity : records.identities()) {
    Identity stored;
    SIGNET_RETURN_IF_ERROR(client.Call("CreateIdentity", identity, stored));
    SIGNET_RETURN_IF_ERROR(Answer(context, stored));
  }
  return absl::OkStatus();
}

absl::Status Put(AdministrationClient& client, const Identity& identity, bool exists, Identity& stored) {
  return exists ? client.Call("UpdateIdentity", identity, stored)
                : client.Call("CreateIdentity", identity, stored);
}

void AddStateVerb(CLI::App& noun, Context& context, const std::string& name, const std::string& state,
                  const std::string& what) {
  auto request = std::make_shared<token_v1::SetIdentityStateRequest>();
  request->set_state(state);
  CLI::App& verb = AddVerb(noun, context, name, what,
                           "signet identity " + name + " spiffe://example.org/agent/orders", Target::kServer);
  verb.add_option_function<std::string>(
          "id,--id", [request](const std::string& id) { request->set_spiffe_id(id); }, "the identity's SPIFFE ID")
      ->required();
  verb.add_option_function<std::string>(
      "--reason", [request](const std::string& reason) { request->set_reason(reason); }, "for the audit");
  verb.callback([&context, request] {
    context.action = [&context, request] {
      return CallAndShow<Identity>(context, "SetIdentityState", *request);
    };
  });
}

}  // namespace

void AddIdentityCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("identity", "AI agents: who owns them and what they may ever do");
  noun.require_subcommand(1);
  auto flags = std::make_shared<Flags>();
  auto file = std::make_shared<std::string>();
  CLI::App& create = AddVerb(noun, context, "create", "create an identity by flags, or many by a file",
                             "signet identity create --spiffe-id spiffe://example.org/agent/orders --owner payments "
                             "--ceiling https://mcp.example.org/orders=orders:read --active",
                             Target::kServer);
  const auto text = [&create, flags](const std::string& name, void (Identity::*set)(const std::string&),
                                     const std::string& what) {
    create.add_option_function<std::string>(name, [flags, set](const std::string& v) { (flags->identity.*set)(v); }, what);
  };
  text("--spiffe-id", &Identity::set_spiffe_id, "spiffe://TD/agent/NAME; its instances are entries below it");
  text("--owner", &Identity::set_owner, "person or team that answers for it");
  text("--sponsor", &Identity::set_sponsor, "who wanted it");
  text("--description", &Identity::set_description, "what it is for");
  text("--risk", &Identity::set_risk, "low, medium or high (high)");
  text("--token-ttl", &Identity::set_token_ttl, "longest life of a token (5m)");
  AddList(create, "--ceiling", flags->ceiling, absl::StrCat("what it may ever do for users: ", kAuthorityHelp));
  AddList(create, "--own-authority", flags->own_authority,
          absl::StrCat("what it may do without a user (client_credentials): ", kAuthorityHelp));
  create.add_option_function<int>(
      "--max-depth", [flags](const int& depth) { flags->identity.set_max_depth(depth); }, "longest chain, 1 to 5 (5)");
  create.add_flag("--active", flags->active, "begin active; otherwise a draft, which nothing is issued to");
  create.add_option("--file", *file, "YAML or JSON with one identity or many; - reads standard input")
      ->excludes("--spiffe-id");
  create.callback([&context, flags, file] {
    context.action = [&context, flags, file] { return Create(context, *flags, *file); };
  });
  AddShowVerb<Identity>(noun, context, "the identity's SPIFFE ID", "one identity in full",
                        "signet identity show spiffe://example.org/agent/orders", "GetIdentity");
  AddListVerb<token_v1::ListIdentitiesResponse>(
      noun, context, "all identities, retired ones too", "signet identity list", "ListIdentities",
      {"SPIFFE ID", "STATE", "RISK", "OWNER"}, [](const token_v1::ListIdentitiesResponse& all, Table& table) {
        for (const Identity& i : all.identities()) {
          table.Add({Safe(i.spiffe_id()), Safe(i.state()), Safe(i.risk()), Safe(i.owner())});
        }
      });
  AddApplyVerb<config::Identities, Identity>(
      noun, context, "make the identities what a file says: create or update, and show what changed",
      "signet identity apply --file identities.yaml", &config::Identities::identities,
      [](const Identity& i) { return i.spiffe_id(); }, "GetIdentity", &Put);
  AddStateVerb(noun, context, "activate", "active", "let a draft have tokens");
  AddStateVerb(noun, context, "suspend", "suspended",
               "stop it everywhere at once: no token, its tokens die, its SVIDs are withdrawn");
  AddStateVerb(noun, context, "resume", "active", "end a suspension; tokens that died stay dead");
  AddStateVerb(noun, context, "retire", "retired", "end it for good; its SPIFFE ID is never given again");
}

}  // namespace signet::cli
