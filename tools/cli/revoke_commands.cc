// `signet revoke`: one primitive for everything that can be cut off.
#include "absl/strings/str_join.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {

using token_v1::Revocation;

struct Flags {
  token_v1::RevokeRequest request;
  std::string kind, entity, reason;
  bool list = false, reinstate = false;
};

absl::Status List(Context& context) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  SIGNET_ASSIGN_OR_RETURN(const auto all,
                          ListAllRecords<token_v1::ListRevocationsResponse>(client, "ListRevocations"));
  if (context.json()) return PrintJson(context, all);
  Table table({"KIND", "ENTITY", "SINCE", "REINSTATED", "REASON"});
  for (const Revocation& r : all.revocations()) {
    table.Add({Safe(r.kind()), Safe(r.entity()), Safe(r.not_before()), r.reinstated() ? "yes" : "", Safe(r.reason())});
  }
  if (table.size() == 0) {
    context.out << "nothing is revoked\n";
  } else {
    table.Print(context.out);
  }
  return absl::OkStatus();
}

absl::Status Revoke(Context& context, const Flags& flags) {
  if (flags.list) return List(context);
  if (flags.kind.empty() || flags.entity.empty()) return UsageError("expects KIND and ENTITY, or --list");
  token_v1::RevokeRequest request;
  request.set_kind(flags.kind);
  request.set_entity(flags.entity);
  request.set_reason(flags.reason);
  return CallAndShow<Revocation>(context, flags.reinstate ? "Reinstate" : "Revoke", request);
}

}  // namespace

void AddRevokeCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App& verb =
      AddVerb(app, context, "revoke", "cut off a token, chain, task, grant, instance, node, identity, user, issuer, key or tool",
              "signet revoke task task-4521 --reason 'wrong order'", Target::kServer);
  verb.add_option("kind", flags->kind, "what the entity is")
      ->check(CLI::IsMember({"token", "chain", "task", "grant", "family", "instance", "node", "identity", "user", "issuer",
                             "signing-key", "tool"}));
  verb.add_option("entity", flags->entity, "its id; of a user \"ISSUER SUBJECT\", of a tool \"RESOURCE TOOL\"");
  verb.add_option("--reason", flags->reason, "for the audit");
  verb.add_flag("--reinstate", flags->reinstate, "let it have tokens again; those that died stay dead");
  verb.add_flag("--list", flags->list, "what is revoked");
  verb.callback([&context, flags] { context.action = [&context, flags] { return Revoke(context, *flags); }; });
}

}  // namespace signet::cli
