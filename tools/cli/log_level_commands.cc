// `signet log-level`: show or change the level of a running daemon.
#include <memory>
#include <ostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "spire/api/agent/logger/v1/logger.grpc.pb.h"
#include "spire/api/server/logger/v1/logger.grpc.pb.h"
#include "tools/cli/command.h"
#include "tools/cli/connect.h"
#include "tools/cli/text.h"

namespace signet::cli {
namespace {

namespace wire = ::spire::api::types;

std::string Name(wire::LogLevel level) { return absl::AsciiStrToLower(wire::LogLevel_Name(level)); }

// The server's and the agent's Logger differ in nothing but their package.
template <typename Service, typename Get, typename Set, typename Reset>
absl::Status Run(Context& context, const std::shared_ptr<grpc::Channel>& channel, const std::string& level) {
  const auto stub = Service::NewStub(channel);
  wire::Logger logger;
  if (level.empty()) {
    SIGNET_RETURN_IF_ERROR(Call(*stub, &Service::Stub::GetLogger, Get(), logger));
  } else if (level == "reset") {
    SIGNET_RETURN_IF_ERROR(Call(*stub, &Service::Stub::ResetLogLevel, Reset(), logger));
  } else {
    Set request;
    wire::LogLevel parsed = wire::UNSPECIFIED;
    wire::LogLevel_Parse(absl::AsciiStrToUpper(level), &parsed);  // the flag's check admits only known names
    request.set_new_level(parsed);
    SIGNET_RETURN_IF_ERROR(Call(*stub, &Service::Stub::SetLogLevel, request, logger));
  }
  if (context.json()) return PrintJson(context, logger);
  context.out << Name(logger.current_level()) << " (started with " << Name(logger.launch_level()) << ")\n";
  return absl::OkStatus();
}

absl::Status LogLevel(Context& context, const std::string& level, bool of_agent) {
  if (of_agent) {
    namespace api = ::spire::api::agent::logger::v1;
    SIGNET_ASSIGN_OR_RETURN(const auto channel,
                            SocketChannel(context.socket.empty() ? kAgentSocket : context.socket, "signet-agent"));
    return Run<api::Logger, api::GetLoggerRequest, api::SetLogLevelRequest, api::ResetLogLevelRequest>(context, channel,
                                                                                                       level);
  }
  namespace api = ::spire::api::server::logger::v1;
  SIGNET_ASSIGN_OR_RETURN(const auto channel, ServerChannel(context));
  return Run<api::Logger, api::GetLoggerRequest, api::SetLogLevelRequest, api::ResetLogLevelRequest>(context, channel,
                                                                                                     level);
}

}  // namespace

void AddLogLevelCommand(CLI::App& app, Context& context) {
  auto level = std::make_shared<std::string>();
  auto agent = std::make_shared<bool>(false);
  CLI::App& verb = AddVerb(app, context, "log-level", "show or change how much a running daemon logs",
                           "signet log-level debug", Target::kServer);
  verb.add_option("level", *level, "trace, debug, info, warn, error; or reset to the configured one; left out: show it")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "reset"}));
  verb.add_flag("--agent", *agent, "of the agent (its admin socket is /run/signet/agent/admin.sock)");
  verb.callback([&context, level, agent] {
    context.action = [&context, level, agent] { return LogLevel(context, *level, *agent); };
  });
}

}  // namespace signet::cli
