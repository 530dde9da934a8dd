// Programs started by this one: the daemons that lie beside it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace signet::cli {

// The path of `name` in the folder of this program. kNotFound says what to do.
absl::StatusOr<std::string> Sibling(const std::string& name);

// Runs a program with this one's standard streams, its output optionally to standard error, and returns its exit code
// (128 + signal when killed).
absl::StatusOr<int> RunToEnd(const std::vector<std::string>& command, bool output_to_stderr = false);

// A program of its own process group, so that Ctrl-C reaches this one alone; killed with this one should it die.
// Not thread-safe. The destructor stops it.
class Child {
 public:
  // Standard output and error go to the file `log`.
  static absl::StatusOr<Child> Start(const std::vector<std::string>& command, const std::string& log);
  Child(Child&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
  Child& operator=(Child&&) = delete;
  ~Child() { Stop(absl::Seconds(10)); }

  pid_t pid() const { return pid_; }
  bool Running();  // false once it has ended; reaps it
  // SIGTERM, then SIGKILL after `patience`.
  void Stop(absl::Duration patience);

 private:
  explicit Child(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

}  // namespace signet::cli
