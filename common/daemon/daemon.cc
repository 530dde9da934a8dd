#include "common/daemon/daemon.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <boost/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/fs/atomic_file.h"

namespace signet::daemon {
namespace {

sigset_t Signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

// Half of what systemd allows (sd_watchdog_enabled(3)); infinite when it does not watch this process.
absl::Duration WatchdogInterval() {
  const char* usec = std::getenv("WATCHDOG_USEC");
  const char* pid = std::getenv("WATCHDOG_PID");
  int64_t value = 0, whose = 0;
  if (usec == nullptr || !absl::SimpleAtoi(usec, &value) || value <= 0) return absl::InfiniteDuration();
  if (pid != nullptr && (!absl::SimpleAtoi(pid, &whose) || whose != getpid())) return absl::InfiniteDuration();
  return absl::Microseconds(value) / 2;
}

}  // namespace

void ProtectMemory() {
  prctl(PR_SET_DUMPABLE, 0);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

void BlockSignals() {
  const sigset_t set = Signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

Event WaitForEvent(absl::Duration timeout) {
  static const absl::Duration watchdog = WatchdogInterval();
  const absl::Time end = absl::Now() + timeout;
  const sigset_t set = Signals();
  for (;;) {
    const absl::Duration left = std::min(end - absl::Now(), watchdog);
    const timespec wait = absl::ToTimespec(std::clamp(left, absl::ZeroDuration(), absl::Hours(1)));
    const int signal = sigtimedwait(&set, nullptr, &wait);
    if (signal == SIGHUP) return Event::kReload;
    if (signal > 0) return Event::kStop;
    if (watchdog != absl::InfiniteDuration()) Notify("WATCHDOG=1");
    if (absl::Now() >= end) return Event::kTimeout;
  }
}

void Notify(absl::string_view state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || (path[0] != '/' && path[0] != '@') || std::strlen(path) >= sizeof(address.sun_path)) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, std::strlen(path));
  if (path[0] == '@') address.sun_path[0] = '\0';  // the abstract namespace
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  (void)!sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), size);
  close(fd);
}

absl::Status WriteAddresses(const std::string& data_dir,
                            const std::vector<std::pair<std::string, std::string>>& addresses) {
  boost::json::object object;
  for (const auto& [name, address] : addresses) object[name] = address;
  return fs::WriteFileAtomically(absl::StrCat(data_dir, "/addresses.json"),
                                 absl::StrCat(boost::json::serialize(object), "\n"));
}

}  // namespace signet::daemon
