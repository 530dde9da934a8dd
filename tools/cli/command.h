// What every verb of `signet` shares: its flags, where it prints, how it ends.
// A noun's file registers its verbs (AddXCommands); a verb's callback only stores an action, which Run executes after
// parsing. One thread, save for gRPC's own.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include <google/protobuf/message.h>
#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/time/clock.h"

namespace signet::cli {

// Whom a verb talks to; decides its --socket, --server and --identity-dir flags.
enum class Target { kNothing, kServer, kWorkloadApi };

struct Context {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool show_progress = false;  // standard error is a terminal
  Clock& clock;

  // Flags of the verb that runs.
  std::string output = "text";
  std::string socket;        // empty: the target's default
  std::string server;        // HOST:PORT, instead of the socket
  std::string identity_dir;  // with `server`
  std::function<absl::Status()> action;

  bool json() const { return output == "json"; }
};

// A verb below `parent`, with the common flags and an example at the end of its --help.
CLI::App& AddVerb(CLI::App& parent, Context& context, const std::string& name, const std::string& description,
                  const std::string& example, Target target);

// A flag that is repeated, one value each time: "--selector a:b --selector c:d".
inline CLI::Option* AddList(CLI::App& verb, const std::string& name, std::vector<std::string>& values,
                            const std::string& description) {
  return verb.add_option(name, values, description)->allow_extra_args(false);
}

void AddAgentCommands(CLI::App& app, Context& context);
void AddAuditCommands(CLI::App& app, Context& context);  // audit, alert
void AddAuthorityCommands(CLI::App& app, Context& context);
void AddBundleCommands(CLI::App& app, Context& context);
void AddChainCommands(CLI::App& app, Context& context);
void AddDevCommand(CLI::App& app, Context& context);
void AddEntryCommands(CLI::App& app, Context& context);
void AddExplainExchangeCommand(CLI::App& app, Context& context);
void AddFederationCommands(CLI::App& app, Context& context);
void AddGrantCommands(CLI::App& app, Context& context);
void AddIdentityCommands(CLI::App& app, Context& context);
void AddIssuerCommands(CLI::App& app, Context& context);
void AddLogLevelCommand(CLI::App& app, Context& context);
void AddResourceCommands(CLI::App& app, Context& context);  // resource, tool
void AddRevokeCommand(CLI::App& app, Context& context);
void AddStatusCommands(CLI::App& app, Context& context);
void AddSvidCommands(CLI::App& app, Context& context);
void AddTaskCommands(CLI::App& app, Context& context);
void AddTokenCommands(CLI::App& app, Context& context);
void AddToolCommands(CLI::App& app, Context& context);  // completion, validate, version

// Wrong usage: exit code 2 instead of 1.
absl::Status UsageError(absl::string_view message);
// Appends what the user can do next; shown on a line of its own.
absl::Status WithNextStep(const absl::Status& status, absl::string_view next_step);

// The protobuf JSON mapping, with the field names of the .proto and defaults written out: what a script can trust.
absl::Status PrintJson(Context& context, const google::protobuf::Message& message, bool on_one_line = false);

// The whole program. `arguments` without the program's name. Returns the exit code: 0 done, 1 failed, 2 wrong usage.
int Run(std::vector<std::string> arguments, Context& context);

}  // namespace signet::cli
