// `signet explain-exchange`: a dry run of a token request: what would be granted, and which operand removed what.
#include "absl/strings/str_join.h"
#include "common/fs/atomic_file.h"
#include "tools/cli/record_verbs.h"

namespace signet::cli {
namespace {

struct Flags {
  token_v1::ExplainRequest request;
  std::string user, subject_token_file;
  std::vector<std::string> scopes;
};

absl::Status Explain(Context& context, Flags& flags) {
  token_v1::ExplainRequest& request = flags.request;
  if (request.client_id().empty()) return UsageError("--client-id is required: SPIFFE ID of the instance that would ask");
  if (!flags.user.empty()) {
    SIGNET_ASSIGN_OR_RETURN(*request.mutable_user(), ParseUser("--user", flags.user));
  }
  if (!flags.subject_token_file.empty()) {
    SIGNET_ASSIGN_OR_RETURN(std::string token, fs::ReadFile(flags.subject_token_file, 32 * 1024));
    while (!token.empty() && token.back() == '\n') token.pop_back();
    request.set_subject_token(token);
  }
  for (const std::string& scope : flags.scopes) request.add_scopes(scope);
  SIGNET_ASSIGN_OR_RETURN(AdministrationClient client, AdministrationClient::Connect(context));
  token_v1::ExplainResponse response;
  SIGNET_RETURN_IF_ERROR(client.Call("Explain", request, response));
  if (context.json()) return PrintJson(context, response);
  for (const token_v1::ExplainResponse::Step& step : response.steps()) {
    context.out << (step.applies() ? "∩ " : "  ") << Safe(step.operand()) << (step.applies() ? "" : " (does not apply)") << "\n";
    for (const token_v1::Atom& atom : step.removed()) context.out << "    - " << Safe(AtomText(atom)) << "\n";
  }
  if (response.outcome() != "granted") {
    context.out << "refused: " << Safe(response.error());
    if (!response.reason().empty()) context.out << " (" << Safe(response.reason()) << ")";
    context.out << (response.detail().empty() ? "" : ": ") << Safe(response.detail()) << "\n";
    return absl::OkStatus();
  }
  context.out << "granted, depth " << response.depth() << " of " << response.max_depth() << ", until "
              << Safe(response.expires_at()) << " (by " << Safe(response.expiry_bound_by()) << ")\n";
  for (const token_v1::Atom& atom : response.granted()) context.out << "    " << Safe(AtomText(atom)) << "\n";
  return absl::OkStatus();
}

}  // namespace

void AddExplainExchangeCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App& verb = AddVerb(app, context, "explain-exchange", "what a token request would be granted, and why not more",
                           "signet explain-exchange --client-id spiffe://example.org/agent/planner/1 --user "
                           "'https://idp.example.org alice-7f3a' --resource https://mcp.example.org/orders --scope orders:write",
                           Target::kServer);
  const auto text = [&verb, flags](const std::string& name, void (token_v1::ExplainRequest::*set)(const std::string&),
                                   const std::string& what) {
    verb.add_option_function<std::string>(name, [flags, set](const std::string& v) { (flags->request.*set)(v); }, what);
  };
  text("--client-id", &token_v1::ExplainRequest::set_client_id, "SPIFFE ID of the instance that would ask");
  text("--grant-type", &token_v1::ExplainRequest::set_grant_type, "client_credentials, or token exchange by default");
  text("--grant", &token_v1::ExplainRequest::set_grant, "the consent; found by user and identity when left out");
  text("--task", &token_v1::ExplainRequest::set_task, "the task");
  text("--resource", &token_v1::ExplainRequest::set_resource, "the resource's URI");
  text("--authorization-details", &token_v1::ExplainRequest::set_authorization_details, "JSON, as in the request");
  verb.add_option("--user", flags->user, "\"ISSUER SUBJECT\", instead of a subject token");
  verb.add_option("--subject-token-file", flags->subject_token_file, "file with the token that would be exchanged");
  AddList(verb, "--scope", flags->scopes, "scope that would be asked for; repeatable");
  verb.callback([&context, flags] { context.action = [&context, flags] { return Explain(context, *flags); }; });
}

}  // namespace signet::cli
