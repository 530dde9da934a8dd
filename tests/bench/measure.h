// What a benchmark reads: time, the CPU and memory of another process, percentiles; and how a row is printed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace signet::bench {

double CpuSeconds(pid_t pid);  // user and system, of all its threads, since it started
double RssMegabytes(pid_t pid);

// Durations of single operations.
class Samples {
 public:
  void Add(absl::Duration d) { seconds_.push_back(absl::ToDoubleSeconds(d)); }
  void Append(const Samples& other) { seconds_.insert(seconds_.end(), other.seconds_.begin(), other.seconds_.end()); }
  size_t size() const { return seconds_.size(); }
  absl::Duration Percentile(double p) const;
  absl::Duration Max() const { return Percentile(1.0); }

 private:
  std::vector<double> seconds_;
};

// One line: row id of the performance budget, what was measured, the figure, the budget.
void PrintRow(absl::string_view row, absl::string_view what, absl::string_view figure, absl::string_view budget);
std::string Micros(absl::Duration d);  // "123 us" or "4.5 ms"

// Runs `operation(caller)` again and again on `callers` threads for `length`; all samples together.
struct Load {
  Samples samples;
  double operations_per_second = 0;
  double cpu_seconds_per_operation = 0;  // of process `pid`
};
Load Run(int callers, absl::Duration length, pid_t pid, const std::function<void(int caller)>& operation);

}  // namespace signet::bench
