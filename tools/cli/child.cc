#include "tools/cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status/macros.h"

namespace signet::cli {
namespace {

std::vector<char*> Argv(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  return argv;
}

int ExitCode(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

absl::Status StartError(const std::string& program) {
  return absl::InternalError(absl::StrCat("start ", program, ": ", strerror(errno)));
}

}  // namespace

absl::StatusOr<std::string> Sibling(const std::string& name) {
  char self[PATH_MAX];
  const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0) return absl::InternalError(absl::StrCat("/proc/self/exe: ", strerror(errno)));
  const std::string own(self, static_cast<size_t>(n));
  std::string path = absl::StrCat(own.substr(0, own.rfind('/')), "/", name);
  if (access(path.c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat(path, " is not there: build it, or install its package"));
  }
  return path;
}

absl::StatusOr<int> RunToEnd(const std::vector<std::string>& command, bool output_to_stderr) {
  std::vector<char*> argv = Argv(command);
  const pid_t pid = fork();
  if (pid < 0) return StartError(command[0]);
  if (pid == 0) {
    if (!output_to_stderr || dup2(STDERR_FILENO, STDOUT_FILENO) >= 0) execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return absl::InternalError(absl::StrCat("wait for ", command[0], ": ", strerror(errno)));
  }
  return ExitCode(status);
}

absl::StatusOr<Child> Child::Start(const std::vector<std::string>& command, const std::string& log) {
  const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return absl::InternalError(absl::StrCat("open ", log, ": ", strerror(errno)));
  std::vector<char*> argv = Argv(command);
  // The caller's SIGNET_... variables are meant for this program, and would overrule the daemon's configuration.
  std::vector<char*> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (strncmp(*variable, "SIGNET_", 7) != 0) environment.push_back(*variable);
  }
  environment.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    const bool still_there = getppid() == parent;
    environ = environment.data();
    if (still_there && dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0) execv(argv[0], argv.data());
    _exit(127);
  }
  close(fd);
  if (pid < 0) return StartError(command[0]);
  return Child(pid);
}

bool Child::Running() {
  if (pid_ < 0) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

void Child::Stop(absl::Duration patience) {
  if (!Running()) return;
  kill(pid_, SIGTERM);
  const absl::Time end = absl::Now() + patience;
  while (Running()) {
    if (absl::Now() > end) kill(pid_, SIGKILL);
    absl::SleepFor(absl::Milliseconds(10));
  }
}

}  // namespace signet::cli
