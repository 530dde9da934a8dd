#include <unistd.h>

#include <iostream>

#include "common/log/log.h"
#include "common/rpc/tls_setup.h"
#include "common/time/clock.h"
#include "tools/cli/command.h"

int main(int argc, char** argv) {
  signet::log::Init("signet", signet::log::Level::kError, signet::log::Format::kText);  // errors are told, not logged
  signet::rpc::PrepareProcess();
  signet::SystemClock clock;
  signet::cli::Context context{std::cin, std::cout, std::cerr, isatty(STDERR_FILENO) == 1, clock};
  return signet::cli::Run({argv + 1, argv + argc}, context);
}
