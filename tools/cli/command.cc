#include "tools/cli/command.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

constexpr char kUsageUrl[] = "signet/usage";
constexpr char kNextStepUrl[] = "signet/next-step";

void PrintError(Context& context, const absl::Status& status) {
  bool first = true;
  for (const absl::string_view line : absl::StrSplit(status.message(), '\n')) {
    context.err << (first ? "signet: " : "        ") << Safe(line) << "\n";
    first = false;
  }
  if (const auto next = status.GetPayload(kNextStepUrl); next.has_value()) {
    context.err << "  next: " << std::string(*next) << "\n";
  }
}

// For errors whose verb knew no better.
absl::string_view NextStepFor(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return "see that the daemon runs and is reached from here; signet doctor looks through every part";
    case absl::StatusCode::kUnauthenticated:
      return "check the address and the clocks, and write the identity and its bundle anew";
    case absl::StatusCode::kPermissionDenied:
      return "the caller's SVID needs an entry with --admin, or its ID among the server's admin_ids; or use the admin "
             "socket";
    case absl::StatusCode::kResourceExhausted:
      return "try again a little later";
    case absl::StatusCode::kUnimplemented:
      return "this daemon cannot do that yet; signet version tells this program's own version";
    case absl::StatusCode::kAlreadyExists:
      return "signet entry list shows what there is; signet entry apply creates or updates";
    case absl::StatusCode::kInternal:
      return "the daemon's log says more";
    default:
      return "";
  }
}

}  // namespace

CLI::App& AddVerb(CLI::App& parent, Context& context, const std::string& name, const std::string& description,
                  const std::string& example, Target target) {
  CLI::App& verb = *parent.add_subcommand(name, description);
  verb.footer("\nExample:\n  " + example);
  // The environment is read where a flag is used: CLI11 would read it for every verb, whichever is given.
  verb.add_option("--output", context.output, "text for people, json for programs")
      ->check(CLI::IsMember({"text", "json"}));
  if (target == Target::kServer) {
    verb.add_option("--socket", context.socket,
                    "the server's admin socket ($SIGNET_SERVER_SOCKET, else /run/signet/server/admin.sock)");
    verb.add_option("--server", context.server, "HOST:PORT of a server, instead of a socket ($SIGNET_SERVER)");
    verb.add_option(
        "--identity-dir", context.identity_dir,
        "folder with the caller's SVID, key and bundle, as svid fetch --write leaves them ($SIGNET_IDENTITY_DIR)");
  } else if (target == Target::kWorkloadApi) {
    verb.add_option("--socket", context.socket,
                    "the Workload API's socket ($SPIFFE_ENDPOINT_SOCKET, else /run/signet/workload/api.sock)");
  }
  return verb;
}

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsageUrl, absl::Cord("1"));
  return status;
}

absl::Status WithNextStep(const absl::Status& status, absl::string_view next_step) {
  absl::Status copy = status;
  if (!copy.ok() && !copy.GetPayload(kNextStepUrl).has_value()) copy.SetPayload(kNextStepUrl, absl::Cord(next_step));
  return copy;
}

absl::Status PrintJson(Context& context, const google::protobuf::Message& message, bool on_one_line) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  options.add_whitespace = !on_one_line;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return absl::InternalError(absl::StrCat("answer has no JSON form: ", status.ToString()));
  context.out << json << (on_one_line ? "\n" : "") << std::flush;
  return absl::OkStatus();
}

int Run(std::vector<std::string> arguments, Context& context) {
  CLI::App app("Workload identity: the operator's tool of Signet.", "signet");
  app.require_subcommand(1);
  app.footer("\nEach command has its own --help with an example. Two terminals to try it all: signet dev");
  AddEntryCommands(app, context);
  AddAgentCommands(app, context);
  AddTokenCommands(app, context);
  AddAuthorityCommands(app, context);
  AddBundleCommands(app, context);
  AddFederationCommands(app, context);
  AddChainCommands(app, context);
  AddSvidCommands(app, context);
  AddIdentityCommands(app, context);
  AddIssuerCommands(app, context);
  AddResourceCommands(app, context);
  AddGrantCommands(app, context);
  AddTaskCommands(app, context);
  AddRevokeCommand(app, context);
  AddExplainExchangeCommand(app, context);
  AddAuditCommands(app, context);
  AddStatusCommands(app, context);
  AddLogLevelCommand(app, context);
  AddDevCommand(app, context);
  AddToolCommands(app, context);
  try {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e, context.out, context.err);  // --help
    PrintError(context,
               WithNextStep(absl::InvalidArgumentError(e.what()), "the same command with --help shows its flags"));
    return 2;
  }
  const absl::Status status = context.action ? context.action() : absl::InternalError("verb without action");
  context.out.flush();
  if (status.ok()) return 0;
  const absl::string_view next_step = NextStepFor(status.code());
  PrintError(context, next_step.empty() ? status : WithNextStep(status, next_step));
  return status.GetPayload(kUsageUrl).has_value() ? 2 : 1;
}

}  // namespace signet::cli
