// `signet completion`, `signet validate`, `signet version`.
#include <unistd.h>

#include <memory>
#include <ostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/config/load.h"
#include "common/fs/atomic_file.h"
#include "common/status/macros.h"
#include "common/version/version.h"
#include "config/agent.pb.h"
#include "config/server.pb.h"
#include "tools/cli/child.h"
#include "tools/cli/command.h"

namespace signet::cli {
namespace {

absl::Status PrintVersion(Context& context) {
  if (context.json()) {
    context.out << "{\"version\":\"" << Version() << "\"}\n";
  } else {
    context.out << "signet " << Version() << "\n";
  }
  return absl::OkStatus();
}

// Whose configuration a file is: the keys tell, and where they are those of both, its name. Empty: neither does.
std::string KindOf(const std::string& file, const std::string& text) {
  config::Server server;
  config::Agent agent;
  const absl::Status as_server = config::LoadYaml(text, file, server);
  const absl::Status as_agent = config::LoadYaml(text, file, agent);
  if (as_server.ok() != as_agent.ok()) return as_server.ok() ? "server" : "agent";
  const size_t server_errors = as_server.message().size(), agent_errors = as_agent.message().size();
  if (server_errors != agent_errors) return server_errors < agent_errors ? "server" : "agent";
  const std::string name = file.substr(file.rfind('/') + 1);
  const bool names_server = absl::StrContains(name, "server"), names_agent = absl::StrContains(name, "agent");
  if (names_server != names_agent) return names_server ? "server" : "agent";
  return "";
}

// A configuration is checked by the daemon it is for, in its own words.
absl::Status Validate(Context& context, const std::string& file, std::string kind) {
  SIGNET_ASSIGN_OR_RETURN(const std::string text, fs::ReadFile(file, 1 << 20));
  if (kind.empty()) kind = KindOf(file, text);
  if (kind.empty()) {
    return UsageError(absl::StrCat(file, ": cannot tell whether this is a server's or an agent's; say it by --kind"));
  }
  SIGNET_ASSIGN_OR_RETURN(const std::string program, Sibling(absl::StrCat("signet-", kind)));
  SIGNET_ASSIGN_OR_RETURN(const int code, RunToEnd({program, "validate", "--config", file}, context.json()));
  if (code == 0) {
    if (context.json()) context.out << "{\"valid\":true}\n";
    return absl::OkStatus();
  }
  return UsageError(absl::StrCat(file, " is no valid configuration of signet-", kind));
}

// Words that may follow each command: a line of the script for each noun.
void AppendWords(const CLI::App& app, const std::string& path, std::string& out) {
  std::vector<std::string> words;
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; }))
    words.push_back(child->get_name());
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back(absl::StrCat("--", name));
  }
  absl::StrAppend(&out, "    \"", path, "\") words=\"", absl::StrJoin(words, " "), "\" ;;\n");
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    AppendWords(*child, path.empty() ? child->get_name() : absl::StrCat(path, " ", child->get_name()), out);
  }
}

absl::Status Completion(Context& context, const CLI::App& app, const std::string& shell) {
  std::string cases;
  AppendWords(app, "", cases);
  if (shell == "zsh") context.out << "autoload -U +X bashcompinit && bashcompinit\n";
  context.out << R"(_signet() {
  local path="" words="" word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    case "$word" in -*) break ;; esac
    path="${path:+$path }$word"
  done
  case "$path" in
)" << cases << R"(  esac
  case "${COMP_WORDS[COMP_CWORD-1]}" in
    --output) words="text json" ;;
    --format) words="pem spiffe jwks" ;;
    --match) words="exact subset superset any" ;;
    --file|--write|--identity-dir|--socket|--dir) COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")); return ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _signet signet
)";
  return absl::OkStatus();
}

}  // namespace

void AddToolCommands(CLI::App& app, Context& context) {
  auto text = std::make_shared<std::string>();
  auto kind = std::make_shared<std::string>();

  CLI::App& validate =
      AddVerb(app, context, "validate", "check a configuration file: every mistake at once, with line and advice",
              "signet validate /etc/signet/server.yaml", Target::kNothing);
  validate.add_option("file,--file", *text, "the configuration of signet-server or signet-agent")->required();
  validate.add_option("--kind", *kind, "server or agent; told from the keys when left out")
      ->check(CLI::IsMember({"server", "agent"}));
  validate.callback(
      [&context, text, kind] { context.action = [&context, text, kind] { return Validate(context, *text, *kind); }; });

  CLI::App& completion = AddVerb(app, context, "completion", "a script for the shell's completion",
                                 "source <(signet completion bash)", Target::kNothing);
  completion.add_option("shell", *text, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  completion.callback(
      [&context, &app, text] { context.action = [&context, &app, text] { return Completion(context, app, *text); }; });

  CLI::App& version =
      AddVerb(app, context, "version", "the version of this program", "signet version", Target::kNothing);
  version.callback([&context] { context.action = [&context] { return PrintVersion(context); }; });
}

}  // namespace signet::cli
