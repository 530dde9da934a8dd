// `signet authority`: the keys that sign, and their rotation by hand. Those of access tokens; the keys of SVIDs rotate by
// the clock alone.
#include <google/protobuf/empty.pb.h>

#include "absl/strings/ascii.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {

using token_v1::SigningKey;

struct Flags {
  std::string kind, kid, reason;
};

absl::Status CheckKind(const std::string& kind) {
  if (kind == "token") return absl::OkStatus();
  return WithNextStep(absl::UnimplementedError(absl::StrCat("authorities of kind ", kind, " are rotated by the clock alone")),
                      "`signet bundle show` shows those that are trusted; --kind token is changed by hand");
}

absl::Status List(Context& context) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  token_v1::ListSigningKeysResponse all;
  SIGNET_RETURN_IF_ERROR(client.Call("ListSigningKeys", google::protobuf::Empty(), all));
  if (context.json()) return PrintJson(context, all);
  Table table({"KIND", "AUTHORITY", "STATE", "UNTIL", "REVOKED"});
  for (const SigningKey& key : all.keys()) {
    table.Add({"token", Safe(key.kid()), Safe(key.state()), Safe(key.not_after()), key.revoked() ? "yes" : ""});
  }
  table.Print(context.out);
  return absl::OkStatus();
}

absl::Status Revoke(Context& context, const Flags& flags) {
  token_v1::RevokeRequest request;
  request.set_kind("signing-key");
  request.set_entity(flags.kid);
  request.set_reason(flags.reason);
  SIGNET_RETURN_IF_ERROR(CallAndShow<token_v1::Revocation>(context, "Revoke", request));
  if (!context.json()) context.err << "when this key signs now, `signet authority rotate --kind token` lets issuance go on\n";
  return absl::OkStatus();
}

}  // namespace

void AddAuthorityCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("authority", "the keys that sign, and their rotation by hand");
  noun.require_subcommand(1);
  auto flags = std::make_shared<Flags>();
  const auto add = [&](const std::string& name, const std::string& what, const std::string& example, bool by_kid,
                       std::function<absl::Status()> run) -> CLI::App& {
    CLI::App& verb = AddVerb(noun, context, name, what, example, Target::kServer);
    verb.add_option("--kind", flags->kind, "of what they sign; by hand: token")
        ->required()
        ->check(CLI::IsMember({"x509", "jwt", "wit", "token"}));
    if (by_kid) verb.add_option("authority,--authority", flags->kid, "as `list` names it")->required();
    verb.callback([&context, flags, run] {
      context.action = [flags, run]() -> absl::Status {
        SIGNET_RETURN_IF_ERROR(CheckKind(flags->kind));
        return run();
      };
    });
    return verb;
  };
  add("list", "those of this server", "signet authority list --kind token", false, [&context] { return List(context); });
  add("prepare", "make the next one: published, signing nothing yet", "signet authority prepare --kind token", false,
      [&context] { return CallAndShow<SigningKey>(context, "PrepareSigningKey", google::protobuf::Empty()); });
  add("activate", "let the prepared one sign", "signet authority activate --kind token 8a1f...", true,
      [&context, flags] { return CallAndShow<SigningKey>(context, "ActivateSigningKey", ById(flags->kid)); });
  add("rotate", "make a new one and let it sign at once: after the active one was revoked", "signet authority rotate --kind token",
      false, [&context] { return CallAndShow<SigningKey>(context, "RotateSigningKey", google::protobuf::Empty()); });
  add("revoke", "all that it ever signed is refused, everywhere and for good",
      "signet authority revoke --kind token 8a1f... --reason stolen", true, [&context, flags] { return Revoke(context, *flags); })
      .add_option("--reason", flags->reason, "for the audit");
}

}  // namespace signet::cli
