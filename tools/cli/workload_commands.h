// The Workload API's verbs below `signet svid`: fetch, fetch-jwt, validate, watch.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/cli/command.h"

namespace signet::cli {

void AddWorkloadCommands(CLI::App& svid, Context& context);
void AddMtlsCommands(CLI::App& svid, Context& context);  // serve, call

// What `signet doctor` wants to know: an error when nobody listens, else the refusal or the SVIDs with their ends.
struct WorkloadProbe {
  absl::Status refusal;
  std::vector<std::pair<std::string, absl::Time>> svids;
};
// `socket` empty: as the verbs find it.
absl::StatusOr<WorkloadProbe> ProbeWorkloadApi(const std::string& socket);

}  // namespace signet::cli
