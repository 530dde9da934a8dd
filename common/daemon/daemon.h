// What both daemons do around their work: signals, systemd, and the file that tells where they listen.
// BlockSignals comes before the first thread; the rest is thread-safe.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::daemon {

// Core dumps off and no debugger but root's: a core holds keys.
void ProtectMemory();

// SIGTERM, SIGINT and SIGHUP are from here on taken by WaitForEvent alone; SIGPIPE is ignored.
void BlockSignals();
enum class Event { kStop, kReload, kTimeout };
// Waits at most `timeout`. Pets systemd's watchdog meanwhile, when there is one.
Event WaitForEvent(absl::Duration timeout = absl::InfiniteDuration());

// sd_notify(3): "READY=1", "STOPPING=1", "STATUS=...". Nothing without NOTIFY_SOCKET.
void Notify(absl::string_view state);

// <data_dir>/addresses.json: {"grpc": "127.0.0.1:8081", ...}, the addresses really bound.
absl::Status WriteAddresses(const std::string& data_dir,
                            const std::vector<std::pair<std::string, std::string>>& addresses);

}  // namespace signet::daemon
