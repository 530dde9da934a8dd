// `signet token generate`: a join token for one agent.
#include <memory>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "common/config/load.h"
#include "common/spiffe/id.h"
#include "common/spiffe/wire.h"
#include "common/status/macros.h"
#include "spire/api/server/agent/v1/agent.grpc.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

using ::spire::api::server::agent::v1::Agent;
using ::spire::api::server::agent::v1::CreateJoinTokenRequest;

struct Flags {
  std::string spiffe_id, ttl = "10m", token;
};

absl::Status Generate(Context& context, const Flags& flags) {
  CreateJoinTokenRequest request;
  config::Errors errors;
  const absl::Duration ttl = config::ParseDuration("--ttl", flags.ttl, absl::Minutes(10), errors);
  if (!errors.empty()) return UsageError(errors.ToStatus().message());
  if (ttl < absl::Seconds(1) || ttl > absl::Hours(24 * 365)) return UsageError("--ttl: between 1s and 8760h");
  request.set_ttl(static_cast<int32_t>(absl::ToInt64Seconds(ttl)));
  request.set_token(flags.token);
  if (!flags.spiffe_id.empty()) {
    const absl::StatusOr<spiffe::Id> id = spiffe::Id::Parse(flags.spiffe_id);
    if (!id.ok()) return UsageError(absl::StrCat("--spiffe-id: ", id.status().message()));
    spiffe::ToWire(*id, request.mutable_agent_id());
  }
  SIGNET_ASSIGN_OR_RETURN(const auto channel, ServerChannel(context));
  const auto stub = Agent::NewStub(channel);
  ::spire::api::types::JoinToken token;
  SIGNET_RETURN_IF_ERROR(Call(*stub, &Agent::Stub::CreateJoinToken, request, token));
  if (context.json()) return PrintJson(context, token);
  context.out << Safe(token.value()) << "\n";
  context.err << "for one agent, until " << TimeText(absl::FromUnixSeconds(token.expires_at()), context.clock.Now())
              << "; put it into the file that node_attestor.join_token.token_file names\n";
  return absl::OkStatus();
}

}  // namespace

void AddTokenCommands(CLI::App& app, Context& context) {
  CLI::App& noun = *app.add_subcommand("token", "join tokens: how a new node proves itself, once");
  noun.require_subcommand(1);
  auto flags = std::make_shared<Flags>();
  CLI::App& generate =
      AddVerb(noun, context, "generate", "make a join token for one agent",
              "signet token generate --ttl 10m --spiffe-id spiffe://example.org/node/web-1", Target::kServer);
  generate.add_option("--ttl", flags->ttl, "how long it may be spent (10m)");
  generate.add_option("--spiffe-id,--alias", flags->spiffe_id,
                      "also give the agent this ID as an alias, for parent IDs");
  generate.add_option("--token", flags->token, "the token itself; made by the server when left out");
  generate.callback([&context, flags] { context.action = [&context, flags] { return Generate(context, *flags); }; });
}

}  // namespace signet::cli
