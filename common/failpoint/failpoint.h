// Marks of the steps at which a process may die or a call may fail: before and after each write, fsync, rename, commit,
// reply and sign. Nothing in a release build. In a test build (-DSIGNET_FAILPOINTS) the environment variable
// SIGNET_FAILPOINT=<name>=<action>[,<name>=<action>...] arms them: `kill` (SIGKILL self), `fail` (the step returns an
// error), `kill@N` / `fail@N` only at the N-th passage, counted from 1.
//   SIGNET_FAILPOINT("atomic_file.before_rename");             // may kill
//   SIGNET_FAILPOINT_STATUS("sqlite.before_commit");           // may kill, or return kInternal from this function
#pragma once

#ifdef SIGNET_FAILPOINTS
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace signet::failpoint {
absl::Status Pass(absl::string_view name);  // thread-safe; kills the process itself when armed so
// Replaces what the environment armed, for tests within one process (a child after fork, too). Empty disarms all.
void Arm(absl::string_view rules);
}  // namespace signet::failpoint
#define SIGNET_FAILPOINT(name) (void)::signet::failpoint::Pass(name)
#define SIGNET_FAILPOINT_STATUS(name)                                                             \
  do {                                                                                            \
    if (::absl::Status s_ = ::signet::failpoint::Pass(name); !s_.ok()) return s_;                 \
  } while (false)
#else
#define SIGNET_FAILPOINT(name) (void)0
#define SIGNET_FAILPOINT_STATUS(name) (void)0
#endif
