// `signet dev`: a whole throw-away system in the foreground.
#include "tools/cli/command.h"

namespace signet::cli {

void AddDevCommand(CLI::App& app, Context& context) {
  CLI::App& verb = AddVerb(app, context, "dev", "run a throw-away server and agent in the foreground",
                           "signet dev --dir /tmp/signet-dev", Target::kNothing);
  verb.callback([&context] { context.action = [] { return absl::UnimplementedError("not yet"); }; });
}

}  // namespace signet::cli
