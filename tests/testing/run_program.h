// Runs a program of the system as a judge from outside, such as openssl, and gives what it printed.
#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/string_view.h"

namespace signet::testing {

struct ProgramResult {
  int exit_code = -1;
  std::string output;  // stdout and stderr
};

inline ProgramResult RunProgram(const std::string& command) {
  ProgramResult result;
  std::FILE* pipe = popen(("( " + command + " ) 2>&1").c_str(), "r");
  if (pipe == nullptr) return result;
  char buffer[4096];
  for (size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) result.output.append(buffer, n);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  return result;
}

inline void WriteTestFile(const std::string& path, absl::string_view content) {
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
}

}  // namespace signet::testing
