// `signet audit` and `signet alert`: what was decided, proof that nothing is missing, and what looks wrong.
#include "absl/strings/str_join.h"
#include "common/fs/atomic_file.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {


struct Flags {
  std::string server_id, txn, head, output_file;
  uint64_t after = 0;
  int limit = 100;
};

absl::Status List(Context& context, const Flags& flags) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  token_v1::ListAuditRequest request;
  request.set_server_id(flags.server_id);
  request.set_txn(flags.txn);
  request.set_after_seq(flags.after);
  request.set_limit(flags.limit);
  token_v1::ListAuditResponse response;
  SIGNET_RETURN_IF_ERROR(client.Call("ListAudit", request, response));
  if (context.json()) return PrintJson(context, response);
  for (const std::string& record : response.records()) context.out << Safe(record) << "\n";
  return absl::OkStatus();
}

absl::Status Head(Context& context, const Flags& flags) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  token_v1::ListAuditRequest request;
  request.set_limit(1);
  token_v1::ListAuditResponse response;
  SIGNET_RETURN_IF_ERROR(client.Call("ListAudit", request, response));
  if (!flags.output_file.empty()) return fs::WriteFileAtomically(flags.output_file, response.head() + "\n");
  context.out << Safe(response.head()) << "\n";
  return absl::OkStatus();
}

absl::Status Verify(Context& context, const Flags& flags) {
  token_v1::VerifyAuditRequest request;
  request.set_server_id(flags.server_id);
  if (!flags.head.empty()) {
    SIGNET_ASSIGN_OR_RETURN(std::string head, fs::ReadFile(flags.head, 64 * 1024));
    while (!head.empty() && head.back() == '\n') head.pop_back();
    request.set_head(head);
  }
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  token_v1::VerifyAuditResponse response;
  SIGNET_RETURN_IF_ERROR(client.Call("VerifyAudit", request, response));
  if (context.json()) {
    SIGNET_RETURN_IF_ERROR(PrintJson(context, response));
  } else {
    context.out << CountText(response.records(), "record", "records") << ": "
                << (response.proven() ? "the chain holds" : "BROKEN") << ", "
                << (response.tail_proven() ? "tail proven" : "tail unproven") << "\n";
  }
  if (response.proven()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("audit: ", response.problem()));
}

absl::Status Alerts(Context& context) {
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  SIGNET_ASSIGN_OR_RETURN(const auto all, ListAllRecords<token_v1::ListAlertsResponse>(client, "ListAlerts"));
  if (context.json()) return PrintJson(context, all);
  Table table({"AT", "KIND", "IDENTITY", "DETAIL"});
  for (const token_v1::Alert& a : all.alerts()) table.Add({Safe(a.at()), Safe(a.kind()), Safe(a.identity()), Safe(a.detail())});
  if (table.size() == 0) {
    context.out << "no alerts\n";
  } else {
    table.Print(context.out);
  }
  return absl::OkStatus();
}

}  // namespace

void AddAuditCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("audit", "every decision of the token service, refusals too");
  noun.require_subcommand(1);
  auto flags = std::make_shared<Flags>();
  CLI::App& list = AddVerb(noun, context, "list", "records, oldest first, one JSON object a line",
                           "signet audit list --txn 01J...", Target::kServer);
  list.add_option("--txn", flags->txn, "only those of this chain");
  list.add_option("--after", flags->after, "begin behind this position (0)");
  list.add_option("--limit", flags->limit, "at most so many (100)");
  list.add_option("--server-id", flags->server_id, "of another server on the same database");
  list.callback([&context, flags] { context.action = [&context, flags] { return List(context, *flags); }; });
  CLI::App& head = AddVerb(noun, context, "head", "the signed head of the chain: keep it outside, it proves the tail",
                           "signet audit head --write head.jws", Target::kServer);
  head.add_option("--write", flags->output_file, "into this file");
  head.callback([&context, flags] { context.action = [&context, flags] { return Head(context, *flags); }; });
  CLI::App& verify = AddVerb(noun, context, "verify", "read the whole chain and name the first bad record",
                             "signet audit verify --head head.jws", Target::kServer);
  verify.add_option("--head", flags->head, "file with a head kept outside; without it the tail is unproven");
  verify.add_option("--server-id", flags->server_id, "of another server on the same database");
  verify.callback([&context, flags] { context.action = [&context, flags] { return Verify(context, *flags); }; });

  CLI::App& alert = *app.add_subcommand("alert", "what agents do that they did not do before");
  alert.require_subcommand(1);
  CLI::App& alerts = AddVerb(alert, context, "list", "the latest alerts", "signet alert list", Target::kServer);
  alerts.callback([&context] { context.action = [&context] { return Alerts(context); }; });
}

}  // namespace signet::cli
