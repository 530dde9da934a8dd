// Runs `signet` within the test: arguments and standard input in, exit code and both outputs out.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "tests/fakes/fake_clock.h"
#include "tools/cli/command.h"

namespace signet::cli {

struct Result {
  int code = -1;
  std::string out, err;
};

inline Result RunCli(std::vector<std::string> arguments, const std::string& input = "", bool terminal = false) {
  std::istringstream in(input);
  std::ostringstream out, err;
  SystemClock clock;
  Context context{in, out, err, terminal, clock};
  Result result;
  result.code = Run(std::move(arguments), context);
  result.out = out.str();
  result.err = err.str();
  return result;
}

}  // namespace signet::cli
